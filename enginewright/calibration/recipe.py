"""What INT8 of a model is made by: the scales of calib.cache, and the bias correction if there is one.

A stage makes the recipe from the files that it declares and hands it on. Whether a correction belongs to the scales is
said by the sidecar of calib.cache alone, never by what lies beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from enginewright import manifest
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.correction import BiasCorrection
from enginewright.errors import CalibrationMismatch, StaleArtifact
from enginewright.layout import Layout

CORRECTED_BY = "bias_correction"  # in the settings of calib.cache's sidecar: the sha256 of the correction
AGAIN = "run `dvc repro -f calibrate`"


@dataclass(frozen=True)
class QuantizationRecipe:
    """Scales of activations, and what to take off the biases of quantized layers."""

    scales: CalibrationCache
    bias_correction: Optional[BiasCorrection] = None

    def renamed(self, names: Mapping[str, str]) -> QuantizationRecipe:
        """The same for a model some of whose tensors and layers are called otherwise: old name -> new."""
        correction = self.bias_correction
        return replace(
            self,
            scales=self.scales.renamed(names),
            bias_correction=None if correction is None else correction.renamed(names),
        )


def recipe_files(paths: Layout) -> list[Path]:
    """The files that `read_recipe` reads, for the sidecar of what is made by them. Raises StaleArtifact."""
    corrected = manifest.read(paths.calibration_cache).settings.get(CORRECTED_BY)
    return [paths.calibration_cache, *([paths.bias_correction] if corrected else [])]


def read_recipe(paths: Layout) -> QuantizationRecipe:
    """The recipe of a project, from files that are whole, belong together, and were made from its model.

    Raises:
        StaleArtifact: one is missing, changed, or made from something else; or a correction lies there that does not
            belong to calib.cache.
        CalibrationMismatch: one does not say which model it was made from, or cannot be read.
    """
    wanted = manifest.verify(paths.calibration_cache).settings.get(CORRECTED_BY)
    there = paths.bias_correction.exists()
    if wanted and not there:
        raise _foreign(paths, "a bias correction, which is missing")
    if there and not wanted:
        raise _foreign(paths, "none, and one lies beside it")
    if wanted and manifest.verify(paths.bias_correction).sha256 != wanted:
        raise _foreign(paths, "another bias correction than lies beside it")
    for path in recipe_files(paths):
        if paths.name(paths.model) not in manifest.read(path).inputs:
            raise CalibrationMismatch(f"{path} does not say which model it was made from; {AGAIN}")
    return QuantizationRecipe(
        CalibrationCache.read(paths.calibration_cache),
        BiasCorrection.read(paths.bias_correction) if wanted else None,
    )


def _foreign(paths: Layout, made_with: str) -> StaleArtifact:
    return StaleArtifact(f"{paths.calibration_cache} was made with {made_with}; {AGAIN}")
