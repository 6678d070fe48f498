"""The one place that opens a session of ONNX Runtime: its options, and the fusions of it that are wrong."""

from __future__ import annotations

import importlib.util
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from enginewright.errors import ModelError, RuntimeUnavailable
from enginewright.plugins import NO_PLUGINS, Plugins
from enginewright.runtimes.onnxruntime.custom import register
from enginewright.target import has_int8_dot_product, instruction_sets

if TYPE_CHECKING:
    import onnxruntime
    from onnx import ModelProto

INSTALL = "pip install 'enginewright[host]'"
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
# ONNX Runtime 1.32 computes Transpose -> MatMul by a stored vector as if nothing were transposed: -2 dB in FP32,
# without a word.
WRONG_FUSIONS = ("MatmulTransposeFusion",)
ERRORS, FATAL = 3, 4  # levels of its log


class Purpose(Enum):
    """What a session is opened for."""

    run = "run"  # an engine: the kernels that are fastest on this CPU
    # Q/DQ pairs are computed as they stand and never by integer kernels: TensorRT's placement allows kernels here that
    # ONNX Runtime computes otherwise than TensorRT does, such as an AveragePool with ceil_mode (22 dB instead of 40)
    simulate = "simulate"
    reference = "reference"  # a float model with ONNX Runtime's own options: what others are compared with
    literal = "literal"  # the graph node by node, so that no fusion rounds otherwise


class NoKernel(ModelError):
    """A model has an operator that neither ONNX Runtime nor a plugin brings."""

    def __init__(self, operator: str) -> None:
        """`operator` as `domain:Name`."""
        super().__init__(
            f"ONNX Runtime has no kernel for {operator}; name a library in model.plugins.onnxruntime or a Python twin"
            " in model.plugins.python (docs/plugins.md), or where TensorRT alone has it, set"
            " calibration.runtime=tensorrt to calibrate there"
        )


def _unknown_operator(words: str) -> Optional[str]:
    """The operator of another domain than ONNX's that ONNX Runtime does not know, from what it says."""
    found = re.search(r"([\w.]+:\w+)\(-?\d+\) is not a registered function/op", words)
    return found.group(1) if found else None


def open_session(
    model: Union[str, bytes],
    purpose: Purpose = Purpose.run,
    *,
    plugins: Plugins = NO_PLUGINS,
    optimized: Optional[Path] = None,
    profile: Optional[Path] = None,
) -> onnxruntime.InferenceSession:
    """Open a session on the CPU that computes what the model says.

    Args:
        model: a path, or the bytes of a model.
        purpose: decides the optimizations.
        plugins: kernels of custom operators.
        optimized: where the optimized graph is written.
        profile: the beginning of the path of the profile that `end_profiling` writes.

    Raises:
        StaleArtifact, RuntimeUnavailable, ModelError: of `plugins`, see `custom.register`.
        Exception: what ONNX Runtime raises for the model, see `refusals`.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, NotImplemented as Unsupported

    options = session_options(purpose, instruction_sets())
    register(options, plugins)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    disabled = disabled_optimizers(purpose)
    try:
        return onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
    except (Fail, InvalidGraph, Unsupported) as fault:
        if unknown := _unknown_operator(str(fault)):
            raise NoKernel(unknown) from None
        if not isinstance(fault, Fail) or "Resize" not in str(fault) or purpose in (Purpose.reference, Purpose.literal):
            raise
        return onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=[*disabled, CHANGES_LAYOUT]
        )


def open_model(
    model: ModelProto,
    purpose: Purpose = Purpose.run,
    *,
    plugins: Plugins = NO_PLUGINS,
    optimized: Optional[Path] = None,
) -> onnxruntime.InferenceSession:
    """`open_session` of a model whose large weights lie in files (`enginewright.graph.stored`), which are mapped."""
    from enginewright.graph import stored

    if stored.is_whole(model):
        serialized = model.SerializeToString(deterministic=True)
        return open_session(serialized, purpose, plugins=plugins, optimized=optimized)
    with stored.linked(model) as file:
        return open_session(str(file.path), purpose, plugins=plugins, optimized=optimized)


def write_optimized(model: Path, optimized: Path) -> None:
    """Write what ONNX Runtime's basic optimizations make of a model: standard ONNX again, without WRONG_FUSIONS."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = ERRORS
    options.optimized_model_filepath = str(optimized)
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def session_options(purpose: Purpose, available: tuple[str, ...]) -> onnxruntime.SessionOptions:
    """Options for a CPU with these instruction sets."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL if purpose in (Purpose.reference, Purpose.literal) else ERRORS
    if purpose is Purpose.literal:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if purpose in (Purpose.run, Purpose.simulate):
        options.add_session_config_entry(NO_SUBNORMALS, "1")
        if needs_exact_products(available):
            options.add_session_config_entry(EXACT_PRODUCTS, "1")
    return options


def disabled_optimizers(purpose: Purpose) -> list[str]:
    """The optimizations of ONNX Runtime that a session goes without."""
    if purpose in (Purpose.reference, Purpose.literal):
        return list(WRONG_FUSIONS)
    return [QUANTIZES_BY_ITSELF, *WRONG_FUSIONS, *([FUSES_PAIRS] if purpose is Purpose.simulate else [])]


def why_not_opened(onnx_model: Path, plugins: Plugins = NO_PLUGINS) -> Optional[str]:
    """Why ONNX Runtime, the FP32 reference of every comparison, opens no session of a model; None if it does, or is not
    installed.
    """
    if why_absent():
        return None
    try:
        open_session(str(onnx_model), Purpose.literal, plugins=plugins)
    except refusals() as fault:
        words = one_line(fault).replace(str(onnx_model), onnx_model.name)
        return f"ONNX Runtime {installed_version()} cannot run the model: {words}"
    return None


def why_absent() -> Optional[str]:
    """None, or that ONNX Runtime is not installed, with the remedy; it is not imported."""
    installed = importlib.util.find_spec("onnxruntime")
    return None if installed else f"the package onnxruntime is not installed; {INSTALL}"


def installed_version() -> str:
    """The version of ONNX Runtime. Raises RuntimeUnavailable."""
    try:
        import onnxruntime
    except ImportError as fault:
        raise RuntimeUnavailable(f"onnxruntime cannot be imported ({fault}); {INSTALL}") from None
    return str(onnxruntime.__version__)


def refusals(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a model or a feed that it does not take, and `others`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    own = (faults.Fail, faults.InvalidArgument, faults.InvalidGraph, faults.RuntimeException, faults.NotImplemented)
    return (*own, NoKernel, *others)


def one_line(fault: BaseException) -> str:
    """What ONNX Runtime says, in one line."""
    return " ".join(str(fault).split())


def needs_exact_products(available: tuple[str, ...]) -> bool:
    """Whether INT8 must take ONNX Runtime's exact path on an x86 CPU with these instruction sets.

    Without VNNI or AMX, AVX2 sums two uint8 x int8 products in saturating 16 bits (ONNX Runtime, "Quantize ONNX
    models", "When and why do I need to try U8U8"): efficientnet_lite0 falls to an SQNR of 7 dB, against 15 dB on the
    exact path.
    """
    return "avx2" in available and not has_int8_dot_product(available)
