"""What cannot work of `model.inputs`, `model.outputs`, `model.judged` and `axes`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from enginewright.config.choices import LIBRARY_CODE, Layout, WeightsFrom
from enginewright.config.engine import Axis
from enginewright.config.model import Input, Model
from enginewright.config.preprocessing import RESIZING, Preprocessing
from enginewright.errors import nearest
from enginewright.interface import BATCH

Fault = tuple[str, str]  # key, what is wrong and what to do

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of an axis: what ONNX, torch.export and TensorRT all take
HEIGHT, WIDTH = "height", "width"
JUDGE_ALL = "outputs"  # the task that judges every output
STATED = ("pytorch",)  # values of model.source that need names; other importers may read them from their files


def faults(model: Model, axes: Mapping[str, Axis]) -> Iterator[Fault]:
    """Yield what is wrong with the interface that a configuration states."""
    yield from _order(axes)
    yield from _of_files(model)
    yield from _inputs(model, axes)
    yield from _outputs(model)


ONNX = "onnx"  # an importer of a package's own says itself where its weights lie


def _order(axes: Mapping[str, Axis]) -> Iterator[Fault]:
    for name, axis in axes.items():
        if not axis.min <= axis.opt <= axis.max:
            yield f"axes.{name}", f"min {axis.min} <= opt {axis.opt} <= max {axis.max} does not hold"


def _of_files(model: Model) -> Iterator[Fault]:
    """What only a model that is a file has."""
    if model.source in STATED:
        for key, given in {"path": model.path != LIBRARY_CODE, "axis_names": bool(model.axis_names)}.items():
            if given:
                yield f"model.{key}", f"is for model.source=onnx, and model.source is {model.source}; leave it out"
        return
    if model.source == ONNX and (model.weights_from is not WeightsFrom.file or model.weights != model.path):
        yield (
            "model.weights",
            f"the weights are in the file, and model.weights is {model.weights} from {model.weights_from.name}; set"
            " model.weights=${model.path} and model.weights_from=file, as conf/model/onnx.yaml does",
        )
    for name, places in model.axis_names.items():
        if not isinstance(places, Mapping) or not all(str(place).isdigit() for place in places):
            yield (
                f"model.axis_names.{name}",
                f"{places} does not say which axis gets which name; write {{2: height, 3: width}}, counted from 0",
            )


def _inputs(model: Model, axes: Mapping[str, Axis]) -> Iterator[Fault]:
    if not model.inputs:
        if model.source in STATED:
            yield (
                "model.inputs",
                "is empty; name what the model takes, such as {images: {shape: [batch, 3, 224, 224], dtype: float32}}",
            )
        return
    for name, its in model.inputs.items():
        yield from _shape(f"model.inputs.{name}.shape", its.shape, axes)
    named = {axis for its in model.inputs.values() for axis in its.shape if isinstance(axis, str)}
    for name in axes:
        if name not in named | {BATCH}:
            yield f"axes.{name}", f"no input in model.inputs has an axis of that name{nearest(name, sorted(named))}"


def _shape(key: str, shape: Sequence[Any], axes: Mapping[str, Axis]) -> Iterator[Fault]:
    written = f"[{', '.join(map(str, shape))}]"
    for axis in shape:
        if isinstance(axis, bool) or not isinstance(axis, (int, str)) or (isinstance(axis, int) and axis < 1):
            yield key, f"{axis} in {written} is neither a size, from 1 on, nor the name of an axis"
            return
        if isinstance(axis, str) and not NAME.fullmatch(axis):
            yield key, f"'{axis}' in {written} is not the name of an axis; use letters, digits and _"
            return
        if isinstance(axis, str) and axis not in axes:
            yield (
                key,
                f"the axis '{axis}' in {written} has no range; set axes.{axis}={{min: ..., opt: ..., max: ...}}, or"
                f" write"
                f" its size{nearest(axis, list(axes))}",
            )
            return
    if shape[:1] != [BATCH] or BATCH in shape[1:]:
        rest = shape[1:] if shape[:1] == [1] else [axis for axis in shape if axis != BATCH]
        yield (
            key,
            f"{written} does not begin with the axis `{BATCH}`, along which samples are put together; write"
            f" [{', '.join(map(str, [BATCH, *rest]))}]",
        )


def _outputs(model: Model) -> Iterator[Fault]:
    outputs, named = model.outputs, f"[{', '.join(model.outputs)}]"
    if not outputs and model.source in STATED:
        yield "model.outputs", "is empty; name what the model returns, such as [logits]"
        return
    twice = [name for place, name in enumerate(outputs) if name in outputs[:place] or name in model.inputs]
    if twice:
        yield "model.outputs", f"{named} names '{twice[0]}' twice, or as model.inputs does; give it another name"
    if model.judged is None:
        if len(outputs) > 1 and model.task != JUDGE_ALL:
            yield (
                "model.judged",
                f"the task {model.task} judges one output, and model.outputs names {len(outputs)}; set it to one of"
                f" {', '.join(outputs)}, or set model.task=outputs, which judges them all",
            )
    elif model.task == JUDGE_ALL:
        yield "model.judged", f"'{model.judged}' is named and model.task=outputs judges every output; set it to null"
    elif outputs and model.judged not in outputs:
        yield "model.judged", f"'{model.judged}' is not in model.outputs{nearest(model.judged, outputs)}"


def of_images(preprocessing: Preprocessing, inputs: Mapping[str, Input], axes: Mapping[str, Axis]) -> Iterator[Fault]:
    """Yield where images of data.preprocessing are not what the one input takes.

    Args:
        preprocessing: of a recipe that makes one input of an image.
        inputs: of the model; none are held against it.
        axes: the range of each named axis.
    """
    if len(inputs) > 1:
        yield (
            "data.preprocessing.recipe",
            f"{preprocessing.recipe} makes one input of an image, and model.inputs names {len(inputs)}"
            f" ({', '.join(inputs)}); feed arrays of these names, with data.source arrays and recipe none",
        )
    if len(preprocessing.size) != 2:
        return
    channels, nchw = preprocessing.channel_count, preprocessing.layout is Layout.nchw
    size = preprocessing.size if preprocessing.recipe in RESIZING else [HEIGHT, WIDTH]  # what the images have
    made = [channels, *size] if nchw else [*size, channels]
    for name, its in list(inputs.items())[:1]:
        if len(its.shape) != 4 or any(not _fits(axis, size, axes) for axis, size in zip(its.shape[1:], made)):
            yield (
                f"model.inputs.{name}.shape",
                f"[{', '.join(map(str, its.shape))}] is not what data.preprocessing makes,"
                f" [{', '.join(map(str, [BATCH, *made]))}]; change one of the two",
            )


def _fits(axis: Any, size: Any, axes: Mapping[str, Axis]) -> bool:
    if isinstance(size, str):
        return True  # seen when the images are
    if isinstance(axis, str):
        return axis not in axes or axes[axis].min <= size <= axes[axis].max
    return bool(axis == size)
