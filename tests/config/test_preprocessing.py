"""Settings of the preprocessing that do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from enginewright.config import Anchor, ChannelOrder, Interpolation, Preprocessing
from enginewright.config.preprocessing import faults

RGBA: dict[str, Any] = {"channels": ChannelOrder.rgba, "mean": [0.0] * 4, "std": [1.0] * 4}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        pytest.param({"size": [28]}, "data.preprocessing.size: [28] is not [height, width] in pixels", id="size"),
        pytest.param(
            {"mean": [0.5, 0.5, 0.5]},
            "data.preprocessing.mean: [0.5, 0.5, 0.5] has 3 values for 1 channels (gray)",
            id="mean",
        ),
        pytest.param(
            {**RGBA, "std": [1.0] * 3},
            "data.preprocessing.std: [1.0, 1.0, 1.0] has 3 values for 4 channels (rgba)",
            id="std",
        ),
        pytest.param(
            {**RGBA, "recipe": "letterbox", "pad": [114, 114, 114]},
            "data.preprocessing.pad: [114, 114, 114] has 3 values for 4 channels (rgba)",
            id="pad",
        ),
        pytest.param({"pad": []}, "data.preprocessing.pad: [] has 0 values for 1 channels (gray)", id="no pad"),
        pytest.param(
            {"recipe": "letterbox", "resize": 256},
            "data.preprocessing.resize: 256 is for recipe crop alone, and this is letterbox; set it to null",
            id="resize of another recipe",
        ),
        pytest.param(
            {"antialias": False, "interpolation": Interpolation.bicubic},
            "data.preprocessing.interpolation: bicubic is there with antialiasing alone; set"
            " data.preprocessing.antialias to true, or take bilinear",
            id="bicubic",
        ),
    ],
)
def test_what_does_not_go_together_is_named(settings: dict[str, Any], sentence: str) -> None:
    assert ["{}: {}".format(*fault) for fault in faults(Preprocessing(**settings))] == [sentence]


@pytest.mark.parametrize("recipe", ["crop", "letterbox", "stretch", "whole"])
@pytest.mark.parametrize("pad", [[0], [1, 2, 3, 4]], ids=["one for all", "of each"])
def test_four_channels(recipe: str, pad: list[int]) -> None:
    assert not list(faults(Preprocessing(recipe=recipe, pad=pad, **RGBA)))


def test_a_recipe_of_a_package_checks_itself() -> None:
    assert not list(faults(Preprocessing(recipe="theirs", size=[1, 2, 3], mean=[])))


def test_json_and_back() -> None:
    settings = Preprocessing(recipe="letterbox", anchor=Anchor.top_left, antialias=False, pad=[0], **RGBA)
    assert Preprocessing.from_dict(settings.to_dict()) == settings
    assert settings.to_dict()["anchor"] == "top_left"
