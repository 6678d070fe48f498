"""ONNX and scales to an engine: the one body behind build_fp32, build_fp16, build_int8 and build_int8_mixed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from enginewright import manifest
from enginewright.calibration.mixture import Mixture
from enginewright.calibration.recipe import QuantizationRecipe, read_recipe, recipe_files
from enginewright.config import QUANTIZED, Build, InputType, Precision, ranges
from enginewright.errors import CalibrationMismatch, ModelError, RuntimeUnavailable, StaleArtifact
from enginewright.interface import Axes
from enginewright.layout import Layout
from enginewright.manifest import Usage
from enginewright.plugins import CUSTOM_NODES, NO_PLUGINS, Plugins
from enginewright.results.builds import BuildOutcome, BuildState
from enginewright.results.origin import Origin
from enginewright.runtimes import runtime_named
from enginewright.runtimes.base import BuildJob, BuiltEngine, Capability, Runtime
from enginewright.runtimes.built import STAND_IN, STAND_IN_FILE
from enginewright.runtimes.checked import require_checked
from enginewright.runtimes.kernels import for_runtime
from enginewright.stage import Metrics, Stage
from enginewright.target import TargetFingerprint, read_target

# What a backend's `build` says of the model, and would say again: the parser refuses it, FP16 or INT8 cannot be made of
# it, nothing runs in INT8, a scale is missing. Everything else (memory, the device, the disk, a signal, a configuration
# that cannot work) ends the stage, so that DVC runs it again.
REPEATABLE = (ModelError, CalibrationMismatch)


@dataclass(frozen=True)
class Materials:
    """What an engine is built from, verified."""

    inputs: Mapping[Path, str]  # file -> sha256
    usage: Usage  # of the model, which its engines take over
    recipe: Optional[QuantizationRecipe] = None
    keep_fp16: tuple[str, ...] = ()  # ONNX nodes that INT8 leaves in FP16
    plugins: Plugins = NO_PLUGINS
    custom: Mapping[str, str] = field(default_factory=dict)  # node -> its operator, which is not ONNX's

    def job(self, precision: Precision, settings: Build, axes: Axes) -> BuildJob:
        """What a runtime is asked for."""
        return BuildJob(precision, settings, self.recipe, self.keep_fp16, axes, self.plugins)

    def require_unchanged(self, stage: str) -> None:
        """Raises StaleArtifact if a file was written while the engine was built."""
        for path, digest in self.inputs.items():
            if manifest.sha256(path) != digest:
                raise StaleArtifact(f"{path} changed while {stage} ran; run `dvc repro` again")


def build_engine(stage: Stage, precision: Precision) -> Metrics:
    """Build, write and seal artifacts/engines/<precision>/, for the machine that probe_target found.

    Where no engine is asked for, or the backend refuses it for a repeatable reason, a record lies there instead.
    The engine's manifest holds the sha256 of the ONNX and, for INT8, of calib.cache; calib.cache itself is only read.

    Returns:
        outcome; of an engine: seconds, size_mib, layers by precision, int8_share (of Conv, ConvTranspose, Gemm and
        MatMul), int8 (what runs in INT8, in float and unknown), findings, warnings.

    Raises:
        ModelError: check_onnx did not pass the model, or there is no FP32 to judge engines against.
        StaleArtifact: the ONNX, calib.cache or target.json is not whole, or not of this model or machine.
        RuntimeUnavailable: the backend cannot build here, or the device failed it.
    """
    target = read_target(stage.paths.target)
    if precision not in stage.params.build.precisions:
        return _record(stage, BuildOutcome(precision, BuildState.absent), target)
    runtime = _runtime_for(target, stage)
    materials = _materials(stage, precision, runtime)
    try:
        with stage.device(target.device):
            start = time.perf_counter()
            settings = stage.params.build
            settings = replace(settings, timing_cache=str(stage.paths.file(settings.timing_cache)))
            job = materials.job(precision, settings, ranges(stage.params.axes))
            built = runtime.build(stage.paths.model, job)
            seconds = time.perf_counter() - start
    except REPEATABLE as fault:
        return _record(stage, BuildOutcome(precision, BuildState.failed, str(fault)), target, materials.inputs)
    materials.require_unchanged(stage.name)
    _write(stage, stage.paths.engine(precision.value, runtime.engine_file), built, materials, target)
    _forget(stage.paths, precision)
    origin = Origin(target.identity(), materials.inputs[stage.paths.model])
    return BuildOutcome(precision, BuildState.built, "", _figures(built, seconds), origin).to_json()


def int8_share(built: BuiltEngine) -> float:
    """The share of the model's Conv, ConvTranspose, Gemm and MatMul that are known to run in INT8, 0 to 1."""
    return built.quantized / built.quantizable if built.quantizable else 0.0


def _figures(built: BuiltEngine, seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "size_mib": len(built.engine_bytes) / 2**20,
        "layers": dict(built.layers),
        "quantizable": built.quantizable,
        "int8_share": int8_share(built),
        **({"int8": dict(built.int8)} if built.int8 else {}),
        "findings": list(built.findings),
        "warnings": len(built.warnings),
    }


def _runtime_for(target: TargetFingerprint, stage: Stage) -> Runtime:
    runtime = runtime_named(target.runtime)
    if reason := runtime.why_not(Capability.build):
        raise StaleArtifact(
            f"{stage.paths.target} names the runtime {target.runtime}, which cannot build here: {reason}; or run `dvc"
            " repro probe_target`"
        )
    if differences := target.differences(runtime.target_for(stage.params.build)):
        raise StaleArtifact(
            f"{stage.paths.target} describes another machine: {', '.join(differences)}; run `dvc repro`, which probes"
            " first"
        )
    return runtime


def _materials(stage: Stage, precision: Precision, runtime: Runtime) -> Materials:
    """Verify what a precision is built from. Raises StaleArtifact, ModelError, CalibrationMismatch, ConfigError."""
    paths = stage.paths
    model = require_checked(paths)
    plugins = for_runtime(runtime, stage.params.model, paths)
    inputs = [paths.model]
    recipe: Optional[QuantizationRecipe] = None
    keep_fp16: tuple[str, ...] = ()
    if precision in QUANTIZED:
        recipe = read_recipe(paths)
        inputs += recipe_files(paths)
        keep_fp16 = recipe.float_decoding
    if precision is Precision.int8_mixed:
        keep_fp16 = tuple(dict.fromkeys((*keep_fp16, *_kept_nodes(paths))))
        inputs.append(paths.mixed_layers)
    digests = {path: manifest.sha256(path) for path in inputs}
    custom = model.settings.get(CUSTOM_NODES, {})
    return Materials(digests, model.usage, recipe, keep_fp16, plugins, custom)


def _kept_nodes(paths: Layout) -> tuple[str, ...]:
    """The nodes that stay in FP16, from a layers.yaml that is whole and was made for the model that lies here."""
    from enginewright.graph import stored

    manifest.verify(paths.mixed_layers)
    mixture, model = Mixture.read(paths.mixed_layers), stored.read(paths.model)
    return mixture.resolved(model, str(paths.mixed_layers)).nodes(model)


def _record(
    stage: Stage, outcome: BuildOutcome, target: TargetFingerprint, inputs: Optional[Iterable[Path]] = None
) -> Metrics:
    """Seal why there is no engine; of FP32, beside it what the others are judged against."""
    paths, name = stage.paths, outcome.precision.value
    origin = Origin(target.identity(), manifest.verify(paths.model).sha256)
    if outcome.precision is Precision.fp32:
        _stand_in(stage, outcome)
    with stage.output(paths.build_record(name), inputs or [paths.model], target) as temporary:
        manifest.write_json(temporary, outcome.to_json())
    for engine in paths.build_record(name).parent.glob("engine.*"):
        engine.unlink()  # of an earlier run by hand; DVC removes it before it runs a stage
    print(f"{stage.name}: there is no engine, and the others are judged: {outcome.says()}", file=sys.stderr)
    return replace(outcome, origin=origin).to_json()


def _stand_in(stage: Stage, outcome: BuildOutcome) -> None:
    """Build FP32 for ONNX Runtime. Where FP32 was asked for and refused, validate_accuracy says that there is none.

    Raises:
        RuntimeUnavailable, ModelError: FP32 was not asked for, and ONNX Runtime is not here or does not take the model.
    """
    runtime = runtime_named(STAND_IN)
    materials = _materials(stage, Precision.fp32, runtime)
    settings = replace(stage.params.build, input_type=InputType.float32)
    try:
        built = runtime.build(stage.paths.model, materials.job(Precision.fp32, settings, ranges(stage.params.axes)))
    except (RuntimeUnavailable, ModelError) as fault:
        if outcome.state is BuildState.failed:
            return
        raise type(fault)(
            f"build.precisions does not hold fp32, and ONNX Runtime cannot stand in for it: {fault}; or add fp32 to it"
        ) from None
    engine = stage.paths.engine(Precision.fp32.value, STAND_IN_FILE)
    _write(stage, engine, built, materials, runtime.fingerprint())


def _write(stage: Stage, engine: Path, built: BuiltEngine, materials: Materials, target: TargetFingerprint) -> None:
    """The builder's files first, then the engine, whose manifest holds their hashes."""
    for name, content in built.files.items():
        with manifest.replacing(engine.with_name(name)) as temporary:
            temporary.write_bytes(content)
    materials.plugins.copy_beside(engine)
    left = {**built.left_in_float, **_custom_in_float(materials)}
    settings: dict[str, Any] = {
        **built.settings,
        "layers": dict(built.layers),
        "int8_share": int8_share(built),
        **({"left_in_float": left} if left else {}),
        **({"int8": dict(built.int8)} if built.int8 else {}),
        "findings": list(built.findings),
        "warnings": list(built.warnings),
    }
    roles = {**{name: Path(name).stem for name in built.files}, **materials.plugins.roles}
    with stage.output(engine, materials.inputs, target, settings, files=roles, usage=materials.usage) as temporary:
        temporary.write_bytes(built.engine_bytes)


def _custom_in_float(materials: Materials) -> dict[str, str]:
    """Of an INT8 engine: the custom nodes, which no recipe quantizes."""
    if materials.recipe is None:
        return {}
    return {name: f"{kind} is a custom operator, and INT8 is for ONNX's own" for name, kind in materials.custom.items()}


def _forget(paths: Layout, precision: Precision) -> None:
    """Remove what an earlier run by hand left in place of the engine; DVC does so before it runs a stage."""
    for artifact in (paths.build_record(precision.value), paths.engine(precision.value, STAND_IN_FILE)):
        for path in (artifact, manifest.sidecar(artifact)):
            path.unlink(missing_ok=True)
