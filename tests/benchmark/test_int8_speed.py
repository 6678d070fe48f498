"""INT8 slower than FP16 is one sentence with both numbers and what to try, wherever speeds stand side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest
from rich.console import Console

from enginewright import pareto
from enginewright.benchmark import layers
from enginewright.benchmark.int8_speed import slower, slower_under_load
from enginewright.cli.compare import compare
from enginewright.config import Precision
from enginewright.results.pareto import ParetoRow
from enginewright.results.shape import SampleShape
from enginewright.results.verdicts import Outcome
from enginewright.runtimes.base import LayerTime
from enginewright.views.committed import read_speed
from enginewright.views.layers import show

# ViT-B/16 on an H200, batch 32 (docs/decisions/0020-precision-mode.md).
SENTENCE = (
    "int8 is slower than fp16 (offline): 4,700 against 5,760 images/s, 0.82 of its speed; use the FP16 engine, or try "
)


@pytest.mark.parametrize(
    ("int8", "fp16", "unit", "says"),
    [
        (4700.0, 5760.0, "images/s", SENTENCE),
        (5760.0, 4700.0, "images/s", None),
        (5700.0, 5760.0, "images/s", None),  # two measurements of one engine differ by as much
        (1.5, 1.2, "ms", "int8 is slower than fp16 (offline): 1.500 against 1.200 ms, 0.80 of its speed; "),
        (1.2, 1.5, "ms", None),
        (0.0, 1.5, "ms", None),  # not measured
    ],
)
def test_the_sentence(int8: float, fp16: float, unit: str, says: Optional[str]) -> None:
    found = slower("int8", int8, fp16, unit, "offline")
    assert found is None if says is None else found is not None and found.startswith(says)


def measured(int8: float, mixed: float = 6000.0) -> dict[str, Any]:
    rates = {"fp32": 1000.0, "fp16": 5760.0, "int8": int8, "int8_mixed": mixed}
    return {name: {"offline": {"throughput_images_per_s": rate}, "engine_sha256": name} for name, rate in rates.items()}


def test_each_engine_and_scenario_is_judged() -> None:
    load = measured(4700.0, 5000.0)
    load["fp16"]["single_stream"], load["int8"]["single_stream"] = {"latency_ms_p50": 2.0}, {"latency_ms_p50": 3.0}
    found = list(slower_under_load(read_speed(load)))
    assert [finding.split(":")[0] for finding in found] == [
        "int8 is slower than fp16 (offline)",
        "int8 is slower than fp16 (single_stream)",
        "int8_mixed is slower than fp16 (offline)",
    ]
    assert list(slower_under_load(read_speed(measured(9000.0)))) == []
    assert list(slower_under_load(read_speed({"settings": {}}))) == []


def test_compare_says_it_and_what_the_builds_found(tmp_path: Path) -> None:
    stages = {"validate_accuracy": {}, "benchmark_sustained": measured(4700.0)}
    builds = {
        f"build_{name}": {"findings": [f"a finding about {name}"] if name == "int8" else []}
        for name in ("fp32", "fp16", "int8", "int8_mixed")
    }
    for stage, content in {**stages, **builds}.items():
        (tmp_path / f"{stage}.json").write_text(json.dumps(content))
    notes = compare(tmp_path, "none").notes
    assert "int8: a finding about int8" in notes
    assert [note for note in notes if note.startswith(SENTENCE)]


def test_pareto_says_it() -> None:
    def rows(*rates: float) -> list[ParetoRow]:
        return [
            ParetoRow(precision, "", "", "offline", rate, None, "top1", 1.0, 1.0, 1.0, None, Outcome.passed, front=True)
            for precision, rate in zip((Precision.fp32, Precision.fp16, Precision.int8), rates)
        ]

    (finding,) = pareto.findings(rows(1000.0, 5760.0, 4700.0))
    assert finding.startswith(SENTENCE)
    assert not list(pareto.findings(rows(1.0, 2.0, 3.0)))


def test_the_profile_says_it() -> None:
    profiles = {
        "fp16": [LayerTime("a", 0.8, "FP16"), LayerTime("b", 0.4, "FP16")],
        "int8": [LayerTime("a", 1.0, "INT8"), LayerTime("b", 0.5, "INT8")],
    }
    comparison = layers.side_by_side(profiles)
    shape = SampleShape({"images": (3, 32, 48)}, 12, 40, 3)
    found = layers.summary(profiles, comparison, 8, shape)
    (finding,) = found.findings
    assert finding.startswith(
        "int8 is slower than fp16 (all layers at batch 8, under the profiler): 1.500 against 1.200 ms, 0.80 of its"
        " speed; "
    )
    console = Console(record=True, width=300)
    show(layers.tables(profiles), found, console)
    printed = console.export_text()
    assert "Finding: int8 is slower than fp16" in printed
    assert "Fed with batches of 8 of images [3, 32, 48], the shape of 12 of 40 samples (3 shapes)." in printed
