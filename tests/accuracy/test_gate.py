"""The gate judges intervals: to the image, on few images, on none that differ, and on what no argmax can tell."""

from __future__ import annotations

import json
from typing import Optional

import numpy as np
import pandas as pd
import pytest

from enginewright.accuracy import gate
from enginewright.accuracy.answers import Answers
from enginewright.accuracy.gate import failure, judge, require_signal, sentence, stops
from enginewright.config import Accuracy, GateMode, Precision, Undecided
from enginewright.errors import DataError
from enginewright.results.accuracy import Verdict
from enginewright.results.verdicts import Outcome
from enginewright.tasks import get_task
from enginewright.tasks.base import Evaluation, Outputs, Task, together
from enginewright.views.metrics import of_gate

CLASSIFICATION, SEGMENTATION = get_task("classification"), get_task("segmentation")
RELATIVE, ABSOLUTE = GateMode.relative, GateMode.absolute
PASSED, UNDECIDED, FAILED = Outcome.passed, Outcome.undecided, Outcome.failed


def one_hot(answers: list[int], classes: int = 3) -> Outputs:
    return np.eye(classes, dtype=np.float32)[answers] * 10


def paired(both: int, gained: int, lost: int, neither: int) -> tuple[Evaluation, Evaluation]:
    """An engine and FP32 of whom so many images of class 0 were answered rightly by both, by the engine alone, by FP32
    alone, by none.
    """
    engine = one_hot([0] * (both + gained) + [1] * (lost + neither))
    fp32 = one_hot([0] * both + [1] * gained + [0] * lost + [2] * neither)
    labels = np.zeros(len(engine), np.int64)
    rows = CLASSIFICATION.score(engine, labels, fp32)
    return Evaluation(rows, 3), Evaluation(CLASSIFICATION.score(fp32, labels, None), 3)


def agreeing(same: int, others: int) -> tuple[Evaluation, Evaluation]:
    """Without labels."""
    engine, fp32 = one_hot([0] * same + [1] * others), one_hot([0] * (same + others))
    return Evaluation(CLASSIFICATION.score(engine, None, fp32), 3), Evaluation(
        CLASSIFICATION.score(fp32, None, None), 3
    )


def settings(
    mode: GateMode = RELATIVE, ratio: float = 0.99, loss: float = 0.01, floor: Optional[float] = None, **others: object
) -> Accuracy:
    bounds = {"minimum_ratio": ratio, "maximum_loss": loss, "minimum_sqnr_db": floor, **others}
    return Accuracy(gate=mode, **bounds)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("configured", "pair", "outcome"),
    [
        pytest.param(settings(), paired(979, 0, 0, 21), PASSED, id="the default project: none of 1,000 differs"),
        pytest.param(settings(), paired(976, 0, 3, 21), PASSED, id="three of 1,000 lost"),
        pytest.param(
            settings(), paired(975, 0, 4, 21), UNDECIDED, id="four of 1,000 lost, though the point is 0.995 of FP32's"
        ),
        pytest.param(settings(), paired(950, 0, 29, 21), FAILED, id="29 of 1,000 lost"),
        pytest.param(settings(), paired(294, 0, 0, 6), UNDECIDED, id="none of 300 differs: too few to say 0.99"),
        pytest.param(settings(), paired(3, 0, 0, 0), UNDECIDED, id="none of three differs"),
        pytest.param(settings(), paired(1, 0, 0, 0), UNDECIDED, id="one image"),
        pytest.param(settings(ratio=0.9), paired(97, 0, 0, 3), PASSED, id="none of 100 differs: enough to say 0.9"),
        pytest.param(settings(), paired(0, 0, 0, 1000), UNDECIDED, id="FP32 is never right, and so is nobody"),
        pytest.param(settings(ratio=1.0), paired(500, 40, 0, 460), PASSED, id="better than FP32 by more than chance"),
        pytest.param(settings(ratio=1.0), paired(500, 4, 3, 493), UNDECIDED, id="better than FP32 by chance"),
        pytest.param(settings(ABSOLUTE), paired(979, 0, 0, 21), PASSED, id="absolute, none differs"),
        pytest.param(
            settings(ABSOLUTE), paired(970, 0, 10, 20), UNDECIDED, id="absolute, the point exactly on the bound"
        ),
        pytest.param(settings(ABSOLUTE), paired(940, 0, 40, 20), FAILED, id="absolute, under"),
        pytest.param(settings(ratio=0.95), agreeing(985, 15), PASSED, id="no labels, agreement over the bound"),
        pytest.param(settings(ratio=0.95), agreeing(250, 6), UNDECIDED, id="no labels, few images"),
        pytest.param(settings(ABSOLUTE), agreeing(950, 50), FAILED, id="no labels, absolute, under"),
        pytest.param(settings(ratio=0.0), paired(1, 0, 0, 0), PASSED, id="nothing is asked for"),
    ],
)
def test_verdict(configured: Accuracy, pair: tuple[Evaluation, Evaluation], outcome: Outcome) -> None:
    verdict = judge(CLASSIFICATION, *pair, configured)
    assert verdict.outcome is outcome
    assert verdict.metric.low <= verdict.metric.value <= verdict.metric.high
    assert verdict.passed is (outcome is PASSED)


@pytest.mark.parametrize(
    ("pair", "bound"), [(paired(975, 0, 4, 21), 0.99), (paired(940, 5, 12, 43), 0.99), (agreeing(250, 6), 0.95)]
)
def test_as_many_images_as_it_says_do_decide_and_hardly_fewer_do(
    pair: tuple[Evaluation, Evaluation], bound: float
) -> None:
    configured = settings(ratio=bound)
    needed = judge(CLASSIFICATION, *pair, configured).metric.needed
    assert needed is not None
    assert judge(CLASSIFICATION, *pair, configured, images=needed).outcome is not UNDECIDED
    assert judge(CLASSIFICATION, *pair, configured, images=int(0.99 * needed) - 1).outcome is UNDECIDED
    assert f"about {needed:,} images like these" in sentence(
        CLASSIFICATION, judge(CLASSIFICATION, *pair, configured), "int8"
    )


def test_a_value_on_its_bound_is_said_to_be_decided_by_no_number_of_images() -> None:
    verdict = judge(CLASSIFICATION, *paired(970, 0, 10, 20), settings(ABSOLUTE))
    assert verdict.metric.needed is None
    assert "so close to the bound that no number of images up to 10,000,000 would decide" in sentence(
        CLASSIFICATION, verdict, "int8"
    )


def test_the_interval_is_one_of_what_is_judged() -> None:
    """Of INT8 - 0.5 x FP32, which an image that both know moves too, and not of INT8 - FP32, where the two never
    differ.
    """
    verdict = judge(CLASSIFICATION, *paired(50, 0, 0, 50), settings(ratio=0.5))
    assert verdict.metric.high - verdict.metric.low == pytest.approx(
        0.5 * 2 * 0.0961, rel=0.02
    )  # half of Wilson's around 50 of 100


@pytest.mark.parametrize(
    ("noise", "floor", "outcome"),
    [
        pytest.param(0.1, 10.0, PASSED, id="20 dB"),
        pytest.param(0.55, 10.0, FAILED, id="5 dB"),
        pytest.param(0.55, None, PASSED, id="5 dB, and none is asked for"),
    ],
)
def test_noise_fails_an_engine_whose_answers_happen_to_agree(
    noise: float, floor: Optional[float], outcome: Outcome
) -> None:
    random = np.random.default_rng(0)
    fp32 = (
        np.tile(np.array([3.0, 0.0, 0.0, 0.0], np.float32), (600, 1))
        + random.normal(size=(600, 4)).astype(np.float32) * 0.1
    )
    shift = np.float32(np.linalg.norm(fp32[0]) * noise / 2)  # the same for all four, so no answer changes
    rows = CLASSIFICATION.score(fp32 + shift * random.choice([-1, 1], (600, 1)).astype(np.float32), None, fp32)
    verdict = judge(
        CLASSIFICATION,
        Evaluation(rows, 4),
        Evaluation(CLASSIFICATION.score(fp32, None, None), 4),
        settings(floor=floor),
    )
    assert rows["agrees"].all()
    assert verdict.metric.outcome is PASSED
    assert verdict.outcome is outcome
    assert ("SQNR of int8 is" in sentence(CLASSIFICATION, verdict, "int8")) is (floor is not None)
    if outcome is FAILED:
        said = failure(CLASSIFICATION, verdict, Precision.int8, None, settings(floor=floor))
        assert "is below the bound 10.0 dB" in said
        assert "move accuracy.minimum_sqnr_db" in said


def test_noise_upon_nothing_fails_and_an_equal_engine_has_no_noise() -> None:
    fp32, other = np.zeros((50, 3), np.float32), np.full((50, 3), 0.5, np.float32)
    reference = Evaluation(CLASSIFICATION.score(fp32, None, None), 3)
    assert (
        judge(
            CLASSIFICATION,
            Evaluation(CLASSIFICATION.score(other, None, fp32), 3),
            reference,
            settings(ratio=0.5, floor=10.0),
        ).outcome
        is FAILED
    )
    assert (
        judge(
            CLASSIFICATION,
            Evaluation(CLASSIFICATION.score(fp32, None, fp32), 3),
            reference,
            settings(ratio=0.5, floor=10.0),
        ).noise
        is None
    )


def verdicts(**outcomes: tuple[Evaluation, Evaluation]) -> dict[Precision, Verdict]:
    return {Precision[name]: judge(CLASSIFICATION, *pair, settings()) for name, pair in outcomes.items()}


def test_metrics_say_undecided_and_what_would_decide() -> None:
    found = of_gate(
        gate.record(verdicts(int8=paired(950, 0, 29, 21), int8_mixed=paired(975, 0, 4, 21)), settings(), "top1")
    )
    json.dumps(found, allow_nan=False)
    assert (found["verdict"], found["passed"]) == ("undecided", False)
    assert (found["int8"]["verdict"], found["int8"]["passed"]) == ("failed", False)
    assert "images_to_decide" not in found["int8"]
    assert found["int8_mixed"]["images_to_decide"] > 1000
    assert found["int8_mixed"]["low"] < found["int8_mixed"]["bound"] < found["int8_mixed"]["high"]


def test_an_undecided_engine_stops_the_pipeline_unless_it_is_only_to_warn() -> None:
    found = verdicts(int8=paired(950, 0, 29, 21), int8_mixed=paired(975, 0, 4, 21))
    assert set(stops(found, settings())) == {Precision.int8_mixed}  # int8 is not gated
    assert not stops(found, settings(undecided=Undecided.warn))
    both = settings(undecided=Undecided.warn, gated=[Precision.int8, Precision.int8_mixed])
    assert set(stops(found, both)) == {Precision.int8}
    said = failure(CLASSIFICATION, found[Precision.int8_mixed], Precision.int8_mixed, None, settings())
    for text in (
        "which is undecided against the bound 0.9692",
        "images like these 1,000 would decide",
        "raise data.validation_images",
        "accuracy.undecided=warn",
    ):
        assert text in said


def test_failure_names_the_three_worst_classes_in_order() -> None:
    classes = pd.DataFrame({"class": list("abcde"), "recall_delta_int8": [0.0, -0.2, -0.01, -0.5, 0.1]})
    said = failure(
        CLASSIFICATION, judge(CLASSIFICATION, *paired(900, 0, 100, 0), settings()), Precision.int8, classes, settings()
    )
    assert "top-1 of int8 is 0.9000 (0.8" in said
    assert "which is below the bound 0.9900 (fp32: 0.99 x 1.0000)" in said
    assert "'d' (-0.500), 'b' (-0.200) and 'c' (-0.010)" in said
    assert "accuracy.minimum_ratio" in said


def test_a_failed_agreement_points_to_the_task_for_what_is_no_class() -> None:
    said = failure(
        CLASSIFICATION, judge(CLASSIFICATION, *agreeing(50, 50), settings()), Precision.int8, None, settings()
    )
    assert "set model.task=outputs if the model's output is no class scores" in said


def pixels(answers: list[int], targets: list[int], fp32: list[int]) -> tuple[Evaluation, Evaluation]:
    """Images of 4 pixels, each all of one class of 3."""
    engine, reference = (
        np.repeat(np.repeat(one_hot(values)[:, :, None, None], 2, 2), 2, 3) for values in (answers, fp32)
    )
    wanted = np.repeat(np.repeat(np.array(targets, np.uint8)[:, None, None], 2, 1), 2, 2)
    return Evaluation(SEGMENTATION.score(engine, wanted, reference), 3), Evaluation(
        SEGMENTATION.score(reference, wanted, None), 3
    )


def test_another_task_is_held_by_its_own_metric_and_names_its_own_losses() -> None:
    targets = [index % 3 for index in range(300)]
    verdict = judge(SEGMENTATION, *pixels([0] * 300, targets, targets), settings(ABSOLUTE))
    assert (verdict.outcome, verdict.metric.figure) == (FAILED, "mean_iou")
    assert verdict.metric.bound == pytest.approx(0.99)
    classes = pd.DataFrame({"class": ["road", "sky"], "iou_delta_fp16": [-0.2, 0.0]})
    said = failure(SEGMENTATION, verdict, Precision.fp16, classes, settings(ABSOLUTE))
    assert "mean IoU of fp16 is 0.1111" in said
    assert "lost most are 'road' (-0.200) (artifacts/accuracy/classes.csv)" in said


@pytest.mark.parametrize(("images", "outcome"), [(3, UNDECIDED), (1, UNDECIDED), (30, UNDECIDED), (600, PASSED)])
def test_equal_masks_on_few_images_pass_nothing(images: int, outcome: Outcome) -> None:
    targets = [index % 3 for index in range(images)]
    assert judge(SEGMENTATION, *pixels(targets, targets, targets), settings()).outcome is outcome


def signal(task: Task, outputs: Outputs, targets: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
    require_signal(task, Evaluation(task.score(outputs, targets, None), outputs.shape[1]), targets, 0.95)


def test_labels_that_fp32_does_not_know_are_refused() -> None:
    """A model of 1,000 classes on 17 folders in another order: top-1 0, and INT8 keeps all of it."""
    random = np.random.default_rng(0)
    labels, outputs = random.integers(0, 17, 400), random.normal(size=(400, 1000)).astype(np.float32)
    with pytest.raises(DataError) as refusal:
        signal(CLASSIFICATION, outputs, labels)
    for cause in (
        "top-1 0.0000",
        "wrong labels",
        "another order",
        "data.preprocessing",
        "accuracy.require_signal=false",
    ):
        assert cause in str(refusal.value)


@pytest.mark.parametrize(
    ("answers", "labels", "refused"),
    [
        pytest.param([0] * 100, [0] * 70 + [1] * 30, True, id="always the commonest class"),
        pytest.param([0] * 65 + [1] * 35, [0] * 60 + [1] * 40, False, id="0.95 right where the commonest has 0.6"),
        pytest.param([0, 1, 0], [0, 1, 0], True, id="always right on three images"),
        pytest.param([0] * 100, [0] * 100, True, id="one class alone"),
    ],
)
def test_fp32_must_know_more_than_the_commonest_class(answers: list[int], labels: list[int], refused: bool) -> None:
    if not refused:
        signal(CLASSIFICATION, one_hot(answers), np.array(labels))
        return
    with pytest.raises(
        DataError, match="all have the same answer" if len(set(labels)) == 1 else "always giving the commonest answer"
    ):
        signal(CLASSIFICATION, one_hot(answers), np.array(labels))


@pytest.mark.parametrize(("knows", "refused"), [(False, True), (True, False)])
def test_a_segmentation_must_know_more_than_the_background(knows: bool, refused: bool) -> None:
    targets = [0] * 80 + [1] * 20 + [2] * 20
    _, fp32 = pixels([0] * 120, targets, targets if knows else [0] * 120)
    wanted = np.repeat(np.repeat(np.array(targets, np.uint8)[:, None, None], 2, 1), 2, 2)
    assert SEGMENTATION.baseline(wanted) == pytest.approx(
        SEGMENTATION.summary(pixels([0] * 120, targets, [0] * 120)[0].rows, 3)["mean_iou"]
    )
    if refused:
        with pytest.raises(DataError, match=r"mean IoU 0\.2222"):
            require_signal(SEGMENTATION, fp32, wanted, 0.95)
    else:
        require_signal(SEGMENTATION, fp32, wanted, 0.95)


def one_set(task: Task, outputs: Outputs) -> Evaluation:
    """FP32's, without labels, as validate_accuracy has it."""
    answers = Answers(task, [str(index) for index in range(len(outputs))], None, Precision.fp32)
    answers.add(outputs)
    return answers.evaluation()


VARIED = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
DEAD = np.full((20, 3), 0.1, np.float32)


@pytest.mark.parametrize(
    ("task", "outputs", "refused"),
    [
        pytest.param(CLASSIFICATION, one_hot([0, 1, 2]), False, id="several classes"),
        pytest.param(
            CLASSIFICATION, one_hot([0]), False, id="one image, of which the gate says that it decides nothing"
        ),
        pytest.param(CLASSIFICATION, one_hot([1] * 20), True, id="one class"),
        pytest.param(CLASSIFICATION, one_hot([1] * 20) * 0, True, id="zeros"),
        pytest.param(
            SEGMENTATION, np.repeat(one_hot([0, 1] * 10)[:, :, None, None], 2, 3), False, id="two classes of pixels"
        ),
        pytest.param(
            SEGMENTATION, np.repeat(one_hot([1] * 20)[:, :, None, None], 2, 3), True, id="one class of pixels"
        ),
        pytest.param(
            get_task("outputs"),
            together({"a": VARIED, "anchors": DEAD}),
            False,
            id="one output of two is constant",
        ),
        pytest.param(get_task("outputs"), together({"a": DEAD, "b": DEAD * 0}), True, id="all outputs are constant"),
    ],
)
def test_without_labels_fp32_must_not_answer_all_images_alike(task: Task, outputs: Outputs, refused: bool) -> None:
    if not refused:
        require_signal(task, one_set(task, outputs), None, 0.95)
        return
    with pytest.raises(
        DataError, match="fp32 gives all 20 images the same answer, and an engine that keeps that keeps nothing"
    ):
        require_signal(task, one_set(task, outputs), None, 0.95)


@pytest.mark.parametrize("engine", [agreeing(1000, 0), agreeing(0, 1000)])
def test_nothing_passed_where_nothing_is_gated(engine: tuple[Evaluation, Evaluation]) -> None:
    configured = settings(gated=[])
    verdicts = gate.judge_all(CLASSIFICATION, {Precision.fp32: engine[1], Precision.int8: engine[0]}, configured)
    found = of_gate(gate.record(verdicts, configured, "top1"))
    assert (found["verdict"], found["passed"]) == ("not gated", False)
    assert not stops(verdicts, configured)


@pytest.mark.parametrize("scale", [1.0, 1e-35, 1e30])
def test_the_scale_of_the_outputs_does_not_move_sqnr(scale: float) -> None:
    noisy = VARIED + np.random.default_rng(1).normal(size=VARIED.shape).astype(np.float32)
    rows = CLASSIFICATION.score((noisy.astype(np.float64) * scale), None, VARIED.astype(np.float64) * scale)
    estimate = CLASSIFICATION.noise(rows)
    assert estimate is not None
    assert -3 < estimate.value < 3
