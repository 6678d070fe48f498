"""A recipe from files: calib.cache's sidecar says whether a correction belongs, never what lies beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

from enginewright import manifest
from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.correction import BiasCorrection
from enginewright.calibration.recipe import CORRECTED_BY, QuantizationRecipe, read_recipe, recipe_files
from enginewright.errors import CalibrationMismatch, EnginewrightError, StaleArtifact
from enginewright.layout import Layout

SCALES = CalibrationCache(Header.entropy, {"input": 0.5, "conv": 0.25})
CORRECTION = BiasCorrection({"Conv_0": np.array([0.1, -0.2], np.float32)})
OTHER = BiasCorrection({"Conv_0": np.array([0.1, -0.3], np.float32)})


def project(root: Path, correction: Optional[BiasCorrection] = None, of_model: bool = True) -> Layout:
    """A project whose calibrate stage has run."""
    paths = Layout(root)
    paths.model.parent.mkdir(parents=True)
    paths.model.write_bytes(b"model")
    settings: dict[str, Any] = {}
    inputs = [paths.model] if of_model else []
    if correction is not None:
        paths.bias_correction.parent.mkdir(parents=True)
        settings[CORRECTED_BY] = put(paths, correction, inputs)
    SCALES.write(paths.calibration_cache)
    manifest.seal(paths.calibration_cache, "calibrate", inputs, settings=settings, project=paths)
    return paths


def put(paths: Layout, correction: BiasCorrection, inputs: Optional[list[Path]] = None) -> str:
    """A whole correction where it belongs."""
    paths.bias_correction.write_bytes(correction.to_bytes())
    inputs = [paths.model] if inputs is None else inputs
    return manifest.seal(paths.bias_correction, "calibrate", inputs, project=paths).sha256


def test_scales_alone(tmp_path: Path) -> None:
    paths = project(tmp_path)
    assert read_recipe(paths) == QuantizationRecipe(SCALES)
    assert recipe_files(paths) == [paths.calibration_cache]


def test_scales_with_the_correction_that_belongs_to_them(tmp_path: Path) -> None:
    paths = project(tmp_path, CORRECTION)
    assert read_recipe(paths) == QuantizationRecipe(SCALES, CORRECTION)
    assert recipe_files(paths) == [paths.calibration_cache, paths.bias_correction]


def missing(paths: Layout) -> None:
    paths.bias_correction.unlink()


def foreign(paths: Layout) -> None:
    put(paths, OTHER)


def changed(paths: Layout) -> None:
    paths.bias_correction.write_bytes(OTHER.to_bytes())


def unsealed(paths: Layout) -> None:
    manifest.sidecar(paths.bias_correction).unlink()


@pytest.mark.parametrize(
    ("correction", "harm", "says"),
    [
        pytest.param(CORRECTION, missing, "was made with a bias correction, which is missing", id="missing"),
        pytest.param(CORRECTION, foreign, "was made with another bias correction than lies beside it", id="foreign"),
        pytest.param(CORRECTION, changed, "its bytes differ from the sha256", id="changed"),
        pytest.param(CORRECTION, unsealed, "its sidecar bias_correction.json.json is missing", id="half-written"),
        pytest.param(None, foreign, "was made with no bias correction, and one lies beside it", id="one too many"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, correction: Optional[BiasCorrection], harm: Callable[[Layout], None], says: str
) -> None:
    paths = project(tmp_path, correction)
    harm(paths)
    with pytest.raises(StaleArtifact, match=says) as refused:
        read_recipe(paths)
    assert "run `dvc repro" in str(refused.value)


def test_files_of_no_stated_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationMismatch, match=r"calib\.cache does not say which model it was made from; run `dvc"):
        read_recipe(project(tmp_path, of_model=False))


def test_another_model_is_refused(tmp_path: Path) -> None:
    paths = project(tmp_path)
    paths.model.write_bytes(b"another model")
    with pytest.raises(EnginewrightError, match=r"it was made from another artifacts/onnx/model\.onnx"):
        read_recipe(paths)


def test_names_change_in_both() -> None:
    renamed = QuantizationRecipe(SCALES, CORRECTION).renamed({"conv": "conv_1", "Conv_0": "Conv_1"})
    assert renamed.bias_correction is not None
    assert (list(renamed.scales.scales), list(renamed.bias_correction.layers)) == (["input", "conv_1"], ["Conv_1"])
