"""ONNX Runtime on the CPU: the embedded default, and the portable calibrator. Owns the package onnxruntime."""

from __future__ import annotations

import importlib.util
import re
import tempfile
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import numpy.typing as npt

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import QUANTIZED, Build, Calibration, InputType, Placement, Precision
from enginewright.errors import CalibrationMismatch, ConfigError, ModelError, RuntimeUnavailable
from enginewright.feeds import Array, Feeds, engine_closed, joined, refuse_nan
from enginewright.runtimes.base import (
    BuiltEngine,
    LayerTime,
    Task,
    TensorSpec,
    check_feeds,
    in_batches,
    overlapped,
    plain_inputs,
)
from enginewright.runtimes.checked import require_engine
from enginewright.runtimes.int8 import FLOAT, INT8, UNKNOWN, Int8Share, findings, int8_share, refusal
from enginewright.runtimes.onnxruntime.simplify import WRONG_FUSIONS
from enginewright.target import TargetFingerprint, cpu_name, has_int8_dot_product, instruction_sets

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from enginewright.calibration.correction import BiasCorrection
    from enginewright.calibration.ranges import TensorRange

INSTALL = "pip install 'enginewright[host]'"
NUMPY_TYPES = {
    **{
        f"tensor({name})": np.dtype(name)
        for name in ("float16", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "bool")
    },
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
}
INTEGER_KERNELS = (
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
)
FLOAT_KERNELS = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
NO_MEMORY = re.compile(r"bad[_ ]alloc|[Ff]ailed to allocate memory|out of memory")
NO_SUBNORMALS = "session.set_denormal_as_zero"
EXACT_PRODUCTS = "session.x64quantprecision"
# It puts the weights of a float Conv or Gemm between quantized tensors into INT8, one scale a tensor:
# efficientnet_lite0 with its first depthwise convolution left in float fell from an SQNR of 15.7 dB to 4.9 dB
# (docs/decisions/0014-mixed-precision.md).
QUANTIZES_BY_ITSELF = "WeightBiasQuantization"
FUSES_PAIRS = "QDQSelectorActionTransformer"  # layers between Q/DQ pairs become integer kernels
# It puts the channels of INT8 convolutions last, and of what stands between them: a bicubic Resize has no kernel for
# that, and the session fails.
CHANGES_LAYOUT = "NhwcTransformer"


class OnnxRuntime:
    """FP32, FP16 and INT8 on the CPU. FP16 saves memory, not time: most CPUs compute it through FP32."""

    name = "onnxruntime"
    engine_file = "engine.onnx"

    def why_not(self, task: Task) -> Optional[str]:
        """None, or that the package is missing."""
        del task
        return (
            None if importlib.util.find_spec("onnxruntime") else f"the package onnxruntime is not installed; {INSTALL}"
        )

    def fingerprint(self, settings: Build) -> TargetFingerprint:
        """The CPU, its instruction sets that decide kernels, and ONNX Runtime's version. Raises RuntimeUnavailable."""
        del settings
        return TargetFingerprint(
            cpu_name(), None, self.name, self._stated_version(), instruction_sets=instruction_sets()
        )

    def calibrator(self) -> Mapping[str, str]:
        """Nothing: the scales that it finds move between versions."""
        return {}

    def calibrate(
        self, onnx_model: Path, batches: Iterable[Mapping[str, Array]], settings: Calibration
    ) -> CalibrationCache:
        """Choose one scale for each float tensor of the model, by ONNX Runtime's own calibrators
        (`enginewright.runtimes.onnxruntime.calibrator`).
        """
        from enginewright.runtimes.onnxruntime.calibrator import calibrate

        self._version()
        return calibrate(onnx_model, batches, settings)

    def observe(
        self, onnx_model: Path, batches: Iterable[Mapping[str, Array]], cache: CalibrationCache
    ) -> dict[str, TensorRange]:
        """Run every batch and say what the scales of a cache, whoever made it, do to each tensor's values. Raises
        RuntimeUnavailable.
        """
        from enginewright.runtimes.onnxruntime.calibrator import observe

        self._version()
        return observe(onnx_model, batches, cache)

    def bias_correction(self, onnx_model: Path, batches: Iterable[Mapping[str, Array]]) -> BiasCorrection:
        """What INT8 weights add to each layer's output on average (`enginewright.graph.bias`). Raises
        CalibrationMismatch, RuntimeUnavailable.
        """
        from enginewright.runtimes.onnxruntime.calibrator import bias_correction

        self._version()
        return bias_correction(onnx_model, batches)

    def build(
        self,
        onnx_model: Path,
        precision: Precision,
        settings: Build,
        recipe: Optional[QuantizationRecipe],
        floats: Collection[str] = (),
    ) -> BuiltEngine:
        """Return an ONNX file that a session turns into kernels at load; what INT8 leaves in float runs in FP32, which
        a CPU is faster in.

        Raises:
            CalibrationMismatch: INT8 without a cache, or with that of another model.
            ConfigError: build.input_type is native.
            ModelError: ONNX Runtime cannot run the result.
            RuntimeUnavailable: the package is missing.
        """
        import onnx

        from enginewright.graph.qdq import quantizable

        if settings.input_type is InputType.native:
            raise ConfigError(
                "build.input_type: native is for TensorRT, and ONNX Runtime's engines take float32; set"
                " build.input_type=float32"
            )
        version = self._version()
        model = onnx.load(onnx_model)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result, left = in_precision(onnx_model, model, precision, recipe, floats)
        plan = result.SerializeToString(deterministic=True)
        optimized = _optimized(plan, onnx_model, precision)
        integer = [node for node in optimized.graph.node if node.op_type in INTEGER_KERNELS]
        real = [node for node in optimized.graph.node if node.op_type in FLOAT_KERNELS]
        said = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
        if precision in QUANTIZED:
            said += [_in_float(node, left) for node in real if node.name not in floats]
        share = _int8_share(model, integer, floats) if precision in QUANTIZED else None
        if share is not None and share.none:
            raise ModelError(f"{onnx_model}: {refusal(share, f'ONNX Runtime {version}', _remedy(left))}")
        return BuiltEngine(
            plan=plan,
            layers=_by_precision(integer, real, optimized.graph),
            quantizable=len(quantizable(model)),
            quantized=len(integer),
            left_in_float=left,
            int8=share.to_dict() if share is not None else {},
            findings=findings(share, _remedy(left)) if share is not None else (),
            warnings=said,
            settings={
                "precision": precision.name,
                "profile": {"min": settings.profile.min, "opt": settings.profile.opt, "max": settings.profile.max},
                "versions": {"onnxruntime": version, "onnx": onnx.__version__},
                **({"float_nodes": list(floats)} if floats else {}),
                "exact_int8_products": needs_exact_products(instruction_sets()),
            },
        )

    def load(self, engine: Path) -> OnnxRuntimeEngine:
        """Verify the sidecar, then open a session. Raises StaleArtifact, RuntimeUnavailable."""
        made = require_engine(engine, self.fingerprint(Build()))
        self._version()
        quantized = made.settings.get("precision") in {precision.name for precision in QUANTIZED}
        return OnnxRuntimeEngine(engine, open_session(str(engine)), int(made.settings["profile"]["max"]), quantized)

    def _stated_version(self) -> str:
        """What `_version` returns, read from the package's source: loading its library would make every `dvc repro`
        wait for the probe.
        """
        spec = importlib.util.find_spec("onnxruntime")
        source = Path(spec.origin).read_text() if spec and spec.origin else ""
        stated = re.search(r"^__version__ = ['\"](.+)['\"]", source, re.MULTILINE)
        return stated.group(1) if stated else self._version()

    def _version(self) -> str:
        try:
            import onnxruntime
        except ImportError as fault:
            raise RuntimeUnavailable(f"onnxruntime cannot be imported ({fault}); {INSTALL}") from None
        return str(onnxruntime.__version__)


class OnnxRuntimeEngine:
    """A session on the CPU."""

    def __init__(
        self, path: Path, session: onnxruntime.InferenceSession, max_batch: int, quantized: bool = False
    ) -> None:
        """`session` is held until the `with` block ends; batches beyond `max_batch` run in several goes; INT8
        (`quantized`) refuses NaN.
        """
        self._path, self._quantized = path, quantized
        self._session: Optional[onnxruntime.InferenceSession] = session
        self.max_batch = max_batch
        self.inputs = tuple(_spec(value) for value in session.get_inputs())
        self.outputs = tuple(_spec(value) for value in session.get_outputs())

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return new host arrays, [N, ...] each. Raises EngineInputError on a wrong name, dtype or shape, or NaN fed to
        INT8.
        """
        session, batch = self._live(), self._check(feeds)
        names = [output.name for output in self.outputs]
        pieces = []
        for start, piece in zip(range(0, batch, self.max_batch), in_batches(feeds, batch, self.max_batch)):
            pieces.append((dict(zip(names, self._run(session, names, piece))), min(self.max_batch, batch - start)))
        return joined(pieces)

    def device_seconds(self, feeds: Mapping[str, Array], repeats: int) -> npt.NDArray[np.float64]:
        """Wall time of each of `repeats` runs in seconds: host and device are one. Shape [repeats]. Raises
        EngineInputError.
        """
        session, batch = self._live(), self._check(feeds)
        pieces = list(in_batches(feeds, batch, self.max_batch))
        seconds = np.empty(repeats)
        for repeat in range(repeats):
            start = time.perf_counter()
            for piece in pieces:
                self._run(session, None, piece)
            seconds[repeat] = time.perf_counter() - start
        return seconds

    def infer_many(self, batches: Iterable[Feeds]) -> Iterator[dict[str, Array]]:
        """See `Engine`. `session.run` lets other threads run."""
        return overlapped(self.infer, batches, live=self._live)

    def pinned_inputs(self, batch: int) -> dict[str, Array]:
        """Arrays in ordinary memory, which host and device share."""
        return plain_inputs(self.inputs, batch)

    def phase_seconds(self, feeds: Feeds, repeats: int) -> dict[str, npt.NDArray[np.float64]]:
        """Nothing to tell apart: there is one clock and one memory. Raises EngineInputError."""
        del repeats
        self._live()
        self._check(feeds)
        return {}

    def layer_times(self, feeds: Mapping[str, Array], runs: int) -> list[LayerTime]:
        """Mean time of each node over `runs`, in a session of its own with ONNX Runtime's profiler on. Raises
        EngineInputError.
        """
        from enginewright.runtimes.onnxruntime.profile import layer_times

        self._live()
        self._check(feeds)
        return layer_times(self._path, session_options(instruction_sets()), feeds, runs)

    def __enter__(self) -> OnnxRuntimeEngine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._session = None

    def _live(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            raise engine_closed(self._path)
        return self._session

    def _run(self, session: onnxruntime.InferenceSession, names: Optional[list[str]], feeds: Feeds) -> list[Array]:
        """A node can fail on a batch that a session was opened for: a Reshape to a fixed size. Raises ModelError."""
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException  # fmt: skip

        try:
            answers: list[Array] = session.run(names, dict(feeds))
        except (Fail, InvalidArgument, RuntimeException) as fault:
            batch = len(next(iter(feeds.values())))
            raise ModelError(
                f"ONNX Runtime cannot run {self._path} on a batch of {batch}: {' '.join(str(fault).split())}; see"
                " the report of check_onnx"
            ) from None
        return answers

    def _check(self, feeds: Feeds) -> int:
        batch = check_feeds(self.inputs, feeds)
        if self._quantized:
            refuse_nan(feeds)
        return batch


def needs_exact_products(available: tuple[str, ...]) -> bool:
    """Whether INT8 must take ONNX Runtime's exact path on an x86 CPU with these instruction sets.

    Without VNNI or AMX, AVX2 sums two uint8 x int8 products in saturating 16 bits (ONNX Runtime, "Quantize ONNX
    models", "When and why do I need to try U8U8"): efficientnet_lite0 falls to an SQNR of 7 dB, against 15 dB on the
    exact path.
    """
    return "avx2" in available and not has_int8_dot_product(available)


def session_options(available: tuple[str, ...], optimized: Optional[Path] = None) -> onnxruntime.SessionOptions:
    """Options for a CPU with these instruction sets; `optimized` is where the optimized graph is written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # errors; a warning says that an optimized graph is for this machine alone, as ours are
    options.log_severity_level = 3
    options.add_session_config_entry(NO_SUBNORMALS, "1")
    if needs_exact_products(available):
        options.add_session_config_entry(EXACT_PRODUCTS, "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return options


def open_session(
    model: Union[str, bytes], options: Optional[onnxruntime.SessionOptions] = None, simulates: bool = False
) -> onnxruntime.InferenceSession:
    """A session on the CPU, with `session_options` of this machine unless told otherwise, that computes what the model
    says.

    With `simulates`, Q/DQ pairs are computed as they stand and never by integer kernels: TensorRT's placement allows
    kernels here that ONNX Runtime computes otherwise than TensorRT does, such as an AveragePool with ceil_mode (22 dB
    in place of 40).
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    chosen = options or session_options(instruction_sets())
    disabled = [QUANTIZES_BY_ITSELF, *WRONG_FUSIONS, *([FUSES_PAIRS] if simulates else [])]
    try:
        return onnxruntime.InferenceSession(
            model, chosen, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
    except Fail as fault:
        if "Resize" not in str(fault):
            raise
        return onnxruntime.InferenceSession(
            model, chosen, providers=["CPUExecutionProvider"], disabled_optimizers=[*disabled, CHANGES_LAYOUT]
        )


def in_precision(
    path: Path,
    model: onnx.ModelProto,
    precision: Precision,
    recipe: Optional[QuantizationRecipe],
    floats: Collection[str] = (),
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model of `path`, read as `model`, as a session shall run it, and what of it INT8 leaves in float, with the
    reasons.

    Raises:
        CalibrationMismatch: INT8 without a cache, or with that of another model.
        ModelError: the model cannot be converted.
    """
    if precision is Precision.fp32:
        return model, {}
    if precision is Precision.fp16:
        from enginewright.graph.fp16 import to_fp16

        return to_fp16(model), {}
    if recipe is None:
        raise CalibrationMismatch(f"INT8 of {path} needs a calibration cache; run `dvc repro calibrate`")
    from enginewright.calibration.quantize import quantize
    from enginewright.runtimes.onnxruntime.prepare import prepared

    ready, recipe = prepared(model, recipe)
    names = {node.name for node in ready.graph.node}
    kept = [name for name in floats if name in names]
    return quantize(ready, recipe, Placement.onnxruntime, kept)


def _in_float(node: onnx.NodeProto, left: Mapping[str, str]) -> str:
    """The warning about a layer that an INT8 engine computes in float, with the reason where `left` has one."""
    from enginewright.graph.reasons import explained

    name = node.name or node.output[0]
    return explained(f"{name} ({node.op_type}) runs in float", name, left)


def _optimized(plan: bytes, source: Path, precision: Precision) -> onnx.ModelProto:
    """The graph that a session really executes on this machine. Raises ModelError."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        fault = _refused(plan, path)
        if fault is None:
            return onnx.load(path)
        if precision is Precision.fp32 or _refused(str(source)) is not None:
            raise ModelError(f"ONNX Runtime cannot run {source}: {fault}; see the report of check_onnx")
        raise ModelError(
            f"ONNX Runtime runs {source} in FP32 and refuses its {precision.value} form, which is made here: {fault}; "
            f"replace the operator of that node in the model, or build without {precision.name}"
        )


def _refused(model: Union[str, bytes], optimized: Optional[Path] = None) -> Optional[str]:
    """Why a session takes no such model, in one line that names the node; None if it does. The optimized graph goes to
    `optimized`.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        NotImplemented as Unsupported,
        RuntimeException,
    )

    try:
        open_session(model, session_options(instruction_sets(), optimized))
    except (Fail, InvalidArgument, InvalidGraph, RuntimeException, Unsupported) as fault:
        said = " ".join(str(fault).split())
        if NO_MEMORY.search(said):
            raise MemoryError(said) from None  # of this machine, not of the model
        return said
    return None


def _by_precision(
    integer: Sequence[onnx.NodeProto], floats: Sequence[onnx.NodeProto], graph: onnx.GraphProto
) -> dict[str, int]:
    """Conv, ConvTranspose, Gemm and MatMul kernels by the type of their weights."""
    import onnx

    half = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    fp16 = sum(any(tensor in half for tensor in node.input) for node in floats)
    counts = {"INT8": len(integer), "FP16": fp16, "FP32": len(floats) - fp16}
    return {precision: count for precision, count in counts.items() if count}


def _int8_share(model: onnx.ModelProto, integer: Sequence[onnx.NodeProto], floats: Collection[str]) -> Int8Share:
    """What of a model runs in an integer kernel. Kernels bear the names of their nodes, some with a number behind
    them.
    """
    from enginewright.graph.multiplications import multiplications
    from enginewright.graph.qdq import quantizable

    kernels = {re.sub(r"_token_\d+$", "", node.name) for node in integer}
    layers = {node.name or node.output[0]: node for node in quantizable(model)}
    ran = {name: INT8 if name in kernels else FLOAT for name in layers}
    if sum(kind == INT8 for kind in ran.values()) == len(integer):
        counted = multiplications(model)
        return int8_share(ran, {name: counted.get(node.output[0]) for name, node in layers.items()}, floats)
    asked = sum(name not in floats for name in layers)  # kernels without a name of their own: how many, but not which
    return Int8Share({INT8: min(len(integer), asked), FLOAT: max(asked - len(integer), 0), UNKNOWN: 0}, {})


def _remedy(left: Mapping[str, str]) -> str:
    """What to try where INT8 does not come about on a CPU."""
    reasons = "; ".join(dict.fromkeys(left.values()))
    return (
        f"layers were left in float ({reasons}); use the FP32 engine"
        if reasons
        else "keep fewer layers in float, or use the FP32 engine"
    )


def _spec(value: Any) -> TensorSpec:
    if value.type not in NUMPY_TYPES:
        raise RuntimeUnavailable(
            f"'{value.name}' is {value.type}, which NumPy lacks; export the model with float32 inputs and outputs"
        )
    return TensorSpec(
        value.name, NUMPY_TYPES[value.type], tuple(axis if isinstance(axis, int) else None for axis in value.shape)
    )


RUNTIME = OnnxRuntime()
