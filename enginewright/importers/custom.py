"""Custom operators of a model that is imported: who brings their kernels, and what they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Optional, Union

import numpy as np
import onnx
from onnx import ValueInfoProto, helper

from enginewright.errors import ModelError
from enginewright.feeds import Array, Feeds
from enginewright.graph.custom import custom_nodes, is_custom, operators, state_types
from enginewright.importers.examples import example_sizes, feeds_at
from enginewright.interface import BATCH, Axes, Interface
from enginewright.plugins import CUSTOM_NODES, NO_PLUGINS, TENSORRT_FILES, Plugins
from enginewright.runtimes.onnxruntime.observe import tensor_values

NATIVE = ("com.microsoft", "ai.onnx.ml")  # domains that ONNX Runtime has itself
REMEDY = (
    "name in model.plugins what does: onnxruntime (a compiled library) or python (a function under onnx_op) for ONNX"
    " Runtime, which compares, calibrates and validates, and tensorrt (a compiled plugin) for TensorRT"
    " (docs/plugins.md)"
)


@dataclass(frozen=True)
class Kernels:
    """What brings the kernels of a model's custom operators."""

    plugins: Plugins = NO_PLUGINS  # for ONNX Runtime
    tensorrt: Sequence[str] = ()  # names of libraries, which are for the target alone

    def why_not_run(self, model: onnx.ModelProto, name: str) -> Optional[str]:
        """Why ONNX Runtime cannot run the model, where that is as configured.

        Raises:
            ModelError: nothing brings kernels at all.
        """
        foreign = operators([node for node in custom_nodes(model) if node.domain not in NATIVE])
        if not foreign or self.plugins.files:
            return None
        named = f"{name} has the custom operator{'s' if len(foreign) > 1 else ''} {', '.join(foreign)}"
        if not self.tensorrt:
            raise ModelError(f"{named}, and nothing brings kernels; {REMEDY}")
        return (
            f"{named}, and only TensorRT has kernels ({', '.join(self.tensorrt)}), so ONNX Runtime cannot be compared"
            " with the original, nor calibrate: name a Python twin in model.plugins.python, or set"
            " calibration.runtime=tensorrt"
        )

    def described(self, exported: onnx.ModelProto, not_run: str) -> dict[str, Any]:
        """For the model's sidecar: check_onnx and the builds read it.

        Args:
            exported: the model as it is kept.
            not_run: why ONNX Runtime could not be compared; "" where it was.
        """
        nodes = custom_nodes(exported)
        named = {node.name or node.output[0]: f"{node.domain}::{node.op_type}" for node in nodes}
        return {
            **({CUSTOM_NODES: named} if named else {}),
            **({TENSORRT_FILES: [PurePath(name).name for name in self.tensorrt]} if self.tensorrt else {}),
            **({"not_compared": not_run} if not_run else {}),
        }

    def blamed(self, model: onnx.ModelProto) -> Optional[str]:
        """What to look at where ONNX Runtime refuses a model with custom operators."""
        foreign = operators([node for node in custom_nodes(model) if node.domain not in NATIVE])
        if not foreign:
            return None
        files = ", ".join(plugin.path.name for plugin in self.plugins.files)
        return f"{files} must register {', '.join(foreign)}, with that domain, name and number of inputs"

    def with_types(
        self, model: onnx.ModelProto, interface: Interface, axes: Axes, samples: Optional[Feeds]
    ) -> onnx.ModelProto:
        """State the type and shape of what custom nodes give, as their kernels give it, so that inference goes on
        behind them.

        Args:
            model: as imported.
            interface: of the model.
            axes: the range of each named axis.
            samples: what its inputs are fed; None takes normal numbers.

        Returns:
            A copy with these types; the model as it is where it has no such node, or ONNX Runtime no kernel.

        Raises:
            ModelError: ONNX Runtime cannot run it.
        """
        named = [name for node in model.graph.node if is_custom(node) for name in node.output if name]
        if not named or not self.plugins.files:
            return model
        usual = example_sizes(interface, axes)
        if samples:
            usual.update(interface.sizes({name: array.shape for name, array in samples.items()}))
        sizes = [3, 2]  # of batches: what follows them is the batch
        feeds = [feeds_at(interface, {**usual, BATCH: size}, 0, samples) for size in sizes]
        try:
            given = list(tensor_values(model, named, feeds, plugins=self.plugins))
        except ModelError as fault:
            raise ModelError(f"{fault}; {self.blamed(model)}") from fault
        result = onnx.ModelProto()
        result.CopyFrom(model)
        fixed = set(interface.axes()) <= {BATCH}
        state_types(result, {name: _stated(name, [each[name] for each in given], sizes, fixed) for name in named})
        return result


NO_KERNELS = Kernels()


def _stated(name: str, values: Sequence[Array], batches: Sequence[int], fixed: bool) -> ValueInfoProto:
    first = values[0]
    axes: list[Union[int, str, None]] = [None] * first.ndim
    for place in range(first.ndim):
        found = [its.shape[place] for its in values]
        if found == list(batches) and place == 0:
            axes[place] = BATCH
        elif len(set(found)) == 1 and fixed:
            axes[place] = int(found[0])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(first.dtype))
    value: ValueInfoProto = helper.make_tensor_value_info(name, kind, axes)
    return value
