"""INT8 as ONNX Runtime runs it is what its Q/DQ pairs say, for every attribute of every operator: the small form of
benchmarks/operator_attributes.py.
"""

from __future__ import annotations

import pytest

from enginewright.graph.reasons import COMPANIONS, QUANTIZABLE
from support.operator_cases import MIXED, OPERATORS, cases
from support.operator_truth import truth

pytestmark = pytest.mark.slow

COMBINATIONS = 12  # beside each value alone
GAP_DB = 1.0  # INT8 may lose beyond the rounding that its graph asks for
FLOAT_DB = 45.0  # in float, ONNX Runtime and the reference mean the same


def test_every_operator_that_is_quantized_is_among_them() -> None:
    assert set(OPERATORS) - set(MIXED) == {*QUANTIZABLE, *COMPANIONS}


@pytest.mark.parametrize("operator", OPERATORS)
def test_int8_loses_nothing_but_what_its_pairs_round(operator: str) -> None:
    judged = [(case.label, truth(case.net)) for case in cases(operator, 0 if operator in MIXED else COMBINATIONS)]
    wrong = [
        f"{label}: {placement.name}: {found}"
        for label, both in judged
        for placement, found in both.items()
        if found.gap_db > GAP_DB or found.float_db < FLOAT_DB or found.wrong_graph
    ]
    assert not wrong
    assert len(judged) > 2
