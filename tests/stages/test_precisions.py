"""Engines that were not asked for, or refused: the others are built, judged, measured and compared all the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pandas as pd
import pytest
import yaml

from enginewright import manifest
from enginewright.calibration.mixture import FloatLayer, Mixture
from enginewright.cli.compare import compare
from enginewright.config import Precision
from enginewright.data.imageset import write_classes, write_labels
from enginewright.errors import CalibrationMismatch, ConfigError, ModelError, RuntimeUnavailable, StaleArtifact
from enginewright.results.builds import BuildOutcome, BuildState
from enginewright.results.verdicts import Drift, Judgement
from enginewright.runtimes.base import BuildJob, Capability
from enginewright.runtimes.onnxruntime import RUNTIME
from stages.benchmark_sustained import benchmark_sustained
from stages.build_fp16 import build_fp16
from stages.build_fp32 import build_fp32
from stages.build_int8 import build_int8
from stages.build_int8_mixed import build_int8_mixed
from stages.calibrate import calibrate
from stages.gate import gate
from stages.pareto import pareto
from stages.profile_layers import profile_layers
from stages.validate_accuracy import validate_accuracy
from support.checked_model import write_images, write_model, write_target
from support.project import PATHS

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], None]], tuple[int, str]]
BUILDS = {
    Precision.fp32: build_fp32,
    Precision.fp16: build_fp16,
    Precision.int8: build_int8,
    Precision.int8_mixed: build_int8_mixed,
}
READERS = (validate_accuracy, profile_layers, benchmark_sustained, pareto)
REFUSED = "node 'conv1' (Conv): no"


def configure(**sections: Mapping[str, Any]) -> None:
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    for name, values in sections.items():
        params[name].update(values)
    path.write_text(yaml.safe_dump(params))


def metrics_of(stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATHS.metrics_of(stage).read_text())
    return found


@pytest.fixture
def ready(configured: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    """A calibrated model, a mixture, validation images, and the records of the stages that look at no engine."""
    monkeypatch.setattr(sys, "argv", ["stage"])
    configure(
        calibration={"algorithm": "minmax"},
        accuracy={"minimum_ratio": 0.5, "minimum_sqnr_db": None, "require_signal": False, "gated": ["int8"]},
        benchmark={
            "scenarios": ["offline"],
            "driver": "own",
            "seconds": 0.01,
            "warmup_seconds": 0.0,
            "batch_curve": [],
        },
        profile_layers={"runs": 1, "batch_size": 2},
    )
    write_model()
    write_images()
    write_target()
    code, printed = run(calibrate)
    assert code == 0, printed
    with manifest.replacing(PATHS.mixed_layers) as temporary:
        temporary.write_text(Mixture((FloatLayer("Conv_3"),)).to_text())
    manifest.seal(PATHS.mixed_layers, "search_mixed", [PATHS.model])
    PATHS.validation.mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)
    np.save(PATHS.validation / "images.npy", pixels)
    write_labels(PATHS.validation / "labels.csv", [f"{index}.png" for index in range(40)], [-1] * 40)
    write_classes(PATHS.validation / "classes.json", [])
    for path in list(PATHS.validation.iterdir()):
        manifest.seal(path, "prepare_data", [])
    report = PATHS.drift / "report.json"
    manifest.write_json(report, Drift("alike").to_json())
    manifest.seal(report, "check_drift", [])
    return configured


def refuse(monkeypatch: pytest.MonkeyPatch, *precisions: Precision, fault: Optional[BaseException] = None) -> None:
    """Let ONNX Runtime's builder raise for these precisions."""
    build = type(RUNTIME).build

    def refusing(self: Any, model: Path, job: BuildJob) -> Any:
        if job.precision in precisions:
            raise ModelError(REFUSED) if fault is None else fault
        return build(self, model, job)

    monkeypatch.setattr(type(RUNTIME), "build", refusing)


def build_all(run: Run) -> str:
    said = ""
    for stage in BUILDS.values():
        code, printed = run(stage)
        assert code == 0, printed
        said += printed
    return said


def measure_all(run: Run) -> str:
    said = ""
    for stage in READERS:
        code, printed = run(stage)
        assert code == 0, (stage, printed)
        said += printed
    return said


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(ModelError(REFUSED), id="the parser refuses it"),
        pytest.param(CalibrationMismatch("no scale for a"), id="a scale is missing"),
    ],
)
def test_what_a_second_build_would_meet_again_is_recorded(
    ready: Path, run: Run, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    refuse(monkeypatch, Precision.int8, fault=fault)
    code, printed = run(build_int8)
    assert code == 0, printed
    assert f"int8 was refused by build_int8: {fault}" in printed
    record = PATHS.build_record("int8")
    assert set(manifest.verify(record).inputs) == {str(PATHS.model), str(PATHS.calibration_cache)}
    outcome = BuildOutcome.from_json(json.loads(record.read_text()))
    assert outcome == BuildOutcome(Precision.int8, BuildState.failed, str(fault))
    assert metrics_of("build_int8")["outcome"] == "failed"


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        pytest.param(RuntimeUnavailable("the device failed"), SystemExit, id="the device"),
        pytest.param(MemoryError("bad allocation"), MemoryError, id="memory"),
        pytest.param(OSError(5, "Input/output error"), OSError, id="the disk"),
        pytest.param(ConfigError("build.input_type: native"), SystemExit, id="a configuration that cannot work"),
        pytest.param(StaleArtifact("changed"), SystemExit, id="a stale artifact"),
        pytest.param(KeyboardInterrupt(), SystemExit, id="Ctrl-C"),
        pytest.param(RuntimeError("a bug"), RuntimeError, id="a bug"),
    ],
)
def test_everything_else_fails_the_stage_and_is_not_recorded(
    ready: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, ends: type[BaseException]
) -> None:
    refuse(monkeypatch, Precision.int8, fault=fault)
    with pytest.raises(ends) as raised:
        build_int8()
    assert raised.value is fault or (isinstance(raised.value, SystemExit) and raised.value.code != 0)
    assert not PATHS.build_record("int8").parent.exists()
    assert not PATHS.metrics_of("build_int8").exists()


@pytest.mark.parametrize("gated", ["int8", "int8_mixed"])
def test_one_refused_engine_leaves_the_verdict_on_the_others(
    ready: Path, run: Run, monkeypatch: pytest.MonkeyPatch, gated: str
) -> None:
    configure(accuracy={"gated": [gated]})
    refuse(monkeypatch, Precision.int8_mixed)
    build_all(run)
    printed = measure_all(run)
    sentence = f"int8_mixed was refused by build_int8_mixed: {REFUSED}"
    assert f"Not judged: {sentence}" in printed
    found = metrics_of("validate_accuracy")
    assert found["not_judged"] == {"int8_mixed": sentence}
    assert "int8_mixed" not in found
    assert found["gate"]["int8"]["passed"] is found["gate"]["fp16"]["passed"] is True
    assert (found["gate"]["verdict"], found["gate"]["passed"]) == (
        ("passed", True) if gated == "int8" else ("failed", False)
    )
    assert set(metrics_of("benchmark_sustained")) >= {"fp32", "fp16", "int8"}
    assert "int8_mixed" not in metrics_of("benchmark_sustained")
    assert list(pd.read_csv(PATHS.pareto)["precision"]) == ["fp32", "fp16", "int8"]
    code, printed = run(gate)
    assert code == (0 if gated == "int8" else 2)
    assert (f"error: gate: an engine that is gated was not judged: {sentence}" in printed) is (gated == "int8_mixed")
    assert f"not judged: {sentence}" in compare(PATHS.metrics, "none").notes


def test_precisions_that_are_not_asked_for_are_absent(ready: Path, run: Run) -> None:
    configure(build={"precisions": ["fp32", "int8"]})
    assert "fp16 was not asked for (build.precisions)" in build_all(run)
    measure_all(run)
    assert [path.name for path in sorted((PATHS.engines / "fp16").iterdir())] == ["build.json", "build.json.json"]
    assert metrics_of("build_fp16")["outcome"] == "absent"
    assert metrics_of("build_int8")["outcome"] == "built"
    assert set(metrics_of("validate_accuracy")["not_judged"]) == {"fp16", "int8_mixed"}
    assert {"fp32", "int8"} == {name for name in metrics_of("profile_layers") if name in Precision.__members__}
    assert metrics_of("pareto")["front"]
    assert run(gate)[0] == 0


def test_without_fp32_onnx_runtimes_is_what_the_others_are_judged_against(ready: Path, run: Run) -> None:
    build_all(run)
    measure_all(run)
    before = metrics_of("validate_accuracy")
    configure(build={"precisions": ["fp16", "int8"]})
    build_all(run)
    printed = measure_all(run)
    assert "FP32 is what onnxruntime computes; it is not an engine of this target." in printed
    found = metrics_of("validate_accuracy")
    assert found["fp32"]["stands_in"] == "onnxruntime"
    own = {key: value for key, value in found["int8"].items() if key != "engine_sha256"}
    assert own == {key: value for key, value in before["int8"].items() if key != "engine_sha256"}
    assert found["gate"]["int8"] == before["gate"]["int8"]
    benchmark, chosen = metrics_of("benchmark_sustained"), metrics_of("pareto")
    assert "fp32" not in benchmark
    assert benchmark["ratio"] == {"offline": {}}
    assert chosen["fastest_that_holds"] in ("fp16", "int8")
    assert "speedup" not in chosen
    assert run(gate)[0] == 0


def test_without_fp32_and_onnx_runtime_the_build_says_what_to_do(
    ready: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(build={"precisions": ["fp16", "int8"]})
    refuse(monkeypatch, Precision.fp32, fault=RuntimeUnavailable("onnxruntime cannot be imported"))
    code, printed = run(build_fp32)
    assert code == 2
    assert (
        "error: build_fp32: build.precisions does not hold fp32, and ONNX Runtime cannot stand in for it: onnxruntime"
        " cannot be imported; or add fp32 to it" in printed
    )
    assert not PATHS.build_record("fp32").exists()


def test_where_fp32_was_refused_and_nothing_stands_in_there_is_no_verdict(
    ready: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, Precision.fp32)
    build_all(run)
    code, printed = run(validate_accuracy)
    assert code == 2
    assert f"there is no FP32 to judge the engines against: fp32 was refused by build_fp32: {REFUSED}" in printed


@pytest.mark.parametrize("reader", READERS[:3], ids=lambda reader: reader.__name__)
def test_where_every_engine_was_refused_nothing_is_measured(
    ready: Path, run: Run, monkeypatch: pytest.MonkeyPatch, reader: Callable[[], None]
) -> None:
    refuse(monkeypatch, *Precision)
    build_all(run)
    code, printed = run(reader)
    assert code == 2
    assert f"no engine was built: fp32 was refused by build_fp32: {REFUSED}; fp16 was refused" in printed


def test_only_fp32_and_nothing_gated_passes_nothing(ready: Path, run: Run) -> None:
    configure(build={"precisions": ["fp32"]}, accuracy={"gated": []})
    build_all(run)
    measure_all(run)
    found = metrics_of("validate_accuracy")["gate"]
    assert (found["verdict"], found["passed"]) == ("not gated", False)
    code, printed = run(gate)
    assert code == 0, printed
    assert "gate: not gated: accuracy.gated names no engine" in printed
    assert metrics_of("gate") == {"verdict": "not gated", "passed": False, "reasons": []}


def test_an_engine_that_is_built_after_all_replaces_the_record(ready: Path, run: Run) -> None:
    configure(build={"precisions": ["fp16", "int8"]})
    build_all(run)
    configure(build={"precisions": list(Precision.__members__)})
    build_all(run)
    assert not [path for path in PATHS.engines.rglob("*") if path.name.startswith(("build.json", "reference"))]
    configure(build={"precisions": ["fp16", "int8"]})
    build_all(run)
    assert not list((PATHS.engines / "fp32").glob("engine.*"))


def test_a_record_that_was_changed_is_not_believed(ready: Path, run: Run) -> None:
    configure(build={"precisions": ["fp32", "int8"]})
    build_all(run)
    record = PATHS.build_record("int8_mixed")
    record.write_text(record.read_text() + " ")
    code, printed = run(validate_accuracy)
    assert code == 2
    assert f"{record} cannot be used: its bytes differ" in printed


def test_a_verdict_is_that_of_the_gated_engines_alone(ready: Path, run: Run) -> None:
    build_all(run)
    run(validate_accuracy)
    verdict = Judgement.from_json(json.loads((PATHS.accuracy / "verdict.json").read_text()))
    assert verdict.gated == (Precision.int8,)
    assert set(verdict.judged) == {Precision.fp16, Precision.int8, Precision.int8_mixed}
    assert RUNTIME.why_not(Capability.run) is None
