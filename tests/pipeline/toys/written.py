"""An importer: a convolution by numbers in a file, without any framework."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from enginewright.config import Export, Model
from enginewright.importers import Imported
from enginewright.interface import BATCH, Axes, Interface
from enginewright.layout import Layout


@contextlib.contextmanager
def written(model: Model, settings: Export, paths: Layout, axes: Axes) -> Iterator[Imported]:
    """Mean of |x * kernel| over the image, a class for each kernel."""
    del axes
    kernels = np.array(json.loads(paths.file(model.weights).read_text()), np.float32)[:, None]
    ((taken, its),), (given,) = model.inputs.items(), model.outputs
    nodes = [
        helper.make_node("Conv", [taken, "kernels"], ["edges"], name="edges"),
        helper.make_node("Abs", ["edges"], ["sizes"], name="sizes"),
        helper.make_node("GlobalAveragePool", ["sizes"], ["means"], name="means"),
        helper.make_node("Flatten", ["means"], [given], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        model.name,
        [helper.make_tensor_value_info(taken, TensorProto.FLOAT, its.shape)],
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, [BATCH, len(kernels)])],
        [numpy_helper.from_array(kernels, "kernels")],
    )
    opset = [helper.make_opsetid("", settings.opset_version)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    files = (paths.file(model.weights),)
    yield Imported(model.name, model.code, made, Interface.from_onnx(made).with_batch(), files)
