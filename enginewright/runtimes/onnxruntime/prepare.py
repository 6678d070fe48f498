"""A float model and its recipe made ready for INT8 on ONNX Runtime: simplified together, so that they still speak
of the same layers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from enginewright.calibration.correction import BiasCorrection
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.graph.bias import CORRECTED, correct_biases
from enginewright.graph.fold import bias_of
from enginewright.graph.index import Graph
from enginewright.graph.reasons import is_quantizable
from enginewright.runtimes.onnxruntime.simplify import simplified


def prepared(model: ModelProto, recipe: QuantizationRecipe) -> tuple[ModelProto, QuantizationRecipe]:
    """`simplified(model)`, and the recipe for it.

    Simplifying multiplies a constant factor behind a layer into its weights, and the layer's bias correction is to be
    taken times it, too: it is what simplifying makes of the correction, as the difference that it makes to the
    biases.

    Where it would give a tensor or a layer another name, as ONNX Runtime's optimizer does to Transposes that it
    moves, the model stays as it is: a scale, or the choice of a layer that stays in float, would not find it. What
    the export stage writes is simplified already.

    Raises:
        CalibrationMismatch: the bias correction is of another model.
    """
    result = simplified(model)
    if not _keeps_names(model, result):
        return model, recipe
    if recipe.bias_correction is None:
        return result, recipe
    layers = recipe.bias_correction.layers
    exact, lowered = (_biases(simplified(correct_biases(model, each)), layers) for each in ({}, layers))
    taken = {name: _by_channel(exact.get(name, np.zeros(1)) - bias) for name, bias in lowered.items()}
    return result, replace(recipe, bias_correction=BiasCorrection(taken))


def _keeps_names(model: ModelProto, result: ModelProto) -> bool:
    known = {name for node in model.graph.node for name in node.output}
    layers = {node.name for node in model.graph.node if is_quantizable(node)}
    return all(name in known for node in result.graph.node for name in node.output) and all(
        node.name in layers for node in result.graph.node if is_quantizable(node)
    )


def _biases(model: ModelProto, layers: Collection[str]) -> dict[str, npt.NDArray[np.float64]]:
    graph = Graph(model)
    named = [node for node in graph.nodes if node.op_type in CORRECTED and node.name in layers]
    found = {node.name: bias_of(graph, node) for node in named}
    return {name: bias for name, bias in found.items() if bias is not None}


def _by_channel(taken: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """[channels], also where a Gemm has a bias for each row, from all of which the same was taken."""
    return (taken if taken.ndim == 1 else taken.mean(axis=0)).astype(np.float32)
