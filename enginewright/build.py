"""ONNX and scales to an engine: the one body behind build_fp32, build_fp16, build_int8 and build_int8_mixed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Optional

from enginewright import manifest, target
from enginewright.calibration.mixture import Mixture
from enginewright.calibration.recipe import QuantizationRecipe, read_recipe, recipe_files
from enginewright.config import QUANTIZED, Precision, RuntimeName
from enginewright.errors import StaleArtifact
from enginewright.layout import Layout
from enginewright.manifest import Usage
from enginewright.runtimes import runtime_named
from enginewright.runtimes.base import BuiltEngine, Runtime, Task
from enginewright.runtimes.checked import require_checked
from enginewright.stage import Metrics, Stage
from enginewright.target import TargetFingerprint


def build_engine(stage: Stage, precision: Precision) -> Metrics:
    """Build, write and seal artifacts/engines/<precision>/, for the machine that probe_target found.

    The engine's manifest holds the sha256 of the ONNX and, for INT8, of calib.cache; calib.cache itself is only read.

    Returns:
        seconds, size_mib, layers by precision, int8_share (of Conv, ConvTranspose, Gemm and MatMul),
        int8 (what runs in INT8, in float and unknown), findings, warnings.

    Raises:
        ModelError: check_onnx did not pass the model, or the backend cannot take it.
        StaleArtifact: the ONNX, calib.cache or target.json is not whole, or not of this model or machine.
        CalibrationMismatch: calib.cache has no scale for a tensor that needs one.
        RuntimeUnavailable: the backend cannot build here.
    """
    paths = stage.paths
    where = target.read_target(paths.target)
    runtime = _runtime_for(where, stage)
    model = require_checked(paths)
    inputs = [paths.model]
    recipe: Optional[QuantizationRecipe] = None
    floats: tuple[str, ...] = ()
    if precision in QUANTIZED:
        recipe = read_recipe(paths)
        inputs += recipe_files(paths)
    if precision is Precision.int8_mixed:
        floats = _float_nodes(paths)
        inputs.append(paths.mixed_layers)
    before = {path: manifest.sha256(path) for path in inputs}
    with stage.device(where.device):
        start = time.perf_counter()
        built = runtime.build(paths.model, precision, stage.params.build, recipe, floats)
        seconds = time.perf_counter() - start
    for path, digest in before.items():
        if manifest.sha256(path) != digest:
            raise StaleArtifact(f"{path} changed while {stage.name} ran; run `dvc repro` again")
    _write(stage, paths.engine(precision.name, runtime.engine_file), built, (inputs, where, model.usage))
    return {
        "seconds": seconds,
        "size_mib": len(built.plan) / 2**20,
        "layers": dict(built.layers),
        "quantizable": built.quantizable,
        "int8_share": int8_share(built),
        **({"int8": dict(built.int8)} if built.int8 else {}),
        "findings": list(built.findings),
        "warnings": len(built.warnings),
        manifest.MODEL_SHA256: before[paths.model],
        "target": where.identity(),
    }


def int8_share(built: BuiltEngine) -> float:
    """The share of the model's Conv, ConvTranspose, Gemm and MatMul that are known to run in INT8, 0 to 1."""
    return built.quantized / built.quantizable if built.quantizable else 0.0


def _runtime_for(where: TargetFingerprint, stage: Stage) -> Runtime:
    runtime = runtime_named(RuntimeName[where.runtime])
    if reason := runtime.why_not(Task.build):
        raise StaleArtifact(
            f"{stage.paths.target} names the runtime {where.runtime}, which cannot build here: {reason}; or run `dvc"
            " repro probe_target`"
        )
    if differences := where.differences(runtime.fingerprint(stage.params.build)):
        raise StaleArtifact(
            f"{stage.paths.target} describes another machine: {', '.join(differences)}; run `dvc repro`, which probes"
            " first"
        )
    return runtime


def _float_nodes(paths: Layout) -> tuple[str, ...]:
    """The nodes that stay in FP16, from a layers.yaml that is whole and was made for the model that lies here."""
    import onnx

    manifest.verify(paths.mixed_layers)
    mixture, model = Mixture.read(paths.mixed_layers), onnx.load(str(paths.model))
    mixture.require(model, str(paths.mixed_layers))
    return mixture.nodes(model)


def _write(stage: Stage, engine: Path, built: BuiltEngine, origin: tuple[list[Path], TargetFingerprint, Usage]) -> None:
    """The builder's files first, then the engine, whose manifest holds their hashes."""
    for name, content in built.files.items():
        with manifest.replacing(engine.with_name(name)) as temporary:
            temporary.write_bytes(content)
    settings: dict[str, Any] = {
        **built.settings,
        "layers": dict(built.layers),
        "int8_share": int8_share(built),
        **({"left_in_float": dict(built.left_in_float)} if built.left_in_float else {}),
        **({"int8": dict(built.int8)} if built.int8 else {}),
        "findings": list(built.findings),
        "warnings": list(built.warnings),
    }
    inputs, where, usage = origin
    roles = {name: Path(name).stem for name in built.files}
    with stage.output(engine, inputs, where, settings, files=roles, usage=usage) as temporary:
        temporary.write_bytes(built.plan)
