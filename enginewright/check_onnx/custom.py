"""Operators of other domains than ONNX's: who brings their kernels, as the model's sidecar says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enginewright import manifest
from enginewright.check_onnx.reading import Node
from enginewright.check_onnx.report import Finding, Severity
from enginewright.plugins import NO_PLUGINS, PORTABLE, TENSORRT_FILES, Plugins, beside

REMEDY = (
    "name in model.plugins what brings it (docs/plugins.md): onnxruntime, a compiled library, or python, a function"
    " under onnx_op, for ONNX Runtime, and tensorrt, a plugin of that name, for TensorRT"
)


@dataclass(frozen=True)
class Declared:
    """What model.plugins named when the model was exported."""

    plugins: Plugins = NO_PLUGINS  # for ONNX Runtime, beside the model
    tensorrt: Sequence[str] = ()  # names of libraries that lie on the target

    @property
    def any(self) -> bool:
        """Whether anything was."""
        return bool(self.plugins.files or self.tensorrt)

    def finding(self, node: Node) -> Finding:
        """What there is to say of a custom node where something was declared."""
        what = f"{node} is an operator of the domain '{node.proto.domain}'"
        on_cpu = ", ".join(plugin.path.name for plugin in self.plugins.files)
        on_gpu = ", ".join(self.tensorrt)
        if on_cpu and on_gpu:
            said = f"ONNX Runtime takes it from {on_cpu} and TensorRT from {on_gpu}; it stays in float in INT8 engines"
            return Finding(Severity.note, what, said, node.name)
        if on_cpu:
            said = (
                f"ONNX Runtime takes it from {on_cpu}; name a plugin in model.plugins.tensorrt where TensorRT builds"
                " the engines"
            )
            return Finding(Severity.warning, what, said, node.name)
        said = (
            f"TensorRT takes it from {on_gpu} and ONNX Runtime has no kernel, so the export was not compared, and what"
            " runs on ONNX Runtime refuses the model: name a Python twin in model.plugins.python, or set"
            " calibration.runtime=tensorrt"
        )
        return Finding(Severity.warning, what, said, node.name)


NOTHING = Declared()


def declared(path: Path) -> Declared:
    """What the sidecar of a model says. Raises StaleArtifact if that is no sidecar."""
    if not manifest.sidecar(path).is_file():
        return NOTHING
    made = manifest.read(path)
    return Declared(beside(path, made).of(*PORTABLE), made.settings.get(TENSORRT_FILES, ()))
