"""Which plugins a runtime gets for a project's model."""

from __future__ import annotations

from typing import Any

from enginewright.config import Model
from enginewright.layout import Layout
from enginewright.plugins import TENSORRT, Plugins, beside, configured
from enginewright.runtimes.base import Runtime


def for_runtime(runtime: Runtime, model: Model, paths: Layout) -> Plugins:
    """What lies beside the model, for every machine, and what was compiled here for TensorRT, as far as the runtime
    loads it.

    Raises:
        ConfigError: a library for TensorRT does not exist.
    """
    kinds = runtime.plugin_kinds
    compiled = configured(model, paths, *(kind for kind in kinds if kind == TENSORRT))
    return beside(paths.model).of(*kinds).and_also(compiled)


def calibrator_identity(runtime: Runtime, model: Model, paths: Layout) -> dict[str, Any]:
    """What identifies a calibrator, JSON-ready. A library for TensorRT is compiled where it calibrates, so that its
    bytes are a part of that; those for ONNX Runtime belong to the model.

    Raises:
        ConfigError: a library does not exist.
        RuntimeUnavailable: the runtime is not here.
    """
    compiled = configured(model, paths, *(kind for kind in runtime.plugin_kinds if kind == TENSORRT))
    hashes = {plugin.path.name: plugin.sha256 for plugin in compiled.files}
    return {"runtime": runtime.name, **runtime.calibrator_identity(), **({"plugins": hashes} if hashes else {})}
