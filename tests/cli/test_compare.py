"""`enginewright compare` on metrics as the stages write them, alone and against what is committed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml

from enginewright.cli import main

METRICS = Path("artifacts/metrics")
OF = {"model_sha256": "a" * 64, "images_sha256": "b" * 64}
CPU = {"device": "EPYC", "instruction_sets": "avx2", "runtime": "onnxruntime", "runtime_version": "1.32.0"}

UNDECIDED = {
    "verdict": "undecided",
    "passed": False,
    "value": 0.992,
    "low": 0.988,
    "high": 0.996,
    "bound": 0.99,
    "images_to_decide": 1234,
}
UNDECIDED.update({"sqnr_db_low": 9.0, "sqnr_db_high": 10.5, "minimum_sqnr_db": 10.0, "sqnr_db_verdict": "undecided"})


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["compare", *map(str, arguments)])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def write(stage: str, content: dict[str, Any], folder: Path = METRICS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stage}.json").write_text(json.dumps(content))


def write_all(
    throughput: float = 100.0,
    target: dict[str, str] = CPU,
    folder: Path = METRICS,
    accuracy: Optional[dict[str, Any]] = None,
) -> None:
    speed = {
        name: {
            "offline": {"throughput_images_per_s": throughput * gain},
            "single_stream": {"latency_ms_p99": 10 / gain},
            "whole": {f"batch_{batch}": {"images_per_s_whole": batch * 20.0 * gain} for batch in (1, 4)},
            "engine_sha256": name,
        }
        for name, gain in {"fp32": 1, "fp16": 1, "int8": 2.5, "int8_mixed": 2}.items()
    }
    write(
        "benchmark_sustained",
        {
            **speed,
            "ratio": {"offline": {"fp16_to_fp32": 1.0, "int8_to_fp32": 2.5, "int8_mixed_to_fp32": 2.0}},
            "target": target,
            **OF,
            "complete": True,
            "settings": {"batch_size": 32, "seconds": 20.0, "scenarios": ["single_stream", "offline"]},
            "measured_at": "2026-11-22T22:38+00:00",
        },
        folder,
    )
    paired = {"top1_difference": -0.01, "top1_difference_low": -0.02, "top1_difference_high": 0.005, "agreement": 0.985}
    write(
        "validate_accuracy",
        {
            "fp32": {"top1": 0.98, "engine_sha256": "fp32"},
            "fp16": {"top1": 0.98, "engine_sha256": "fp16"},
            "int8": {"top1": 0.97, "sqnr_db": 30.0, **paired, "engine_sha256": "int8"},
            "int8_mixed": {"top1": 0.98, "engine_sha256": "int8_mixed"},
            "gate": {
                "passed": True,
                "figure": "top1",
                "mode": "relative",
                "int8": {
                    "verdict": "passed",
                    "passed": True,
                    "value": 0.979,
                    "low": 0.974,
                    "high": 0.984,
                    "bound": 0.9702,
                },
            },
            "images": 1000,
            "labels": True,
            **OF,
            "target": target,
            **(accuracy or {}),
        },
        folder,
    )
    for name, share in {"fp32": 0.0, "fp16": 0.0, "int8": 0.9, "int8_mixed": 0.8}.items():
        write(
            f"build_{name}",
            {
                "size_mib": 4.0,
                "seconds": 1.5,
                "int8_share": share,
                "model_sha256": OF["model_sha256"],
                "target": target,
            },
            folder,
        )


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Metrics committed, in a repository that no configuration of the user reaches."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    write_all()
    git("init", "-q")
    git("add", "artifacts")
    git("commit", "-qm", "figures")
    return here


def cells(printed: str, row: str) -> list[str]:
    (line,) = (line for line in printed.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_the_precisions_stand_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all()
    assert call("--markdown") == 0
    printed = capsys.readouterr().out
    assert cells(printed, "top-1") == ["0.9800", "0.9800", "0.9700", "0.9800"]
    assert cells(printed, "interval (pp)") == ["-", "-", "-2.00 to +0.50", "-"]
    assert cells(printed, "images/s / fp32's") == ["-", "1.00", "2.50", "2.00"]
    assert cells(printed, "layers in INT8 (%)") == ["0", "0", "90", "80"]
    assert cells(printed, "images/s (whole way, one at a time)") == ["20", "20", "50", "40"]
    assert cells(printed, "images/s (whole way, in batches)") == ["80", "80", "200", "160"]
    assert "latency p50" not in printed  # none was measured
    for text in (
        "EPYC, onnxruntime 1.32.0",
        "batches of 32), 20 s",
        "int8 passes: top-1 is 0.9790 (0.9740 to 0.9840), the bound 0.9702 (relative)",
    ):
        assert text in printed
    assert "HEAD" not in printed


def test_the_table_on_a_terminal_and_json_say_the_same(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    table = capsys.readouterr().out
    assert call("--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["figures"]["throughput_images_per_s"] == {
        "fp32": 100.0,
        "fp16": 100.0,
        "int8": 250.0,
        "int8_mixed": 200.0,
    }
    assert report["interval"]["int8"] == [-0.02, 0.005]
    assert report["target"] == CPU
    assert " 250 " in table
    for line in [*report["notes"], *report["gate"]]:
        assert line in table
    assert "HEAD has the same figures" in table


ALL = "validate_accuracy, benchmark_sustained, build_fp32, build_fp16, build_int8, build_int8_mixed"


def test_figures_of_another_machine_are_left_out_and_the_machine_is_named(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(110.0, {**CPU, "device": "Xeon"}, accuracy={"int8": {"top1": 0.975, "engine_sha256": "int8"}})
    assert call("--markdown") == 0
    printed = capsys.readouterr().out
    assert (
        f"left out: {ALL} of HEAD, as they are of another record (device EPYC instead of Xeon); --across shows the"
        " change" in printed
    )
    assert cells(printed, "images/s (offline)") == ["110", "110", "275", "220"]
    assert "in brackets" not in printed
    assert call("--rev", "none") == 0
    assert "HEAD" not in capsys.readouterr().out


def test_across_machines_the_change_is_shown_where_it_is_asked_for(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(110.0, {**CPU, "device": "Xeon"}, accuracy={"int8": {"top1": 0.975, "engine_sha256": "int8"}})
    assert call("--markdown", "--across") == 0
    printed = capsys.readouterr().out
    assert "figures of HEAD are of another record (device EPYC instead of Xeon)" in printed
    assert cells(printed, "images/s (offline)") == ["110 (+10.0%)", "110 (+10.0%)", "275 (+10.0%)", "220 (+10.0%)"]
    assert cells(printed, "top-1") == ["0.9800 (=)", "0.9800 (=)", "0.9750 (+0.0050)", "0.9800 (=)"]


def test_another_runtime_on_the_same_machine(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(110.0, {**CPU, "runtime_version": "1.33.0"})
    assert call() == 0
    assert "(runtime_version 1.32.0 instead of 1.33.0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        pytest.param({"model_sha256": "c" * 64}, "(model aaaaaaaaaaaa instead of cccccccccccc)", id="model"),
        pytest.param({"images_sha256": "d" * 64}, "(images bbbbbbbbbbbb instead of dddddddddddd)", id="images"),
    ],
)
def test_only_records_of_one_model_and_one_set_stand_side_by_side(
    here: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], text: str
) -> None:
    """The benchmark of yesterday's model beside today's accuracy."""
    write_all(accuracy=changed)
    assert call("--markdown") == 0
    printed = capsys.readouterr().out
    assert text in printed
    assert "left out: benchmark_sustained" in printed
    assert "images/s (offline)" not in printed
    assert "top-1" in printed
    assert ("layers in INT8 (%)" in printed) is ("images_sha256" in changed)  # an engine is built without images


def test_committed_figures_of_another_model_are_left_out(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all()
    for path in METRICS.iterdir():
        path.write_text(path.read_text().replace("a" * 64, "c" * 64))
    assert call("--markdown") == 0
    printed = capsys.readouterr().out
    assert (
        f"left out: {ALL} of HEAD, as they are of another record (model aaaaaaaaaaaa instead of cccccccccccc)"
        in printed
    )
    assert "(=)" not in printed
    assert cells(printed, "images/s (offline)") == ["100", "100", "250", "200"]


def test_committed_figures_that_do_not_say_what_they_are_of_are_left_out(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in METRICS.iterdir():
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in content.items() if key not in OF}))
    git("commit", "-qam", "before")
    write_all()
    assert call() == 0
    printed = capsys.readouterr().out
    assert (
        "left out: validate_accuracy, benchmark_sustained of HEAD, as they are of another record (it does not say of"
        " which model and images)" in printed
    )
    assert "left out: build_fp32, build_fp16, build_int8, build_int8_mixed of HEAD" in printed


def test_accuracy_that_does_not_say_what_it_is_of_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all()
    path = METRICS / "validate_accuracy.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in OF}))
    assert call() == 0
    assert "validate_accuracy does not say of which model and images it is" in capsys.readouterr().out


def test_the_same_record_is_said_too(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(90.0)
    git("commit", "-qam", "slower")
    assert call("--rev", "HEAD~1", "--markdown") == 0
    printed = capsys.readouterr().out
    assert "figures of HEAD~1 are of the same model, images and target" in printed
    assert cells(printed, "images/s (offline)")[0] == "90 (-10.0%)"


def test_figures_from_another_folder(committed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = tmp_path / "board"
    write_all(50.0, {**CPU, "device": "Orin", "runtime": "tensorrt"}, board)
    assert call(board) == 0
    printed = capsys.readouterr().out
    assert "Orin, tensorrt 1.32.0" in printed
    assert "device EPYC instead of Orin, runtime onnxruntime instead of tensorrt" in printed


@pytest.mark.parametrize(
    ("accuracy", "text"),
    [
        pytest.param(
            {"labels": False},
            "without labels: agreement with fp32 stands in for the figure of the task",
            id="unlabelled",
        ),
        pytest.param(
            {"target": {**CPU, "device": "Xeon"}},
            "as they are of another record (device EPYC instead of Xeon)",
            id="targets",
        ),
        pytest.param(
            {"int8": {"engine_sha256": "old"}}, "accuracy and speed of int8 are of two different engines", id="engines"
        ),
        pytest.param(
            {"int8": {"engine_sha256": "int8", "identical_to_fp32": True}},
            "int8 answers bit for bit as fp32 does",
            id="identical",
        ),
        pytest.param(
            {
                "gate": {
                    "passed": False,
                    "figure": "agreement",
                    "mode": "relative",
                    "int8": {"passed": False, "value": 0.9, "bound": 0.99},
                }
            },
            "int8 FAILS: agreement with fp32 is 0.9000, the bound 0.9900",
            id="gate",
        ),
        pytest.param(
            {"gate": {"passed": False, "figure": "lowest_cosine", "mode": "relative", "int8": UNDECIDED}},
            "int8 is UNDECIDED: cosine of the worst output is 0.9920 (0.9880 to 0.9960), the bound 0.9900 (relative);"
            " SQNR 9.0 to 10.5 dB, the floor 10.0 dB (UNDECIDED); about 1,234 images would decide",
            id="undecided",
        ),
    ],
)
def test_what_spoils_the_figures_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], accuracy: dict[str, Any], text: str
) -> None:
    write_all(accuracy=accuracy)
    assert call() == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "content", "text"),
    [
        pytest.param(
            "build_int8", None, "build_int8.json is missing; write it with `dvc repro build_int8`", id="missing"
        ),
        pytest.param("validate_accuracy", "{\n", "validate_accuracy.json, line 2, is no JSON", id="truncated"),
        pytest.param("benchmark_sustained", "[]", "benchmark_sustained.json holds no metrics", id="list"),
        pytest.param("build_int8", "\xff", "build_int8.json is no JSON (it is not UTF-8)", id="not UTF-8"),
        pytest.param(
            "validate_accuracy",
            '{"int8": 3}',
            "the metrics in artifacts/metrics, or those of HEAD, are not what their stages write",
            id="number",
        ),
        pytest.param(
            "validate_accuracy",
            '{"gate": {"figure": "top1", "int8": {}}}',
            "are not what their stages write (KeyError: 'mode')",
            id="no mode",
        ),
        pytest.param(
            "build_int8",
            json.dumps({"findings": 3, **OF}),
            "are not what their stages write (TypeError: 'int' object is not iterable)",
            id="findings",
        ),
    ],
)
def test_missing_and_broken_metrics_name_the_stage(
    here: Path, capsys: pytest.CaptureFixture[str], stage: str, content: Optional[str], text: str
) -> None:
    write_all()
    path = METRICS / f"{stage}.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="latin-1")
    assert call() == 2
    assert text in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_is_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("figures").touch()
    assert call("figures") == 2
    assert (
        "figures/validate_accuracy.json cannot be read (Not a directory); give the folder of the metrics"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("edited", [True, False])
def test_figures_of_a_build_that_were_edited_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], edited: bool
) -> None:
    write_all()
    path = METRICS / "build_int8.json"
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    outs = [{"path": path.as_posix(), "hash": "md5", "md5": digest, "size": 1}]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"build_int8": {"cmd": "x", "outs": outs}}}))
    if edited:
        write("build_int8", {**json.loads(path.read_text()), "size_mib": 0.001})
    assert call() == 0
    assert (
        "build_int8.json is not what dvc.lock holds: it was edited, or its stage did not end" in capsys.readouterr().out
    ) is edited


def test_a_revision_that_is_none(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--rev", "v9") == 2
    assert "v9 is no revision of this repository" in capsys.readouterr().err
    git("rm", "-rq", "--cached", "artifacts")
    git("commit", "-qm", "none")
    assert call("--rev", "HEAD") == 2
    assert "HEAD holds no artifacts/metrics" in capsys.readouterr().err
    assert call() == 0


def test_the_figure_of_another_task_takes_the_place_of_top1(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    difference = {"mean_iou_difference": -0.002, "mean_iou_difference_low": -0.003, "mean_iou_difference_high": -0.001}
    gate = {
        "passed": True,
        "figure": "mean_iou",
        "mode": "relative",
        "int8": {"passed": True, "value": 0.8, "bound": 0.79},
    }
    plain = {"mean_iou": 0.802, "engine_sha256": "x"}
    write_all(
        accuracy={
            "fp32": plain,
            "fp16": plain,
            "int8": {**plain, "mean_iou": 0.8, **difference},
            "int8_mixed": plain,
            "gate": gate,
        }
    )
    assert call("--markdown") == 0
    printed = capsys.readouterr().out
    assert cells(printed, "mean IoU") == ["0.8020", "0.8020", "0.8000", "0.8020"]
    assert cells(printed, "interval (pp)") == ["-", "-", "-0.30 to -0.10", "-"]
    assert "int8 passes: mean IoU is 0.8000" in printed
    assert "top-1" not in printed
