"""Random graphs: what is drawn is sound, and what becomes of it is right."""

from __future__ import annotations

from collections import Counter

import onnx

from enginewright.calibration.reasons import COMPANIONS, QUANTIZABLE
from support.fuzz import sample


def test_equal_seeds_draw_equal_graphs_and_every_graph_is_valid() -> None:
    drawn = [sample(seed).model for seed in range(40)]
    assert [model.SerializeToString() for model in drawn[:10]] == [sample(seed).model.SerializeToString() for seed in range(10)]
    for model in drawn:
        onnx.checker.check_model(model, full_check=True)
    counts = Counter(node.op_type for model in drawn for node in model.graph.node)
    assert [operator for operator in (*QUANTIZABLE, *COMPANIONS) if not counts[operator]] == []
