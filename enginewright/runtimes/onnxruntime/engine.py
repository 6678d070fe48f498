"""An engine that is a session on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from enginewright.errors import ModelError, RuntimeUnavailable
from enginewright.feeds import Feeds
from enginewright.interface import UNNAMED, Axes, Interface, TensorSpec
from enginewright.plugins import beside
from enginewright.runtimes.base import LayerTime, LoadOptions, Outputs
from enginewright.runtimes.checked import axes_of, is_quantized, require_engine
from enginewright.runtimes.host import DEPTH, HostEngine
from enginewright.runtimes.onnxruntime.session import one_line, open_session
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    import onnxruntime

NUMPY_TYPES = {
    **{
        f"tensor({name})": np.dtype(name)
        for name in ("float16", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "bool")
    },
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
}


def load(engine: Path, here: TargetFingerprint, options: LoadOptions) -> OnnxRuntimeEngine:
    """Verify the sidecar, then open a session. Raises StaleArtifact."""
    made = require_engine(engine, here)
    quantized = is_quantized(made)
    session = open_session(str(engine), plugins=beside(engine, made))
    return OnnxRuntimeEngine(engine, session, axes_of(engine, made), quantized, options.depth_or(DEPTH))


class OnnxRuntimeEngine(HostEngine):
    """A session on the CPU."""

    def __init__(
        self,
        path: Path,
        session: onnxruntime.InferenceSession,
        axes: Axes,
        quantized: bool = False,
        depth: int = DEPTH,
    ) -> None:
        """See `HostEngine`; `session` is held until the engine is closed."""
        inputs, outputs = (tuple(map(_spec, specs)) for specs in (session.get_inputs(), session.get_outputs()))
        super().__init__(path, Interface(inputs, outputs).with_batch(), axes, quantized, depth)
        self._session: Optional[onnxruntime.InferenceSession] = session
        self._names = [spec.name for spec in outputs]

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        """Run the session. Raises ModelError: a node can fail on a batch that a session was opened for, such as a
        Reshape to a fixed size.
        """
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

        assert self._session is not None  # `check` refuses feeds once it is closed
        try:
            answers = self._session.run(self._names, dict(feeds))
        except (Fail, InvalidArgument, RuntimeException) as fault:
            raise ModelError(
                f"ONNX Runtime cannot run {self.path} on a batch of {rows}: {one_line(fault)}; see the report of"
                " check_onnx"
            ) from None
        return dict(zip(self._names, answers))

    def layer_times(self, feeds: Feeds, runs: int) -> list[LayerTime]:
        """Mean time of each node over `runs`, in a session of its own with ONNX Runtime's profiler on. Raises
        EngineInputError.
        """
        from enginewright.runtimes.onnxruntime.profile import layer_times

        self.check(feeds)
        return layer_times(self.path, feeds, runs)

    def close(self) -> None:
        """Let go of the session."""
        super().close()
        self._session = None


def _spec(value: Any) -> TensorSpec:
    if value.type not in NUMPY_TYPES:
        raise RuntimeUnavailable(
            f"'{value.name}' is {value.type}, which NumPy lacks; export the model with float32 inputs and outputs"
        )
    shape = tuple(axis if isinstance(axis, (int, str)) else UNNAMED for axis in value.shape)
    return TensorSpec(value.name, NUMPY_TYPES[value.type], shape)
