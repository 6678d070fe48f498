"""Layer profiles side by side: blocks across different fusions, verdicts on INT8, the ten slowest, metrics."""

from __future__ import annotations

import math

import pytest

from enginewright.benchmark import layers
from enginewright.runtimes.base import LayerTime
from enginewright.views.metrics import of_profile

PROFILES = {
    "fp32": [
        LayerTime("conv1 + relu1", 1.0, "FP32", ("conv1", "relu1")),
        LayerTime("add", 0.3, "FP32", ("add",)),
        LayerTime("fc", 0.1, "FP32", ("fc",)),
    ],
    "fp16": [
        LayerTime("conv1", 0.5, "FP16", ("conv1",)),
        LayerTime("relu1 + add", 0.2, "FP16", ("relu1", "add")),
        LayerTime("fc", 0.05, "FP16", ("fc",)),
    ],
    "int8": [
        LayerTime("reformat", 0.05, "", ()),
        LayerTime("conv1 + relu1 + add", 0.3, "INT8", ("conv1", "relu1", "add")),
        LayerTime("fc", 0.06, "FP16", ("fc",)),
    ],
}


def test_layers_that_are_fused_differently_are_compared_as_one_block() -> None:
    table = layers.side_by_side(PROFILES).set_index("block")
    assert list(table.index) == ["conv1", "fc", "reformat"]  # slowest first
    assert [table[f"{precision}_ms"].to_dict()["conv1"] for precision in PROFILES] == pytest.approx([1.3, 0.7, 0.3])
    assert table.loc["conv1", "gain"] == pytest.approx(0.7 / 0.3)  # against the better of the others
    assert table["verdict"].tolist() == ["won", "fell back", "only int8"]
    assert table.loc["fc", "int8_precision"] == "FP16"


@pytest.mark.parametrize(
    ("int8", "precision", "verdict"),
    [
        pytest.param(0.4, "INT8", "won", id="faster"),
        pytest.param(0.5, "INT8", "even", id="the same"),
        pytest.param(0.7, "INT8", "slower", id="slower"),
        pytest.param(0.4, "FP16", "fell back", id="another precision"),
    ],
)
def test_verdicts(int8: float, precision: str, verdict: str) -> None:
    profiles = {"fp16": [LayerTime("c", 0.5, "FP16", ("c",))], "int8": [LayerTime("c", int8, precision, ("c",))]}
    assert layers.side_by_side(profiles)["verdict"].tolist() == [verdict]


def test_a_block_that_int8_lacks_has_no_gain() -> None:
    profiles = {"fp16": [LayerTime("cast", 0.5, "FP16", ())], "int8": [LayerTime("c", 0.1, "INT8", ("c",))]}
    table = layers.side_by_side(profiles).set_index("block")
    assert table.loc["cast", "verdict"] == "not in int8"
    assert math.isnan(table["gain"].to_dict()["cast"])


def test_the_slowest_layers_of_each_engine_in_the_order_of_the_engines() -> None:
    top = layers.top_layers(layers.layer_table(PROFILES), 2)
    assert top[["precision", "rank", "layer"]].to_numpy().tolist() == [
        ["fp32", 1, "conv1 + relu1"],
        ["fp32", 2, "add"],
        ["fp16", 1, "conv1"],
        ["fp16", 2, "relu1 + add"],
        ["int8", 1, "conv1 + relu1 + add"],
        ["int8", 2, "fc"],
    ]
    assert top["share"].iloc[0] == pytest.approx(1.0 / 1.4)


@pytest.mark.parametrize(
    ("names", "width", "shown"),
    [
        pytest.param(
            ["/a/conv/Conv", "/a/Add", "/a/Relu"], 48, "a/conv/Conv + Add + Relu", id="the others by their last part"
        ),
        pytest.param(["/features/block.12/expand/Conv"], 21, "…block.12/expand/Conv", id="cut from the left"),
        pytest.param(["/a/Conv", "b", "c", "d", "e"], 48, "a/Conv + 4 more", id="many"),
    ],
)
def test_names_stay_apart_when_they_are_cut(names: list[str], width: int, shown: str) -> None:
    assert layers.label(names, width) == shown


def test_metrics_share_time_by_precision_and_count_what_became_of_int8() -> None:
    figures = of_profile(layers.summary(PROFILES, layers.side_by_side(PROFILES), batch=8))
    assert figures["batch_size"] == 8
    assert figures["int8"]["time_share"] == pytest.approx(
        {"fp16": 0.06 / 0.41, "int8": 0.3 / 0.41, "other": 0.05 / 0.41}
    )
    assert figures["int8"]["slowest_layer"] == "conv1 + relu1 + add"
    assert figures["int8_blocks"] == {"fell_back": 1, "only_int8": 1, "won": 1}
