"""Names and ranges of axes, which a serialized engine keeps in part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enginewright.interface import BATCH, UNNAMED, AxisRange, Interface, TensorSpec
from enginewright.runtimes.tensorrt.tensors import Binding, axes_of, with_names

FLOAT = np.dtype(np.float32)
IMAGES = Binding(TensorSpec("x", FLOAT, (BATCH, 3, "x_axis2")), (1, 3, 320), (32, 3, 1280), (8, 3, 640))
MASK = Binding(TensorSpec("mask", FLOAT, (BATCH,)), (1,), (16,), (8,))


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        pytest.param(("N", 3, "height"), (BATCH, 3, "height"), id="the-models-names"),
        pytest.param(("N", 3, UNNAMED), (BATCH, 3, "x_axis2"), id="unnamed"),
        pytest.param(("N", 3, 640), (BATCH, 3, "x_axis2"), id="fixed-in-the-model"),
        pytest.param(("N",), (BATCH, 3, "x_axis2"), id="another-rank"),
    ],
)
def test_axes_are_called_as_in_the_model(shape: tuple[Any, ...], named: tuple[Any, ...]) -> None:
    (found,) = with_names([IMAGES], Interface((TensorSpec("x", FLOAT, shape),), ()))
    assert found.spec.shape == named
    assert (found.minimum, found.maximum) == (IMAGES.minimum, IMAGES.maximum)


def test_a_tensor_that_the_model_does_not_name_keeps_its_own() -> None:
    assert with_names([MASK], Interface((IMAGES.spec,), ())) == [MASK]


def test_an_axis_of_several_inputs_has_the_range_that_all_allow() -> None:
    assert axes_of([IMAGES, MASK]) == {BATCH: AxisRange(1, 8, 16), "x_axis2": AxisRange(320, 640, 1280)}
