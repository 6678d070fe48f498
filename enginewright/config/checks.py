"""Combinations of settings that cannot work. The range of one setting stands on its field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from enginewright.config import inputs, plugins, preprocessing, sources
from enginewright.config.choices import Precision, ScenarioName
from enginewright.config.data import Data
from enginewright.config.measurement import Benchmark
from enginewright.config.model import MOST_CODE, Model, tracked
from enginewright.config.params import Params
from enginewright.interface import BATCH

Fault = tuple[str, str]  # key, what is wrong and what to do


def contradictions(params: Params) -> Iterator[Fault]:
    """Yield each combination that cannot work as (key, what is wrong and what to do)."""
    yield from _code("model", params.model)
    yield from _code("data", params.data)
    yield from sources.faults(params.data)
    yield from plugins.faults(params.model.plugins, params.model.tracked_plugins)
    yield from _pool(params.data)
    yield from inputs.faults(params.model, params.axes)
    yield from _precisions(params.build.precisions)
    yield from _gated(params)
    yield from _batches(params)
    yield from _scenarios(params.benchmark)
    yield from preprocessing.faults(params.data.preprocessing)
    if params.data.preprocessing.recipe in preprocessing.OF_IMAGES:  # another recipe says itself what it makes
        yield from inputs.of_images(params.data.preprocessing, params.model.inputs, params.axes)


def _code(key: str, section: Union[Model, Data]) -> Iterator[Fault]:
    named = [section.code] if isinstance(section.code, str) else section.code
    if not isinstance(named, list) or not named or not all(isinstance(path, str) and path for path in named):
        yield f"{key}.code", f"{section.code} is not a file or folder, or a list of them"
    elif len(named) > MOST_CODE:
        yield f"{key}.code", f"{len(named)} files and folders, and DVC sees {MOST_CODE}; put some into one folder"
    elif section.tracked_code != tracked(named):
        yield (
            f"{key}.tracked_code",
            f"{section.tracked_code} is not what DVC should see of {key}.code; set {key}.code alone, with"
            " `enginewright configure`",
        )


def _pool(data: Data) -> Iterator[Fault]:
    if data.calibration_images > data.calibration_pool:
        yield (
            "data.calibration_images",
            f"{data.calibration_images} images are asked for and data.calibration_pool sets {data.calibration_pool}"
            " apart; raise the pool or ask for fewer",
        )


def _precisions(asked: list[Precision]) -> Iterator[Fault]:
    if not 0 < len(set(asked)) == len(asked):
        named = ", ".join(precision.name for precision in asked)
        yield "build.precisions", f"[{named}] must name one precision at least, and none twice"


def _gated(params: Params) -> Iterator[Fault]:
    asked, named = params.build.precisions, ", ".join(precision.name for precision in params.build.precisions)
    for precision in params.accuracy.gated:
        if precision not in asked and precision is not Precision.fp32:
            yield (
                "accuracy.gated",
                f"holds {precision.name}, which build.precisions [{named}] does not name; add it there, or"
                " leave it out",
            )
    if Precision.fp32 in params.accuracy.gated:
        yield "accuracy.gated", "holds fp32, which the others are measured against; leave it out"


def _batches(params: Params) -> Iterator[Fault]:
    """Batches that engines do not take."""
    axis, benchmark = params.axes[BATCH], params.benchmark
    batches = {
        "accuracy.batch_size": params.accuracy.batch_size,
        "profile_layers.batch_size": params.profile_layers.batch_size,
        "benchmark.batch_size": benchmark.batch_size,
        "benchmark.batch_curve": max(benchmark.batch_curve, default=axis.min),
    }
    if ScenarioName.multi_stream in benchmark.scenarios:
        batches["benchmark.samples_per_query"] = benchmark.samples_per_query
    if ScenarioName.server in benchmark.scenarios:
        batches["benchmark.server.max_batch"] = benchmark.server.max_batch
    for key, batch in batches.items():
        if batch > axis.max:
            yield key, f"{batch} is over axes.batch.max = {axis.max}; raise it or lower the batch"
        if batch < axis.min and key in ("benchmark.batch_size", "benchmark.samples_per_query"):
            yield key, f"{batch} is under axes.batch.min = {axis.min}; raise it"
    alone = [one.name for one in benchmark.scenarios if one in (ScenarioName.single_stream, ScenarioName.server)]
    if axis.min > 1 and alone:
        yield (
            "benchmark.scenarios",
            f"[{', '.join(alone)}] would feed one sample at a time, under axes.batch.min = {axis.min}; leave that out,"
            " as in [offline]",
        )
    smallest = min(benchmark.batch_curve, default=axis.min)
    if smallest < axis.min:
        yield "benchmark.batch_curve", f"{smallest} is under axes.batch.min = {axis.min}; leave it out"


def _scenarios(benchmark: Benchmark) -> Iterator[Fault]:
    if not 0 < len(set(benchmark.scenarios)) == len(benchmark.scenarios):
        named = [scenario.name for scenario in benchmark.scenarios]
        yield "benchmark.scenarios", f"[{', '.join(named)}] must name one scenario at least, and none twice"
