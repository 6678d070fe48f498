"""Layers that a file pins: patterns become layers, and what is in float anyway is not counted."""

from __future__ import annotations

from pathlib import Path

import onnx
import pandas as pd
import pytest
from sensitivity.test_rehearsal import variants_of

from enginewright.calibration.mixture import FloatLayer, Mixture
from enginewright.config import Accuracy, SearchMixed
from enginewright.errors import ModelError
from enginewright.sensitivity.choice import Choice, choose
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.sensitivity.variants import Variants
from support.networks import residual_network

GATE = Rehearsal(Accuracy(minimum_ratio=0.5), images=1000)


@pytest.fixture
def variants(tmp_path: Path) -> Variants:
    onnx.save(residual_network(shape=(1, 28, 28)), tmp_path / "model.onnx")
    found = variants_of(tmp_path / "model.onnx", "classification")
    found.rehearsal = GATE
    return found


def pinned(variants: Variants, *entries: str) -> Choice:
    ranking = pd.DataFrame({"layers": variants.layers, "share_of_traffic": 1 / len(variants.layers)})
    asked = Mixture(tuple(FloatLayer(entry, f"as {entry}") for entry in entries))
    return choose(variants, GATE, asked, ranking, SearchMixed(layers="layers/mine.yaml"))


def test_a_pattern_is_written_as_the_layers_that_it_fits(variants: Variants) -> None:
    choice = pinned(variants, "*")
    assert choice.mixture.names == variants.layers
    assert {layer.reason for layer in choice.mixture.layers or ()} == {"as *"}
    assert (choice.result.float_layers, choice.result.int8_share) == (len(variants.layers), 0.0)
    assert choice.result.pinned


def test_a_layer_that_is_in_float_anyway_is_written_and_not_counted(variants: Variants) -> None:
    first, *others = variants.layers
    variants.layers = tuple(others)  # as where a rule keeps it
    choice = pinned(variants, first, others[0])
    assert choice.mixture.names == (first, others[0])
    assert (choice.result.float_layers, choice.result.layers) == (1, len(others))
    assert list(choice.trials()["float_layers"]) == [1]


def test_an_entry_that_fits_nothing_names_the_file(variants: Variants) -> None:
    with pytest.raises(ModelError, match=r"layers/mine\.yaml: the model has no .* that fits '\*/head/\*'"):
        pinned(variants, "*/head/*")
