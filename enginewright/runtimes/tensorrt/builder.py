"""ONNX to a serialized engine, for TensorRT 8.6, 10, 11 and TensorRT-RTX: one builder that takes the module."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, cast

import numpy.typing as npt

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.config import QUANTIZED, Calibration, CalibrationAlgorithm, PrecisionMode
from enginewright.errors import (
    CalibrationMismatch,
    ConfigError,
    EnginewrightError,
    ModelError,
    RuntimeUnavailable,
    nearest,
)
from enginewright.graph.names import printable
from enginewright.graph.shapes import fold_static_shapes
from enginewright.interface import BATCH, Axes, Interface, ShapeRange
from enginewright.runtimes.base import BuildJob, BuiltEngine
from enginewright.runtimes.int8 import INT8, refusal
from enginewright.runtimes.tensorrt import layers as engine_layers
from enginewright.runtimes.tensorrt.bindings import Bindings, version_stamp
from enginewright.runtimes.tensorrt.build_plan import BuildPlan, make_plan, node_name, read_model, supports_implicit
from enginewright.runtimes.tensorrt.calibrator import GONE, PERCENTILE, CacheSource, ImageSource, Source, as_calibrator
from enginewright.runtimes.tensorrt.constraints import keep_in_half
from enginewright.runtimes.tensorrt.inputs import native_inputs
from enginewright.runtimes.tensorrt.progress import follow
from enginewright.runtimes.tensorrt.scales import complete
from enginewright.runtimes.tensorrt.session import Session
from enginewright.runtimes.tensorrt.timing_cache import TimingCache
from enginewright.runtimes.tensorrt.verdict import judge, remedy
from enginewright.runtimes.tensorrt.ways import ways
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    import onnx
    import tensorrt

Array = npt.NDArray[Any]

MIB = 1 << 20
PARSER_ERRORS_SHOWN = 10
SHOWN = 3  # warnings in the sentence that refuses an engine without INT8


@dataclass(frozen=True)
class Job:
    """What is built, for whom."""

    onnx_model: Path
    asked: BuildJob
    target: TargetFingerprint
    # TensorRT-RTX: the GPUs that the engine is for; others build for the GPU that is here
    compute_capabilities: Sequence[str] = ()
    timing_cache: Optional[TimingCache] = None
    inspect: bool = True  # deserialize and ask the inspector; without a GPU the VERBOSE log has to do

    @property
    def what(self) -> str:
        """`int8 engine of model.onnx`."""
        return f"{self.asked.precision.name} engine of {self.onnx_model.name}"

    def keeping(self, nodes: Sequence[str]) -> Job:
        """The same with more nodes in FP16."""
        return replace(self, asked=replace(self.asked, keep_fp16=(*self.asked.keep_fp16, *nodes)))

    def plan(self, trt: Bindings, mode: PrecisionMode) -> BuildPlan:
        """What the builder is given in one mode. Raises CalibrationMismatch, ConfigError, ModelError."""
        asked = self.asked
        return make_plan(trt, self.onnx_model, asked.precision, mode, asked.recipe, asked.keep_fp16)


def build_engine(trt: Bindings, job: Job) -> BuiltEngine:
    """Parse, configure, build, and read what the engine really does.

    Where `build.precision_mode` is auto and an INT8 build fails, or gives no layer in INT8, the other ways are tried
    (`ways`).

    Raises:
        CalibrationMismatch: INT8 without scales that fit.
        ConfigError: a setting names what this library does not know, or an axis has no range.
        ModelError: the library cannot parse or build the model, with node, operator and its message; or INT8 was asked
            for and no layer runs in it.
        RuntimeUnavailable: the library does not start, or its device or memory failed.
    """
    wanted = job.asked.settings.precision_mode
    plan = job.plan(trt, wanted)
    if wanted is not PrecisionMode.auto or job.asked.precision not in QUANTIZED:
        return _build(trt, job, plan)
    failures: list[str] = []
    for way in ways(read_model(job.onnx_model), plan.mode, supports_implicit(trt), job.asked.keep_fp16):
        tried = job.keeping(way.kept)
        try:
            built = _build(trt, tried, tried.plan(trt, way.mode) if failures else plan)
        except ModelError as failed:
            if not (failures or isinstance(failed, BuildFailed)):
                raise  # nothing that another way could mend
            failures.append(f"the {way} failed: {failed}")
            last = failed
            continue
        reasons = dict.fromkeys(way.kept, f"TensorRT {trt.__version__} built no engine with it in INT8")
        fallback = [f"{'; '.join(failures)}; the engine is built the {way}"] if failures else []
        return replace(built, left_in_float={**built.left_in_float, **reasons}, findings=[*fallback, *built.findings])
    if len(failures) == 1:
        raise last
    raise ModelError(f"{'both' if len(failures) == 2 else 'all'} ways to INT8 failed; {'; '.join(failures)}")


class BuildFailed(ModelError):
    """The library parsed the model and made no engine of it, or one without INT8."""


def _build(trt: Bindings, job: Job, plan: BuildPlan) -> BuiltEngine:
    inputs, plan = native_inputs(plan, job.asked.precision, job.asked.settings.input_type, job.asked.recipe)
    session = Session(trt)
    network = parse(session, plan.model, job.onnx_model)
    inputs.apply(trt, network)
    config = session.builder.create_builder_config()
    chosen = configure(trt, config, job)
    for name in plan.flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    warned = list(plan.warnings) + (keep_in_half(trt, network, config, plan.constrained) if plan.constrained else [])
    shapes = _profile_shapes(plan.model, job.asked.axes)
    add_profile(session, config, shapes)
    source, calibrator = _wire_scales(trt, network, config, plan)
    timings = job.timing_cache.attach(config) if job.timing_cache else []
    serialized = _serialize(session, network, config, job)
    del calibrator  # TensorRT holds no reference of its own to it
    if source:
        source.reraise()
    if serialized is None:
        if fault := session.log.device_fault():
            raise RuntimeUnavailable(
                f"the device failed TensorRT {trt.__version__} while it built the {job.asked.precision.name} engine of"
                f" {job.onnx_model}: {fault}; free its memory (nvidia-smi), or lower build.workspace_mib, and run `dvc"
                " repro` again"
            )
        raise BuildFailed(
            f"TensorRT {trt.__version__} could not build the {job.asked.precision.name} engine of {job.onnx_model}:"
            f" {session.log.reason()}"
        )
    if job.timing_cache:
        job.timing_cache.store(config)
    found, files = _layers(session, serialized, job)
    settings = {**chosen, **_describe(trt, job, plan, shapes), **inputs.settings()}
    built = BuiltEngine(
        serialized, engine_layers.by_precision(found), len(plan.quantizable), settings=settings, files=files
    )
    if job.asked.precision not in QUANTIZED:
        return replace(built, warnings=[*warned, *timings, *session.log.warnings()])
    verdict = judge(plan, found, job.asked.keep_fp16)
    if verdict.share.none:
        why = "; ".join([f"precision_mode {plan.mode.name}", *session.log.warnings()[:SHOWN]])
        raise BuildFailed(
            f"{job.onnx_model}: {refusal(verdict.share, f'TensorRT {trt.__version__}', remedy(plan))} ({why})"
        )
    return replace(
        built,
        quantized=sum(ran == INT8 for ran in verdict.ran.values()),
        left_in_float=plan.left_in_float,
        int8=verdict.share.to_dict(),
        findings=verdict.findings,
        warnings=[*warned, *verdict.warnings, *timings, *session.log.warnings()],
    )


def _serialize(
    session: Session, network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig, job: Job
) -> Optional[bytes]:
    """The engine; None where the library gave none, and the log has the reason. An assertion of the library may come as
    an exception too.
    """
    with follow(session.trt, config, session.log, job.what):
        try:
            built = cast("Optional[tensorrt.IHostMemory]", session.builder.build_serialized_network(network, config))
        except RuntimeError as fault:  # what the bindings make of a C++ exception
            session.log.add("ERROR", str(fault))
            return None
    return None if built is None else bytes(memoryview(built))


def calibrate(
    trt: Bindings, onnx_model: Path, batches: Iterable[Mapping[str, Array]], settings: Calibration
) -> CalibrationCache:
    """Choose one scale a tensor with TensorRT's calibrator for `settings.algorithm` (up to TensorRT 10).

    The network is calibrated in FP32 without TF32 and at optimization level 0, which takes the first kernel that works:
    no timing decides, so that the same images give the same scales. The INT8 engine that comes of it is thrown away.

    Raises:
        CalibrationMismatch: there is no image, one holds NaN, or the feeds do not fit the model.
        ModelError: TensorRT cannot parse or calibrate the model.
        RuntimeUnavailable: this TensorRT has no calibrators, or none for percentile, or does not start.
    """
    if not supports_implicit(trt):
        raise RuntimeUnavailable(GONE)
    if settings.algorithm is CalibrationAlgorithm.percentile:
        raise RuntimeUnavailable(PERCENTILE)
    session = Session(trt)
    model, renamed = printable(fold_static_shapes(read_model(onnx_model)))
    network = parse(session, model, onnx_model)
    config = session.builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = 0
    with ImageSource(batches) as source:
        wanted = [network.get_input(index).name for index in range(network.num_inputs)]
        if set(wanted) != set(source.first):
            raise CalibrationMismatch(
                f"the calibration images feed {', '.join(source.first)} and {onnx_model} wants {', '.join(wanted)}"
            )
        shapes = {name: ShapeRange(*(array.shape,) * 3) for name, array in source.first.items()}
        add_profile(session, config, shapes, calibrates=True)
        calibrator = as_calibrator(trt, Header.of(settings.algorithm), source)
        config.int8_calibrator = calibrator
        with follow(trt, config, session.log, f"calibration of {onnx_model.name}"):
            session.builder.build_serialized_network(network, config)
        source.reraise()
    if not source.written:
        raise ModelError(f"TensorRT {trt.__version__} wrote no scales for {onnx_model}: {session.log.reason()}")
    written = CalibrationCache.parse(source.written, f"the cache that TensorRT {trt.__version__} wrote")
    return written.renamed({new: old for old, new in renamed.items()})


def parse(session: Session, model: onnx.ModelProto, source: Path) -> tensorrt.INetworkDefinition:
    """ONNX to a network. Raises ModelError with every error of the parser: node, operator, message."""
    trt = session.trt
    flags = trt.NetworkDefinitionCreationFlag
    explicit_batch = (
        1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0
    )  # 8.6 needs it, 10 ignores it, 11 has it no more
    network = session.builder.create_network(explicit_batch)
    parser: Any = trt.OnnxParser(
        network, session.logger
    )  # tensorrt-stubs have neither ParserError nor a result type for parse
    if not parser.parse(model.SerializeToString(), str(source)):
        faults = [_parser_error(parser.get_error(index), model) for index in range(parser.num_errors)] or [
            session.log.reason()
        ]
        left_out = len(faults) - PARSER_ERRORS_SHOWN
        shown = "; ".join(faults[:PARSER_ERRORS_SHOWN]) + (f"; and {left_out} more" if left_out > 0 else "")
        raise ModelError(f"{trt.__name__} {trt.__version__} cannot parse {source}: {shown}")
    return network


def _parser_error(error: Any, model: onnx.ModelProto) -> str:
    """`node 'conv1' (Conv): message`; TensorRT 8.6 gives the node's index alone."""
    index, nodes = int(error.node()), model.graph.node
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    if 0 <= index < len(nodes):
        name, operator = name or node_name(nodes[index]), operator or nodes[index].op_type
    message = " ".join(str(error.desc()).split())
    return f"node '{name}' ({operator}): {message}" if name or operator else message


def configure(trt: Bindings, config: tensorrt.IBuilderConfig, job: Job) -> dict[str, Any]:
    """Apply the settings that do not depend on the precision; returns what goes into the manifest."""
    settings = job.asked.settings
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * MIB)
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows names alone
    sharing = getattr(getattr(trt, "PreviewFeature", None), "PROFILE_SHARING_0806", None)
    if sharing is not None:  # several contexts, one for each CUDA graph, on one profile; TensorRT 10 always allows it
        config.set_preview_feature(sharing, True)
    if settings.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # TensorRT sets it by default; FP32 means FP32
    if settings.tactic_sources is not None:
        sources = [_member(trt.TacticSource, name, "build.tactic_sources") for name in settings.tactic_sources]
        config.set_tactic_sources(sum(1 << int(source) for source in sources))
    if job.compute_capabilities:
        _set_capabilities(trt, config, job.compute_capabilities)
    return {
        "optimization_level": settings.optimization_level,
        "workspace_mib": settings.workspace_mib,
        "tf32": settings.tf32,
        "tactic_sources": settings.tactic_sources,
    }


def _member(enum: Any, name: str, key: str) -> Any:
    """A member of one of the library's enums by name. Raises ConfigError with the nearest one."""
    known = dict(enum.__members__)
    if name not in known:
        raise ConfigError(f"{key}: this TensorRT has no {name}{nearest(name, known)}")
    return known[name]


def _set_capabilities(trt: Bindings, config: tensorrt.IBuilderConfig, capabilities: Sequence[str]) -> None:
    """Only TensorRT-RTX has these two. Raises ConfigError for a GPU that it does not know."""
    rtx: Any = config
    known = getattr(trt, "ComputeCapability", None)
    if known is None or not hasattr(rtx, "set_compute_capability"):
        raise ConfigError(
            f"build.compute_capabilities: {trt.__name__} builds for the GPU that is here alone; set"
            " runtime=tensorrt_rtx"
        )
    rtx.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        member = _member(known, f"SM{capability.replace('.', '')}", "build.compute_capabilities")
        if not rtx.set_compute_capability(member, index):
            raise ConfigError(
                f"build.compute_capabilities: {trt.__name__} {trt.__version__} does not build for {capability}"
            )


def _profile_shapes(model: onnx.ModelProto, axes: Axes) -> dict[str, ShapeRange]:
    """Min, opt and max shape of every input. Raises ConfigError, and ModelError for a batch that is fixed to another
    size than the range.
    """
    interface = Interface.from_onnx(model).with_batch()
    batch = axes[BATCH]
    for spec in interface.inputs:
        size = spec.shape[0] if spec.shape else BATCH
        if isinstance(size, int) and not batch.min == batch.max == size:
            raise ModelError(
                f"the input '{spec.name}' has the fixed batch {size}; export it with a dynamic batch, or set"
                f" build.profile to {size} throughout"
            )
    return interface.shapes(axes)


def add_profile(
    session: Session, config: tensorrt.IBuilderConfig, shapes: Mapping[str, ShapeRange], calibrates: bool = False
) -> None:
    """Add one optimization profile, with `calibrates` as the calibration profile too. Raises ModelError."""
    profile = session.builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        profile.set_shape(name, *(session.trt.Dims(list(shape)) for shape in (smallest, usual, largest)))
    if config.add_optimization_profile(profile) < 0:
        raise ModelError(f"TensorRT refuses the optimization profile {shapes}: {session.log.reason()}")
    if calibrates and not config.set_calibration_profile(profile):
        raise ModelError(f"TensorRT refuses the calibration profile {shapes}: {session.log.reason()}")


def _wire_scales(
    trt: Bindings, network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig, plan: BuildPlan
) -> tuple[Optional[Source], object]:
    """Give implicit INT8 its scales; the second value must stay alive as long as the build."""
    if plan.scales is None:
        return None, None
    source = CacheSource(complete(trt, network, plan.scales, plan.constrained), version_stamp(trt.__version__))
    calibrator = as_calibrator(trt, plan.scales.header, source)
    config.int8_calibrator = calibrator
    return source, calibrator


def _layers(session: Session, engine_bytes: bytes, job: Job) -> tuple[list[engine_layers.Layer], dict[str, bytes]]:
    """The engine's layers from the inspector, else from the log, and the file to keep."""
    text = _inspect(session, engine_bytes) if job.inspect else ""
    if text:
        kept = engine_layers.completed(text, session.log.layer_text)
        found = engine_layers.from_inspector(json.dumps(kept))
    else:
        found = engine_layers.from_log(session.log.layer_text)
        kept = {"Layers": [layer.to_dict() for layer in found]}
    return found, {"layers.json": (json.dumps(kept, indent=1) + "\n").encode()}


def _inspect(session: Session, engine_bytes: bytes) -> str:
    """The inspector's JSON. Raises EnginewrightError if the engine that was just built does not load."""
    runtime = session.trt.Runtime(session.logger)
    engine = cast("Optional[tensorrt.ICudaEngine]", runtime.deserialize_cuda_engine(engine_bytes))
    if engine is None:
        raise EnginewrightError(f"TensorRT cannot load the engine that it has just built: {session.log.reason()}")
    return engine.create_engine_inspector().get_engine_information(session.trt.LayerInformationFormat.JSON)


def _describe(trt: Bindings, job: Job, plan: BuildPlan, shapes: Mapping[str, ShapeRange]) -> dict[str, Any]:
    return {
        "runtime": job.target.runtime,
        "tensorrt": trt.__version__,
        "compute_capability": job.target.compute_capability,
        "precision": job.asked.precision.name,
        "precision_mode": plan.mode.name,
        **({"precision_mode_because": plan.chosen} if plan.chosen else {}),
        **({"float_nodes": list(job.asked.keep_fp16)} if job.asked.keep_fp16 else {}),
        "flags": sorted(plan.flags),
        "axes": {name: axis.to_dict() for name, axis in job.asked.axes.items()},
        "shapes": {name: dict(zip(("min", "opt", "max"), map(list, triple))) for name, triple in shapes.items()},
    }
