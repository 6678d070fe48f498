from __future__ import annotations

import pytest

from enginewright.build import int8_share
from enginewright.runtimes.base import BuiltEngine


@pytest.mark.parametrize(
    ("quantized", "quantizable", "share"),
    [
        pytest.param(49, 49, 1.0, id="all"),
        pytest.param(2, 50, 0.04, id="few"),
        pytest.param(0, 0, 0.0, id="a model without layers"),
    ],
)
def test_the_share_is_of_the_models_layers(quantized: int, quantizable: int, share: float) -> None:
    assert int8_share(BuiltEngine(b"", quantized=quantized, quantizable=quantizable)) == share
