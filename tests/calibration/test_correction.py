"""bias_correction.json: every number comes back, and what is not one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enginewright.calibration.correction import BiasCorrection
from enginewright.errors import CalibrationMismatch

CORRECTION = BiasCorrection(
    {
        "/a/Conv": np.random.default_rng(0).normal(size=100).astype(np.float32),
        "b": np.array([1e-30, 0.1, -3e8], np.float32),
    }
)


def test_every_number_comes_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bias_correction.json"
    path.write_bytes(CORRECTION.to_bytes())
    read = BiasCorrection.read(path)
    assert read == CORRECTION
    assert {name: values.tobytes() for name, values in read.layers.items()} == {
        name: values.tobytes() for name, values in CORRECTION.layers.items()
    }


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({**CORRECTION.layers, "b": np.array([1e-30, 0.1, -2e8], np.float32)}, id="another number"),
        pytest.param({"b": CORRECTION.layers["b"]}, id="a layer less"),
        pytest.param({"/a/Conv": CORRECTION.layers["/a/Conv"], "c": CORRECTION.layers["b"]}, id="another name"),
    ],
)
def test_corrections_that_differ_are_not_equal(other: dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]]) -> None:
    assert BiasCorrection(other) != CORRECTION


def test_a_layer_of_another_name_keeps_its_numbers() -> None:
    renamed = CORRECTION.renamed({"b": "Conv_1"})
    assert list(renamed.layers) == ["/a/Conv", "Conv_1"]
    assert np.array_equal(renamed.layers["Conv_1"], CORRECTION.layers["b"])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param("{", "is not a bias correction", id="cut"),
        pytest.param("[1]", "is not a bias correction", id="a list"),
        pytest.param('{"a": ["x"]}', "is not a bias correction", id="words"),
        pytest.param('{"a": [NaN]}', "no list of finite numbers for 'a'", id="nan"),
        pytest.param('{"a": 1}', "no list of finite numbers for 'a'", id="a number"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "bias_correction.json"
    path.write_text(content)
    with pytest.raises(CalibrationMismatch, match=text) as refused:
        BiasCorrection.read(path)
    assert "run `dvc repro calibrate`" in str(refused.value)


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CalibrationMismatch, match="does not exist; run `dvc repro calibrate`"):
        BiasCorrection.read(tmp_path / "absent.json")
