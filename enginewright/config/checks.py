"""Values of params.yaml out of range, and combinations that cannot work."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from enginewright.config.choices import ChannelOrder, Layout, Precision, ScenarioName

if TYPE_CHECKING:
    from enginewright.config import Model, Params, Preprocessing


def faults_of(params: Params) -> list[tuple[str, str]]:
    """Values out of range and combinations that cannot work, as (key, what is wrong and what to do)."""
    found: list[tuple[str, str]] = []

    def need(key: str, holds: bool, fault: str) -> None:
        if not holds:
            found.append((key, fault))

    data, build, profile = params.data, params.build, params.build.profile
    for key, count in {
        "data.train_images": data.train_images + 1,  # 0 images is right where nothing is trained
        "data.calibration_images": data.calibration_images,
        "data.sensitivity_images": data.sensitivity_images,
        "data.validation_images": data.validation_images,
        "train.epochs": params.train.epochs,
        "train.batch_size": params.train.batch_size,
        "calibration.batch_size": params.calibration.batch_size,
        "check_drift.images": params.check_drift.images,
        "build.profile.min": profile.min,
        "build.workspace_mib": build.workspace_mib,
        "analyze_sensitivity.batch_size": params.analyze_sensitivity.batch_size,
        "search_mixed.evaluations": params.search_mixed.evaluations,
        "accuracy.batch_size": params.accuracy.batch_size,
        "profile_layers.batch_size": params.profile_layers.batch_size,
        "profile_layers.runs": params.profile_layers.runs,
        "benchmark.batch_size": params.benchmark.batch_size,
        "benchmark.samples_per_query": params.benchmark.samples_per_query,
        "benchmark.server.max_batch": params.benchmark.server.max_batch,
    }.items():
        need(key, count >= 1, f"{count} is too small, it must be at least 1")
    for key, seconds in {
        "benchmark.seconds": params.benchmark.seconds,
        "benchmark.window_seconds": params.benchmark.window_seconds,
        "benchmark.batch_curve_seconds": params.benchmark.batch_curve_seconds,
        "benchmark.server.latency_ms": params.benchmark.server.latency_ms,
        "benchmark.server.probe_seconds": params.benchmark.server.probe_seconds,
        "benchmark.server.queries_per_s": (
            1.0 if params.benchmark.server.queries_per_s is None else params.benchmark.server.queries_per_s
        ),
        "train.learning_rate": params.train.learning_rate,
        "export.tolerance": params.export.tolerance,
        "check_drift.saturation_excess": params.check_drift.saturation_excess,
        "check_drift.distance": params.check_drift.distance,
        "data.preprocessing.scale": data.preprocessing.scale,
    }.items():
        need(key, math.isfinite(seconds) and seconds > 0, f"{seconds} must be a positive number")
    need("seed", 0 <= params.seed < 2**64, f"{params.seed} must not be negative, nor take more than 64 bits")
    need("benchmark.warmup_seconds", params.benchmark.warmup_seconds >= 0, "must not be negative")
    need(
        "data.calibration_images",
        data.calibration_images <= data.calibration_pool,
        f"{data.calibration_images} images are asked for and data.calibration_pool sets {data.calibration_pool} apart;"
        " raise the pool or ask for fewer",
    )
    need(
        "data.selection_seed",
        data.selection_seed is None or data.selection_seed >= 0,
        f"{data.selection_seed} must not be negative; null takes seed",
    )
    need(
        "export.opset_version",
        13 <= params.export.opset_version <= 20,
        "must be 13 (per-channel Q/DQ) to 20; TensorRT 8.6 parses 17 at most",
    )
    need(
        "calibration.percentile", 50 < params.calibration.percentile <= 100, "is a percentage, over 50 and at most 100"
    )
    need(
        "check_drift.percentile_ratio",
        params.check_drift.percentile_ratio > 1,
        f"{params.check_drift.percentile_ratio} must be over 1",
    )
    need(
        "calibration.bins",
        params.calibration.bins >= 256,
        "must be at least 256: entropy compares with 128 quantized levels",
    )
    need(
        "build.profile",
        profile.min <= profile.opt <= profile.max,
        f"min {profile.min} <= opt {profile.opt} <= max {profile.max} does not hold",
    )
    need("build.optimization_level", 0 <= build.optimization_level <= 5, f"{build.optimization_level} is not in 0 to 5")
    for capability in build.compute_capabilities:
        need(
            "build.compute_capabilities",
            re.fullmatch(r"\d+\.\d", capability) is not None,
            f"'{capability}' is not like 8.6",
        )
    for key, ratio in {
        "accuracy.minimum_ratio": params.accuracy.minimum_ratio,
        "accuracy.maximum_loss": params.accuracy.maximum_loss,
        "train.minimum_figure": params.train.minimum_figure,
        "search_mixed.minimum_int8_share": params.search_mixed.minimum_int8_share,
        "search_mixed.margin": params.search_mixed.margin,
    }.items():
        need(key, 0 <= ratio <= 1, f"{ratio} is a fraction, 0 to 1")
    need(
        "analyze_sensitivity.evaluations",
        params.analyze_sensitivity.evaluations >= 3,
        "must be at least 3: all layers in INT8, one block alone, all but it",
    )
    need(
        "accuracy.gated",
        {Precision.fp32}.isdisjoint(params.accuracy.gated),
        "holds fp32, which the others are measured against",
    )
    floor = params.accuracy.minimum_sqnr_db
    need(
        "accuracy.minimum_sqnr_db",
        floor is None or math.isfinite(floor),
        f"{floor} is no number of decibels; null asks for none",
    )
    need(
        "accuracy.confidence",
        0 < params.accuracy.confidence < 1,
        f"{params.accuracy.confidence} is a fraction, over 0 and under 1",
    )
    for key, batch in {
        "accuracy.batch_size": params.accuracy.batch_size,
        "profile_layers.batch_size": params.profile_layers.batch_size,
        "benchmark.batch_size": params.benchmark.batch_size,
        "benchmark.samples_per_query": (
            params.benchmark.samples_per_query if ScenarioName.multi_stream in params.benchmark.scenarios else 1
        ),
        "benchmark.server.max_batch": (
            params.benchmark.server.max_batch if ScenarioName.server in params.benchmark.scenarios else 1
        ),
        "benchmark.batch_curve": max(params.benchmark.batch_curve, default=profile.min),
    }.items():
        need(
            key,
            batch <= profile.max,
            f"{batch} is over build.profile.max = {profile.max}; raise the profile or lower the batch",
        )
    scenarios = params.benchmark.scenarios
    need(
        "benchmark.scenarios",
        0 < len(set(scenarios)) == len(scenarios),
        "must name one scenario at least, and none twice",
    )
    need(
        "benchmark.server.percentile",
        50 <= params.benchmark.server.percentile < 100,
        "is a percentage, at least 50 and under 100",
    )
    need(
        "benchmark.batch_curve",
        all(batch >= profile.min for batch in params.benchmark.batch_curve),
        f"holds a batch under build.profile.min = {profile.min}",
    )
    found.extend(_preprocessing_faults(data.preprocessing, params.model))
    return found


def _preprocessing_faults(preprocessing: Preprocessing, model: Model) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    channels = 1 if preprocessing.channels is ChannelOrder.gray else 3
    if len(preprocessing.crop) != 2 or min(preprocessing.crop) < 1:
        return [("data.preprocessing.crop", f"{preprocessing.crop} is not [height, width] in pixels")]
    for name, values in {"mean": preprocessing.mean, "std": preprocessing.std}.items():
        if len(values) != channels:
            found.append(
                (
                    f"data.preprocessing.{name}",
                    f"has {len(values)} values for {channels} channels ({preprocessing.channels.name})",
                )
            )
    if any(value <= 0 for value in preprocessing.std):
        found.append(("data.preprocessing.std", "holds a value that is not positive"))
    shape = [channels, *preprocessing.crop] if preprocessing.layout is Layout.nchw else [*preprocessing.crop, channels]
    if shape != model.input_shape:
        found.append(
            (
                "model.input_shape",
                f"{model.input_shape} is not what data.preprocessing makes, {shape}; change one of the two",
            )
        )
    return found
