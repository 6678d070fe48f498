"""A backend that answers at once: what remains of a measurement with it is our own overhead (as MLPerf's
backend_null).
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright._version import __version__
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, Precision
from enginewright.errors import RuntimeUnavailable
from enginewright.feeds import Array, Feeds, engine_closed, require_iterable
from enginewright.runtimes.base import BuiltEngine, LayerTime, Task, TensorSpec, check_feeds, plain_inputs
from enginewright.runtimes.checked import require_engine
from enginewright.target import TargetFingerprint, cpu_name


class Null:
    """Builds the shapes of a model's inputs and outputs, and answers zeros of these shapes."""

    name = "null"
    engine_file = "engine.null"

    def why_not(self, task: Task) -> Optional[str]:
        """It does everything but calibrate."""
        return (
            "the null runtime computes nothing, so it sees no ranges; set calibration.runtime=onnxruntime"
            if task is Task.calibrate
            else None
        )

    def fingerprint(self, settings: Build) -> TargetFingerprint:
        """This machine's CPU and our own version."""
        del settings
        return TargetFingerprint(cpu_name(), None, self.name, __version__)

    def calibrator(self) -> Mapping[str, str]:
        """Nothing: it cannot calibrate."""
        return {}

    def calibrate(
        self, onnx_model: Path, batches: Iterable[Mapping[str, Array]], settings: Calibration
    ) -> CalibrationCache:
        """Raises RuntimeUnavailable."""
        del onnx_model, batches, settings
        raise RuntimeUnavailable(str(self.why_not(Task.calibrate)))

    def build(
        self,
        onnx_model: Path,
        precision: Precision,
        settings: Build,
        recipe: Optional[QuantizationRecipe],
        floats: Collection[str] = (),
    ) -> BuiltEngine:
        """Return names, types and shapes of the model's inputs and outputs as JSON."""
        import onnx

        del recipe, floats
        model = onnx.load(onnx_model, load_external_data=False)
        weights = {tensor.name for tensor in model.graph.initializer}  # which old exporters list among the inputs
        inputs = [_described(value) for value in model.graph.input if value.name not in weights]
        interface = {"inputs": inputs, "outputs": [_described(value) for value in model.graph.output]}
        profile = {"min": settings.profile.min, "opt": settings.profile.opt, "max": settings.profile.max}
        plan = (json.dumps(interface, indent=2) + "\n").encode()
        return BuiltEngine(
            plan, settings={"precision": precision.name, "profile": profile, "versions": {"enginewright": __version__}}
        )

    def load(self, engine: Path) -> NullEngine:
        """Verify the sidecar, then read the shapes. Raises StaleArtifact."""
        made = require_engine(engine, self.fingerprint(Build()))
        interface = json.loads(engine.read_text())
        return NullEngine(
            [_spec(value) for value in interface["inputs"]],
            [_spec(value) for value in interface["outputs"]],
            int(made.settings["profile"]["max"]),
            engine,
        )


class NullEngine:
    """Answers views of zeros that were made once; they cannot be written to."""

    def __init__(
        self,
        inputs: Iterable[TensorSpec],
        outputs: Iterable[TensorSpec],
        max_batch: int,
        path: Path = Path("engine.null"),
    ) -> None:
        """An axis of an output that is dynamic beside the batch has length 1."""
        self._path, self._closed = path, False
        self.inputs, self.outputs, self.max_batch = tuple(inputs), tuple(outputs), max_batch
        self._answers = {
            spec.name: np.zeros((max_batch, *(axis or 1 for axis in spec.shape[1:])), spec.dtype)
            for spec in self.outputs
        }
        for zeros in self._answers.values():
            zeros.flags.writeable = False  # else one caller could change what another is answered

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Zeros, [N, ...] each. Raises EngineInputError on a wrong name, dtype or shape."""
        batch = self._check(feeds)
        return {
            name: zeros[:batch] if batch <= self.max_batch else np.zeros((batch, *zeros.shape[1:]), zeros.dtype)
            for name, zeros in self._answers.items()
        }

    def device_seconds(self, feeds: Mapping[str, Array], repeats: int) -> npt.NDArray[np.float64]:
        """What reading the clock costs, in seconds. Shape [repeats]. Raises EngineInputError."""
        self._check(feeds)
        return np.array([-time.perf_counter() + time.perf_counter() for _ in range(repeats)])

    def infer_many(self, batches: Iterable[Feeds]) -> Iterator[dict[str, Array]]:
        """See `Engine`. Nothing takes time, so nothing overlaps."""
        require_iterable(batches)
        return map(self.infer, batches)

    def pinned_inputs(self, batch: int) -> dict[str, Array]:
        """Arrays in ordinary memory, which host and device share."""
        return plain_inputs(self.inputs, batch)

    def phase_seconds(self, feeds: Feeds, repeats: int) -> dict[str, npt.NDArray[np.float64]]:
        """Nothing to tell apart: there is one clock and one memory. Raises EngineInputError."""
        del repeats
        self._check(feeds)
        return {}

    def layer_times(self, feeds: Mapping[str, Array], runs: int) -> list[LayerTime]:
        """Nothing: it has no layers. Raises EngineInputError."""
        del runs
        self._check(feeds)
        return []

    def _check(self, feeds: Feeds) -> int:
        if self._closed:
            raise engine_closed(self._path)
        return check_feeds(self.inputs, feeds)

    def __enter__(self) -> NullEngine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closed = True


def _described(value: Any) -> dict[str, Any]:
    import onnx

    kind = value.type.tensor_type
    shape = [axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim]
    return {
        "name": value.name,
        "dtype": np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name,
        "shape": shape,
    }


def _spec(described: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(described["name"], np.dtype(described["dtype"]), tuple(described["shape"]))


RUNTIME = Null()
