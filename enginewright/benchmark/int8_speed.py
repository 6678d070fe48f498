"""INT8 that is slower than FP16.

One sentence with both numbers and what to try, the same wherever speeds stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from enginewright.config import QUANTIZED, Precision, ScenarioName
from enginewright.results.speed import SpeedResult

SLOWER = 1.02  # beyond this ratio; below it two measurements of the same engine differ by as much
RATES = {
    ScenarioName.offline: ("throughput_images_per_s", "images/s"),
    ScenarioName.server: ("highest_queries_per_s", "queries/s"),
}
TIMES = {ScenarioName.single_stream: ("latency_ms_p50", "ms"), ScenarioName.multi_stream: ("latency_ms_p50", "ms")}
TRY = (
    "use the FP16 engine, or try the other build.precision_mode, or leave the layers in FP16 that "
    "artifacts/profile/side_by_side.csv calls slower (search_mixed.layers)"
)


def slower(precision: str, int8: float, fp16: float, unit: str, where: str) -> Optional[str]:
    """The finding, or None if an INT8 engine is as fast as FP16's.

    Args:
        precision: of the INT8 engine.
        int8: its speed, or its time.
        fp16: the same of FP16.
        unit: what both are in; "ms" is a time, anything else a rate.
        where: under which load, in words.
    """
    if int8 <= 0 or fp16 <= 0:
        return None
    ratio = fp16 / int8 if unit == "ms" else int8 / fp16
    if ratio * SLOWER >= 1:
        return None
    shown = [
        f"{value:,.3f}" if unit == "ms" else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        for value in (int8, fp16)
    ]
    return (
        f"{precision} is slower than fp16 ({where}): {shown[0]} against {shown[1]} {unit}, {ratio:.2f} of its speed;"
        f" {TRY}"
    )


def slower_under_load(speed: SpeedResult) -> Iterator[str]:
    """The findings in what benchmark_sustained measured, for each INT8 engine and scenario."""
    for precision in QUANTIZED:
        for scenario, (key, unit) in {**RATES, **TIMES}.items():
            own, fp16 = (speed.figure(name, scenario, key) for name in (precision, Precision.fp16))
            if finding := slower(precision.value, own or 0.0, fp16 or 0.0, unit, scenario.value):
                yield finding
