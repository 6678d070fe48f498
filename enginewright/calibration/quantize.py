"""A float model and its recipe to a Q/DQ model: biases corrected, then scales inserted."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from onnx import ModelProto

from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Placement
from enginewright.graph.bias import correct_biases
from enginewright.graph.qdq import insert_into, insert_qdq, require_quantizable
from enginewright.graph.reasons import Case, reasons


class Quantized(NamedTuple):
    """A model with Q/DQ nodes, and what INT8 leaves in float of itself."""

    model: ModelProto
    left_in_float: dict[str, str]  # node -> the reason (`enginewright.graph.reasons`)


def quantize(
    model: ModelProto, recipe: QuantizationRecipe, placement: Placement, exclude: Collection[str] = ()
) -> Quantized:
    """Return a copy of a float model with Q/DQ nodes for a backend's INT8.

    Args:
        model: FP32, opset 13 or later, without Q/DQ nodes.
        recipe: of this model.
        placement: which backend's.
        exclude: names of nodes that stay in float beside the recipe's; one without a name of its own goes by its first
            output.

    Raises:
        CalibrationMismatch: the recipe is of another model.
        ModelError: the opset is too old, the model carries Q/DQ nodes already, or `exclude` names a node that is not
            there.
    """
    exclude = recipe.excluded(model, exclude)
    require_quantizable(model, exclude)
    scales, correction = recipe.scales.scales, recipe.bias_correction
    case = Case(model, scales, placement)
    left = reasons(case, exclude)
    if correction is None:
        return Quantized(insert_into(case, scales, exclude, left), left)
    corrected = correct_biases(model, correction.layers, {*exclude, *left})
    return Quantized(insert_qdq(corrected, scales, placement, case.folded_names(exclude)), left)
