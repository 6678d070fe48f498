"""ONNX to a serialized engine, for TensorRT 8.6, 10, 11 and TensorRT-RTX: one builder that takes the module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, cast

from enginewright.config import QUANTIZED, PrecisionMode
from enginewright.errors import EnginewrightError, ModelError, RuntimeUnavailable
from enginewright.interface import ShapeRange
from enginewright.runtimes.base import BuildJob, BuiltEngine
from enginewright.runtimes.int8 import INT8, refusal
from enginewright.runtimes.tensorrt.bindings import Bindings, supports_implicit, version_stamp
from enginewright.runtimes.tensorrt.build_plan import BuildPlan, make_plan, read_source
from enginewright.runtimes.tensorrt.calibrator import CacheSource, as_calibrator
from enginewright.runtimes.tensorrt.configuration import configure
from enginewright.runtimes.tensorrt.constraints import keep_in_half
from enginewright.runtimes.tensorrt.inputs import native_inputs
from enginewright.runtimes.tensorrt.inspector import describe
from enginewright.runtimes.tensorrt.layers import by_precision
from enginewright.runtimes.tensorrt.parser import parse
from enginewright.runtimes.tensorrt.progress import follow
from enginewright.runtimes.tensorrt.scales import complete
from enginewright.runtimes.tensorrt.session import Session
from enginewright.runtimes.tensorrt.shapes import add_profile, profile_shapes
from enginewright.runtimes.tensorrt.timing_cache import TimingCache
from enginewright.runtimes.tensorrt.verdict import judge, remedy
from enginewright.runtimes.tensorrt.ways import Way, ways
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    import tensorrt

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
    source, wanted = read_source(job.onnx_model), job.asked.settings.precision_mode
    plan = make_plan(trt, source, job.asked, wanted)
    if wanted is not PrecisionMode.auto or job.asked.precision not in QUANTIZED:
        return _build(trt, job, plan)
    failures: dict[Way, ModelError] = {}
    for way in ways(source.features, plan.mode, supports_implicit(trt), job.asked.keep_fp16):
        tried = job.keeping(way.kept)
        try:
            built = _build(trt, tried, make_plan(trt, source, tried.asked, way.mode) if failures else plan)
        except ModelError as fault:
            if not (failures or isinstance(fault, BuildFailed)):
                raise  # nothing that another way could mend
            failures[way] = fault
            continue
        reasons = dict.fromkeys(way.kept, f"TensorRT {trt.__version__} built no engine with it in INT8")
        fallback = [f"{_said(failures)}; the engine is built the {way}"] if failures else []
        return replace(built, left_in_float={**built.left_in_float, **reasons}, findings=[*fallback, *built.findings])
    if len(failures) == 1:
        raise next(iter(failures.values()))
    raise ModelError(f"{'both' if len(failures) == 2 else 'all'} ways to INT8 failed; {_said(failures)}")


def _said(failures: Mapping[Way, ModelError]) -> str:
    return "; ".join(f"the {way} failed: {fault}" for way, fault in failures.items())


class BuildFailed(ModelError):
    """The library parsed the model and made no engine of it, or one without INT8."""


def _build(trt: Bindings, job: Job, plan: BuildPlan) -> BuiltEngine:
    """One way to an engine, from the plan to what the engine says of itself."""
    inputs, plan = native_inputs(plan, job.asked.precision, job.asked.settings.input_type, job.asked.recipe)
    session = Session(trt, plugins=job.asked.plugins)
    network = parse(session, plan.model, job.onnx_model)
    inputs.apply(trt, network)
    config = session.builder.create_builder_config()
    chosen = configure(trt, config, job.asked.settings, job.compute_capabilities)
    for name in plan.flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    warned = list(plan.warnings) + (keep_in_half(trt, network, config, plan.constrained) if plan.constrained else [])
    shapes = profile_shapes(plan.model, job.asked.axes)
    add_profile(session, config, shapes)
    scales, calibrator = _wire_scales(trt, network, config, plan)
    timings = job.timing_cache.attach(config) if job.timing_cache else []
    engine_bytes = _serialize(session, network, config, job)
    del calibrator  # TensorRT holds no reference of its own to it
    if scales:
        scales.reraise()
    if engine_bytes is None:
        raise _no_engine(session, job)
    if job.timing_cache:
        job.timing_cache.store(config)
    settings = {**chosen, **_describe(trt, job, plan, shapes), **inputs.settings()}
    return _judged(session, job, plan, BuiltEngine(engine_bytes, settings=settings, warnings=[*warned, *timings]))


def _no_engine(session: Session, job: Job) -> EnginewrightError:
    """What to raise where the library gave no engine: the device's fault, which another run may not have, or the
    model's.
    """
    library = f"TensorRT {session.trt.__version__}"
    asked = f"the {job.asked.precision.name} engine of {job.onnx_model}"
    if fault := session.log.device_fault():
        return RuntimeUnavailable(
            f"the device failed {library} while it built {asked}: {fault}; free its memory (nvidia-smi), or lower"
            " build.workspace_mib, and run `dvc repro` again"
        )
    return BuildFailed(f"{library} could not build {asked}: {session.log.reason()}")


def _judged(session: Session, job: Job, plan: BuildPlan, built: BuiltEngine) -> BuiltEngine:
    """Add what the engine says of its layers, and the log's warnings. Raises BuildFailed if INT8 was asked for and no
    layer runs in it.
    """
    found, files = describe(session, built.engine_bytes, job.inspect)
    built = replace(built, layers=by_precision(found), quantizable=len(plan.quantizable), files=files)
    warned = session.log.warnings()
    if job.asked.precision not in QUANTIZED:
        return replace(built, warnings=[*built.warnings, *warned])
    verdict = judge(plan, found, job.asked.keep_fp16)
    if verdict.share.none:
        made_by = f"TensorRT {session.trt.__version__}"
        why = "; ".join([f"precision_mode {plan.mode.name}", *warned[:SHOWN]])
        raise BuildFailed(f"{job.onnx_model}: {refusal(verdict.share, made_by, remedy(plan))} ({why})")
    return replace(
        built,
        quantized=sum(ran == INT8 for ran in verdict.ran.values()),
        left_in_float=plan.left_in_float,
        int8=verdict.share.to_dict(),
        findings=verdict.findings,
        warnings=[*built.warnings, *verdict.warnings, *warned],
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


def _wire_scales(
    trt: Bindings, network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig, plan: BuildPlan
) -> tuple[Optional[CacheSource], object]:
    """Give implicit INT8 its scales; the second value must stay alive as long as the build."""
    if plan.scales is None:
        return None, None
    source = CacheSource(complete(trt, network, plan.scales, plan.constrained), version_stamp(trt.__version__))
    calibrator = as_calibrator(trt, plan.scales.header, source)
    config.int8_calibrator = calibrator
    return source, calibrator


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
