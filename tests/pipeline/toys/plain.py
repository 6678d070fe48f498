"""A runtime: ONNX's reference implementation, in FP32 and FP16."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx

from enginewright.config import Precision
from enginewright.feeds import Feeds
from enginewright.interface import Interface
from enginewright.runtimes.base import BuildJob, BuiltEngine, LoadOptions, Outputs, Runtime
from enginewright.runtimes.checked import axes_of, require_engine
from enginewright.runtimes.host import HostEngine
from enginewright.target import TargetFingerprint


class Plain(Runtime):
    """Engines are ONNX files."""

    name = "plain"
    engine_file = "engine.onnx"

    def fingerprint(self) -> TargetFingerprint:
        return TargetFingerprint("any machine", None, self.name, onnx.__version__)

    def build(self, model: Path, job: BuildJob) -> BuiltEngine:
        axes = {name: axis.to_dict() for name, axis in job.axes.items()}
        return BuiltEngine(model.read_bytes(), settings={"precision": job.precision.name, "axes": axes})

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> PlainEngine:
        del options
        made = require_engine(engine, self.fingerprint())
        model = onnx.load(engine)
        half = made.settings["precision"] == Precision.fp16.name
        return PlainEngine(engine, Interface.from_onnx(model).with_batch(), axes_of(engine, made), model, half)


class PlainEngine(HostEngine):
    """Half precision is that of the input alone."""

    def __init__(self, path: Path, interface: Interface, axes: Any, model: onnx.ModelProto, half: bool) -> None:
        from onnx.reference import ReferenceEvaluator

        super().__init__(path, interface, axes)
        self._evaluator, self._half = ReferenceEvaluator(model), half

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        del rows
        fed = {
            name: array.astype(np.float16).astype(np.float32) if self._half else array for name, array in feeds.items()
        }
        return dict(zip(self._evaluator.output_names, self._evaluator.run(None, fed)))


RUNTIME = Plain()
