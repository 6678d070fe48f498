"""validate_accuracy on engines whose accuracy is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from enginewright import manifest
from enginewright.results.verdicts import Judgement
from enginewright.target import read_target
from stages.validate_accuracy import validate_accuracy
from support.project import PATHS

Run = Callable[[Callable[[], None]], tuple[int, str]]


def metrics() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PATHS.metrics_of("validate_accuracy")).read_text())
    return found


def stopping() -> str:
    """What the stage `gate` will say; empty where it lets the pipeline pass."""
    path = PATHS.accuracy / "verdict.json"
    assert manifest.verify(path).made_by == "validate_accuracy"
    return "; ".join(Judgement.from_json(json.loads(path.read_text())).reasons())


def test_every_precision_is_compared_with_fp32(project: Callable[..., Path], weights: dict[str, Any], run: Run) -> None:
    project(weights)
    code, printed = run(validate_accuracy)
    found = metrics()
    assert code == 0, printed
    assert found["labels"] is True
    assert found["images"] == 60
    assert found["fp32"]["top1"] == 1.0  # the labels are its own answers
    assert found["int8"]["agreement"] >= 0.9
    assert 20 < found["int8"]["sqnr_db"] < found["fp16"]["sqnr_db"]
    assert (
        found["int8"]["top1_difference_low"]
        <= found["int8"]["top1_difference"]
        <= found["int8"]["top1_difference_high"]
    )
    assert found["target"] == {"device": "Test CPU", "runtime": "linear", "runtime_version": "1.0"}
    assert found["int8"]["engine_sha256"] == manifest.sha256(PATHS.engine("int8", "engine.npy"))
    assert "Test CPU" in printed
    assert (
        "Gate PASSED: top-1 of int8_mixed is 1.0000 (0.9398 to 1.0000), which reaches the bound 0.9000 (fp32: 0.9 x"
        " 1.0000)" in printed
    )


def test_tables_agree_with_the_metrics_and_are_sealed(
    project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    weights["int8"] = np.round(weights["int8"])  # coarse enough to change answers
    project(weights)
    run(validate_accuracy)
    predictions = pd.read_csv(PATHS.accuracy / "predictions.csv")
    classes = pd.read_csv(PATHS.accuracy / "classes.csv")
    changed = pd.read_csv(PATHS.accuracy / "changed.csv")
    confusion = pd.read_csv(PATHS.accuracy / "confusion_int8.csv")
    top1 = metrics()["int8"]["top1"]
    assert (predictions["label"] == predictions["int8"]).mean() == pytest.approx(top1)
    assert (classes["images"] * classes["recall_int8"]).sum() / classes["images"].sum() == pytest.approx(top1)
    assert (confusion["actual"] == confusion["predicted"]).mean() == pytest.approx(top1)
    assert (
        len(changed)
        == sum((predictions[precision] != predictions["fp32"]).sum() for precision in ("fp16", "int8", "int8_mixed"))
        > 0
    )
    inputs = manifest.verify(PATHS.accuracy / "predictions.csv").inputs
    assert "artifacts/engines/int8/engine.npy" in inputs
    assert "artifacts/data/validation/images.npy" in inputs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"gate": "relative", "minimum_ratio": 0.99},
            "which is below the bound 0.9900 (fp32: 0.99 x 1.0000)",
            id="relative",
        ),
        pytest.param(
            {"gate": "absolute", "maximum_loss": 0.05},
            "which is below the bound 0.9500 (fp32: 1.0000 - 0.05)",
            id="absolute",
        ),
    ],
)
def test_a_verdict_that_fails_names_figure_bound_and_classes_and_ends_no_stage(
    changes: dict[str, Any], words: str, project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    weights["int8_mixed"] = np.roll(weights["int8_mixed"], 1, axis=1)  # every answer is one class off
    project(weights, accuracy=changes)
    code, printed = run(validate_accuracy)
    assert code == 0, printed
    assert words in stopping()
    assert "the classes that lost most are 'digit" in stopping()
    assert metrics()["gate"]["passed"] is False
    assert metrics()["int8_mixed"]["top1"] < 0.3
    assert (PATHS.accuracy / "classes.csv").exists()


@pytest.mark.parametrize(
    ("gated", "stops"),
    [pytest.param(["int8_mixed"], False, id="mixed alone"), pytest.param(["int8", "int8_mixed"], True, id="both")],
)
def test_int8_that_fails_stops_the_pipeline_only_if_it_is_gated(
    gated: list[str], stops: bool, project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    weights["int8"] = np.roll(weights["int8"], 1, axis=1)
    project(weights, accuracy={"gated": gated})
    code, printed = run(validate_accuracy)
    assert code == 0, printed
    assert "Gate FAILED: top-1 of int8 is 0." in printed
    assert "Gate PASSED: top-1 of int8_mixed is 1.0000" in printed
    found = metrics()["gate"]
    assert (found["passed"], found["int8"]["passed"], found["int8_mixed"]["passed"]) == (not stops, False, True)
    assert stopping().startswith("top-1 of int8 is 0.") is stops


@pytest.mark.parametrize(("undecided", "stops"), [("fail", True), ("warn", False)])
def test_sixty_equal_answers_do_not_show_ninety_nine_percent(
    undecided: str, stops: bool, project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    project(weights, accuracy={"minimum_ratio": 0.99, "undecided": undecided})
    code, printed = run(validate_accuracy)
    assert code == 0, printed
    found = metrics()["gate"]
    assert (found["verdict"], found["passed"], found["if_undecided"]) == ("undecided", False, undecided)
    assert found["int8_mixed"]["value"] == 1.0
    needed = found["int8_mixed"]["images_to_decide"]
    assert 375 <= needed <= 385
    assert "Gate UNDECIDED: top-1 of int8_mixed is 1.0000" in printed
    assert f"about {needed} images like these 60 would decide" in printed
    assert stopping().startswith("top-1 of int8_mixed is 1.0000") is stops
    assert ("raise data.validation_images" in stopping()) is stops


def test_noise_stops_an_engine_that_answers_as_fp32(
    project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    weights["int8_mixed"] = weights["fp32"] * np.float32(1.5)  # the same answers, at 6 dB
    project(weights)
    code, printed = run(validate_accuracy)
    assert code == 0, printed
    found = metrics()
    assert found["int8_mixed"]["top1"] == found["int8_mixed"]["agreement"] == 1.0
    assert found["gate"]["int8_mixed"]["sqnr_db_verdict"] == "failed"
    assert "SQNR of int8_mixed is 6.0 dB" in stopping()
    assert "which is below the bound 10.0 dB (accuracy.minimum_sqnr_db)" in stopping()


@pytest.mark.parametrize(("asked", "code"), [(True, 2), (False, 0)])
def test_labels_that_fp32_does_not_know_stop_the_stage(
    asked: bool, code: int, project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    project(weights, accuracy={"require_signal": asked, "undecided": "warn"})
    labels = PATHS.validation / "labels.csv"
    table = pd.read_csv(labels)
    table.assign(label=(table["label"] + 1) % 10).to_csv(
        labels, index=False
    )  # the folders are in another order than the classes
    manifest.seal(labels, "prepare_data", [])
    ended, printed = run(validate_accuracy)
    assert ended == code, printed
    if asked:
        assert "fp32 itself has top-1 0.0000" in printed
        assert "Likely causes are wrong labels, classes in another order than the model's outputs" in printed
        assert not (PATHS.metrics_of("validate_accuracy")).exists()
    else:
        assert metrics()["gate"]["verdict"] == "undecided"  # all of nothing is kept


def test_every_output_of_any_kind_is_judged(project: Callable[..., Path], weights: dict[str, Any], run: Run) -> None:
    weights["int8"] = np.roll(weights["int8"], 1, axis=1)
    project(weights, model={"task": "outputs"})
    code, printed = run(validate_accuracy)
    assert code == 0, printed
    found = metrics()
    assert (found["labels"], found["gate"]["figure"]) == (False, "lowest_cosine")
    assert (
        found["int8"]["outputs"]["logits"]["cosine"]
        == found["int8"]["lowest_cosine"]
        == pytest.approx(found["gate"]["int8"]["value"])
    )
    assert (found["gate"]["int8"]["verdict"], found["gate"]["int8_mixed"]["verdict"]) == ("failed", "passed")
    assert found["gate"]["fp16"]["sqnr_db_low"] > 40
    changed = pd.read_csv(PATHS.accuracy / "changed.csv")
    assert changed[changed["precision"] == "int8"]["predicted"].iloc[0] == pytest.approx(
        pd.read_csv(PATHS.accuracy / "predictions.csv")["int8"].min()
    )


def test_one_output_has_no_largest(project: Callable[..., Path], weights: dict[str, Any], run: Run) -> None:
    project({precision: matrix[:, :1] for precision, matrix in weights.items()}, labelled=False)
    code, printed = run(validate_accuracy)
    assert code == 2
    assert "the output 'logits' of the fp32 engine is [N, 1], and model.task" in printed
    assert (
        "two classes at least; set model.task to what the model does (outputs, where it answers neither classes nor"
        " pixels)" in printed
    )


def test_without_labels_there_is_no_top1_and_the_gate_holds_agreement(
    project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    project(weights, labelled=False)
    code, printed = run(validate_accuracy)
    found = metrics()
    assert code == 0, printed
    assert found["labels"] is False
    assert "top1" not in found["int8"]
    assert found["gate"]["figure"] == "agreement"
    assert found["gate"]["int8"]["value"] == found["int8"]["agreement"]
    assert "there is no top-1" in printed
    assert "label" not in pd.read_csv(PATHS.accuracy / "predictions.csv")


def test_outputs_of_another_task_are_refused(project: Callable[..., Path], weights: dict[str, Any], run: Run) -> None:
    project(weights, model={"task": "segmentation"})
    code, printed = run(validate_accuracy)
    assert code == 2
    assert (
        "is [N, 10], and model.task segmentation judges [N, classes, H, W], two classes at least;"
        " set model.task" in printed
    )


def test_a_label_beyond_the_classes_is_refused(project: Callable[..., Path], weights: dict[str, Any], run: Run) -> None:
    project({precision: matrix[:, :6] for precision, matrix in weights.items()})
    labels = PATHS.validation / "labels.csv"
    labels.write_text(labels.read_text().replace("055.png,", "055.png,9"))
    manifest.seal(labels, "prepare_data", [])
    code, printed = run(validate_accuracy)
    assert code == 2
    assert "055.png has the label 9" in printed
    assert "and the model knows 6 classes" in printed


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        pytest.param(
            np.nan, "; either values beyond 65504 overflow FP16, or a divisor or epsilon under 6e-08", id="nan"
        ),
        pytest.param(np.inf, "; values beyond 65504 overflow FP16: keep", id="infinity"),
    ],
)
def test_an_engine_whose_outputs_are_no_numbers_fails_and_the_others_are_judged(
    value: float, cause: str, project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    weights["fp16"][0] = value
    project(weights, accuracy={"gated": ["fp16", "int8_mixed"]})
    code, printed = run(validate_accuracy)
    assert code == 0, printed
    sentence = "the fp16 engine answers NaN or infinity for 60 of 60 images, first 000.png" + cause
    found = metrics()
    assert found["not_judged"]["fp16"].startswith(sentence)
    assert f"Not judged: {sentence}" in printed
    assert "fp16" not in found
    assert (found["gate"]["verdict"], found["gate"]["int8_mixed"]["verdict"]) == ("failed", "passed")
    assert stopping().startswith(f"an engine that is gated was not judged: {sentence}")


def test_where_fp32s_outputs_are_no_numbers_there_is_nothing_to_judge_against(
    project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    broken = {**weights, "fp32": weights["fp32"].copy()}
    broken["fp32"][0] = np.nan
    project(weights)
    path = PATHS.engine("fp32", "engine.npy")
    usage = manifest.read(path).usage
    np.save(path, broken["fp32"])
    manifest.seal(path, "build_fp32", [], read_target(PATHS.target), {"precision": "fp32"}, usage=usage)
    code, printed = run(validate_accuracy)
    assert code == 2
    assert "the fp32 engine answers NaN or infinity for 60 of 60 images, first 000.png; check the weights" in printed
    assert not PATHS.metrics_of("validate_accuracy").exists()


def test_engine_with_a_flipped_byte_is_refused(project: Callable[..., Path], weights: dict[str, Any], run: Run) -> None:
    project(weights)
    path = PATHS.engine("int8", "engine.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, printed = run(validate_accuracy)
    assert code == 2
    assert "its bytes differ from the sha256" in printed
    assert "dvc repro build_int8" in printed


def test_what_the_build_found_out_stands_beside_the_verdict(
    project: Callable[..., Path], weights: dict[str, Any], run: Run
) -> None:
    """INT8 that is FP16 for the most part answers like FP16, and passes."""
    project(weights)
    engine, finding = PATHS.engine("int8", "engine.npy"), "less than half runs in INT8: 1 of 74 layers"
    made = manifest.read(engine)
    manifest.seal(engine, made.made_by, [], made.target, {**made.settings, "findings": [finding]}, usage=made.usage)
    code, printed = run(validate_accuracy)
    assert code == 0, printed
    assert f"Finding about int8: {finding}" in printed
    assert metrics()["int8"]["findings"] == [finding]
    assert "findings" not in metrics()["fp16"]
