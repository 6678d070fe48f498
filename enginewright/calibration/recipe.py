"""What INT8 of a model is made by: the scales of calib.cache, and beside them, if there are any, a bias correction and
the nodes of the decoding, which stay in float.

A stage makes the recipe from the files that it declares and hands it on. Which files belong to the scales is said by
the sidecar of calib.cache alone, never by what lies beside it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from onnx import ModelProto

from enginewright import manifest
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.correction import BiasCorrection
from enginewright.errors import CalibrationMismatch, StaleArtifact
from enginewright.graph.index import Graph
from enginewright.layout import Layout

# in the settings of calib.cache's sidecar: the sha256 of what belongs to it
CORRECTED_BY = "bias_correction"
DECODED_BY = "float_decoding"
AGAIN = "run `dvc repro -f calibrate`"


@dataclass(frozen=True)
class QuantizationRecipe:
    """Scales of activations, what to take off the biases of quantized layers, and which nodes stay in float."""

    scales: CalibrationCache
    bias_correction: Optional[BiasCorrection] = None
    float_decoding: tuple[str, ...] = ()  # nodes as `graph.decoding` names them

    def renamed(self, names: Mapping[str, str]) -> QuantizationRecipe:
        """The same for a model some of whose tensors and layers are called otherwise: old name -> new."""
        correction = self.bias_correction
        return replace(
            self,
            scales=self.scales.renamed(names),
            bias_correction=None if correction is None else correction.renamed(names),
            float_decoding=tuple(names.get(node, node) for node in self.float_decoding),
        )

    def excluded(self, model: ModelProto, named: Collection[str]) -> tuple[str, ...]:
        """What stays in float of a model that may have been simplified: some nodes, and those of the decoding that are
        left.
        """
        graph = Graph(model)
        there = {name for node in graph.nodes for name in (node.name, graph.key(node))}
        return tuple(dict.fromkeys((*named, *(node for node in self.float_decoding if node in there))))


def recipe_files(paths: Layout) -> list[Path]:
    """The files that `read_recipe` reads, for the sidecar of what is made by them. Raises StaleArtifact."""
    said = manifest.read(paths.calibration_cache).settings
    return [paths.calibration_cache, *(path for name, (path, _) in _beside(paths).items() if said.get(name))]


def read_recipe(paths: Layout) -> QuantizationRecipe:
    """The recipe of a project, from files that are whole, belong together, and were made from its model.

    Raises:
        StaleArtifact: one is missing, changed, or made from something else; or one lies there that does not belong to
            calib.cache.
        CalibrationMismatch: one does not say which model it was made from, or cannot be read.
    """
    said = manifest.verify(paths.calibration_cache).settings
    for name, (path, what) in _beside(paths).items():
        wanted, there = said.get(name), path.exists()
        if wanted and not there:
            raise _foreign(paths, f"a {what}, which is missing")
        if there and not wanted:
            raise _foreign(paths, f"no {what}, and one lies beside it")
        if wanted and manifest.verify(path).sha256 != wanted:
            raise _foreign(paths, f"another {what} than lies beside it")
    for path in recipe_files(paths):
        if paths.name(paths.model) not in manifest.read(path).inputs:
            raise CalibrationMismatch(f"{path} does not say which model it was made from; {AGAIN}")
    return QuantizationRecipe(
        CalibrationCache.read(paths.calibration_cache),
        BiasCorrection.read(paths.bias_correction) if said.get(CORRECTED_BY) else None,
        tuple(json.loads(paths.float_decoding.read_text())) if said.get(DECODED_BY) else (),
    )


def decoding_bytes(nodes: Collection[str]) -> bytes:
    """float_decoding.json: a list of the nodes of the decoding."""
    return (json.dumps(list(nodes), indent=2, ensure_ascii=False) + "\n").encode()


def _beside(paths: Layout) -> dict[str, tuple[Path, str]]:
    """What may lie beside calib.cache: the setting that says so -> the file, and what it is called."""
    return {
        CORRECTED_BY: (paths.bias_correction, "bias correction"),
        DECODED_BY: (paths.float_decoding, "list of the nodes of the decoding"),
    }


def _foreign(paths: Layout, made_with: str) -> StaleArtifact:
    return StaleArtifact(f"{paths.calibration_cache} was made with {made_with}; {AGAIN}")
