"""The task detection: what it judges and refuses, and that its gate tells a broken engine from a good one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from enginewright.accuracy.gate import judge, require_signal, sentence
from enginewright.config import Accuracy, ContractName, Model
from enginewright.config.model import Detection as Settings
from enginewright.data import ImageSet
from enginewright.data.columns import Ragged
from enginewright.data.geometry import Geometry
from enginewright.errors import ConfigError, DataError, ModelError
from enginewright.interface import BATCH, Interface, TensorSpec
from enginewright.results.verdicts import Outcome
from enginewright.statistics import Resampled
from enginewright.tasks import get_task, judged, task_of
from enginewright.tasks.base import Evaluation, interface_of
from enginewright.tasks.detection.likeness import likeness
from enginewright.tasks.detection.task import OF_FP32, Detection

IMAGES, CLASSES, ANCHORS = 200, 4, 20
SIZE = (128, 128)
RELATIVE = Accuracy(minimum_ratio=0.97)
PASSED, FAILED = Outcome.passed, Outcome.failed
Array = npt.NDArray[Any]
Damage = Callable[[Array, np.random.Generator], Array]


def scenes(rng: np.random.Generator) -> tuple[list[Array], Array]:
    """Truths of each image, and what a fair detector answers: `yolo` [N, 4 + C, A], boxes a pixel or two off."""
    truths, answers = [], np.zeros((IMAGES, 4 + CLASSES, ANCHORS), np.float32)
    for image in range(IMAGES):
        count = int(rng.integers(1, 7))
        middle, sides = rng.uniform(24, 104, (count, 2)), rng.uniform(20, 44, (count, 2))
        kinds = rng.integers(0, CLASSES, count)
        low, high = middle - sides / 2, middle + sides / 2
        truths.append(np.column_stack([low, high, kinds, sides.prod(axis=1), np.zeros(count)]))
        boxes = np.concatenate([middle, sides], axis=1) + rng.normal(0, 0.8, (count, 4))
        answers[image, :4, :count] = boxes.T
        answers[image, 4 + kinds, np.arange(count)] = rng.uniform(0.3, 0.95, count)
        rest = ANCHORS - count  # what it takes for objects, not surely
        answers[image, :4, count:] = rng.uniform(10, 110, (4, rest))
        answers[image, 4 + rng.integers(0, CLASSES, rest), np.arange(count, ANCHORS)] = rng.uniform(0, 0.15, rest)
    return truths, answers


def shuffled(answers: Array, rng: np.random.Generator) -> Array:
    answers[:, :4] = answers[:, :4][:, :, rng.permutation(ANCHORS)]
    return answers


def shifted(pixels: float) -> Damage:
    def damage(answers: Array, rng: np.random.Generator) -> Array:
        del rng
        answers[:, :2] += pixels
        return answers

    return damage


def one_class_swapped(answers: Array, rng: np.random.Generator) -> Array:
    del rng
    answers[:, [4, 5]] = answers[:, [5, 4]]
    return answers


def scores_scaled(answers: Array, rng: np.random.Generator) -> Array:
    del rng
    answers[:, 4:] *= 0.8
    return answers


def noisy(decibel: float) -> Damage:
    def damage(answers: Array, rng: np.random.Generator) -> Array:
        power = np.square(answers).mean() / 10 ** (decibel / 10)
        return np.asarray(answers + rng.normal(0, np.sqrt(power), answers.shape), np.float32)

    return damage


def rounded(answers: Array, rng: np.random.Generator) -> Array:
    """Pixels and scores on one scale of 256 steps, as a quantized Concat has them."""
    del rng
    scale = answers.max() / 127
    return np.asarray(np.round(answers / scale) * scale, np.float32)


def nothing(answers: Array, rng: np.random.Generator) -> Array:
    del rng
    answers[:, 4:] = 0
    return answers


def untouched(answers: Array, rng: np.random.Generator) -> Array:
    del rng
    return answers


TABLE: list[tuple[str, Damage, Outcome]] = [
    ("equal", untouched, PASSED),
    ("scores scaled", scores_scaled, PASSED),
    ("0.1 pixels off", shifted(0.1), PASSED),
    ("60 dB", noisy(60), PASSED),
    ("boxes shuffled", shuffled, FAILED),
    ("3 pixels off", shifted(3), FAILED),
    ("one class swapped", one_class_swapped, FAILED),
    ("20 dB", noisy(20), FAILED),
    ("pixels and scores on one scale", rounded, FAILED),
    ("finds nothing", nothing, FAILED),
]


def evaluations(damage: Damage, labelled: bool) -> tuple[Evaluation, Evaluation]:
    """An engine's and FP32's."""
    rng = np.random.default_rng(0)
    truths, answers = scenes(rng)
    task = get_task("detection")
    fp32 = task.decode({"y": answers}, [], SIZE)
    engine = task.decode({"y": damage(answers.copy(), rng)}, [], SIZE)
    targets: Any = Ragged.of(truths)[:] if labelled else None
    return (Evaluation(task.score(engine, targets, fp32), 0), Evaluation(task.score(fp32, targets, None), 0))


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize(("damage", "outcome"), [pytest.param(*case[1:], id=case[0]) for case in TABLE])
def test_the_gate_tells_a_broken_engine_from_a_good_one(damage: Damage, outcome: Outcome, labelled: bool) -> None:
    engine, fp32 = evaluations(damage, labelled)
    verdict = judge(get_task("detection"), engine, fp32, RELATIVE)
    assert verdict.metric.figure == ("map50_95" if labelled else OF_FP32)
    assert verdict.outcome is outcome, sentence(get_task("detection"), verdict, "int8")


def test_scores_scaled_alone_change_no_metric_of_coco() -> None:
    task = get_task("detection")
    engine, fp32 = evaluations(scores_scaled, labelled=True)
    own, its = (task.summary(found.rows, 0) for found in (engine, fp32))
    assert own["map50_95"] == pytest.approx(its["map50_95"], abs=0.005)  # but for those below the confidence
    assert own["agreement"] < 0.9


def test_the_comparison_is_paired() -> None:
    task = get_task("detection")
    engine, fp32 = evaluations(shifted(1), labelled=True)
    found = task.compare(engine.rows, fp32.rows, 0.95)
    figures = [task.summary(one.rows, 0)["map50_95"] for one in (engine, fp32)]
    difference = found["map50_95_difference"]
    assert difference == pytest.approx(figures[0] - figures[1])
    assert found["map50_95_difference_low"] < difference < found["map50_95_difference_high"] < 0
    paired, alone = (task.estimate(engine.rows, fp32.rows, ratio) for ratio in (1.0, 0.0))
    assert isinstance(paired, Resampled)
    assert isinstance(alone, Resampled)
    assert paired.drawn.std() < alone.drawn.std()  # an image that is hard for both says nothing of the difference


def test_boxes_lie_in_the_image_and_not_in_the_input() -> None:
    """A letterbox of 64 x 128 pixels into 128 x 128 with 32 rows of padding above."""
    output = np.zeros((1, 4 + CLASSES, ANCHORS), np.float32)
    output[0, :, 0] = [64, 64, 20, 10, 0.9, 0, 0, 0]
    its = Geometry((64, 128), offset=(32, 0))
    found = get_task("detection").decode({"y": output}, [its], SIZE)
    assert found[0, 0].tolist() == pytest.approx([54, 27, 74, 37, 0.9, 0])


def test_an_answer_that_is_not_a_number_is_none_of_any_box() -> None:
    outputs = np.zeros((3, 4 + CLASSES, ANCHORS), np.float32)
    outputs[1, 5, 7], outputs[2, 0, 0] = np.nan, np.inf
    found = get_task("detection").decode({"y": outputs}, [], SIZE)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
    assert np.isinf(found[2]).all()


def interface(*shapes: tuple[Any, ...], size: tuple[Any, Any] = (640, 640)) -> Interface:
    images = TensorSpec("images", np.dtype(np.float32), (BATCH, 3, *size))
    outputs = tuple(TensorSpec(f"y{place}", np.dtype(np.float32), (BATCH, *its)) for place, its in enumerate(shapes))
    return Interface((images,), outputs)


def model(contract: Optional[str] = None, named: Optional[str] = None) -> Model:
    settings = Settings(contract=None if contract is None else ContractName[contract])
    return Model(task="detection", judged=named, detection=settings)


def names_of(found: Interface) -> list[str]:
    return [spec.name for spec in found.outputs]


def test_what_is_judged_is_what_the_contract_takes() -> None:
    assert names_of(judged(model(), interface((84, 8400)))) == ["y0"]
    assert names_of(judged(model(), interface((300, 91), (300, 4), (300, 108, 108)))) == ["y1", "y0"]
    assert names_of(judged(model("yolox"), interface((8400, 85)))) == ["y0"]
    assert names_of(judged(model(named="y1"), interface((8400, 85), (300, 6)))) == ["y1"]


def test_what_the_shapes_tell_is_said_and_what_is_stated_is_not() -> None:
    yolo = judged(model(), interface((84, 8400)))
    assert (
        task_of(model())
        .takes_for(yolo)
        .startswith("by its shapes, 'y0' [N, 84, 8400] is taken for the contract yolo (")
    )
    assert task_of(model("yolo")).takes_for(yolo) == ""


def test_contracts_that_look_alike_are_not_guessed() -> None:
    with pytest.raises(
        ConfigError,
        match=re.escape(
            "model.detection.contract: the outputs of the model, 'y0' [N, 8400, 85], may be of the contracts yolox,"
            " yolox_raw; set it to the one that they are of (docs/detection.md)"
        ),
    ):
        judged(model(), interface((8400, 85)))


@pytest.mark.parametrize(
    ("configured", "shapes", "refused"),
    [
        pytest.param(model(), [(1000,)], "the outputs of the model are 'y0' [N, 1000], and model.task", id="classes"),
        pytest.param(model("yolo"), [(8400, 85)], "model.task detection judges yolo: [N, 4 + cla", id="another"),
        pytest.param(model(), [(84, 80, 80), (84, 40, 40)], "'y0' [N, 84, 80, 80], 'y1' [N, 84, 40, 40]", id="heads"),
    ],
)
def test_what_no_contract_takes_is_refused(configured: Model, shapes: list[tuple[Any, ...]], refused: str) -> None:
    with pytest.raises(ModelError, match=re.escape(refused)):
        task_of(configured).check(judged(configured, interface(*shapes)), "the model")


def test_an_output_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="the model has no output 'y7'; choose one of y0"):
        judged(model(named="y7"), interface((84, 8400)))


def test_six_columns_are_told_by_the_size_that_is_fed() -> None:
    task = Detection()
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = [10, 20, 30, 40, 0.5, 2]
    task.check(interface_of({"y": rows}), "the fp32 engine")
    assert task.decode({"y": rows}, [], (640, 640))[0, 0].tolist() == [10, 20, 30, 40, 0.5, 2]


def test_a_model_without_images_has_no_pixels() -> None:
    with pytest.raises(ModelError, match=r"has no input .* that takes images"):
        Detection().decode({"y": np.zeros((1, 84, 8400), np.float32)}, [], None)


def image_set(truths: Optional[list[Array]]) -> ImageSet:
    count = IMAGES if truths is None else len(truths)
    names = tuple(f"{index}.png" for index in range(count))
    targets = None if truths is None else Ragged.of(truths)
    return ImageSet({"images": np.zeros((count, 8, 8, 1), np.uint8)}, None, tuple("abcd"), names, [], targets)


def test_a_set_without_a_single_box_has_no_targets() -> None:
    task = get_task("detection")
    assert task.targets(image_set(None)) is None
    assert task.targets(image_set([np.empty((0, 7)), np.empty((0, 7))])) is None
    assert task.targets(image_set([np.empty((0, 7)), np.zeros((1, 7))])) is not None


def test_targets_of_another_form_are_refused() -> None:
    masks = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(DataError, match=re.escape("a has targets [8, 8], and model.task detection takes [boxes, 7]")):
        get_task("detection").check_batch(masks, masks, ["a", "b"])


def test_fp32_that_finds_nothing_is_held_against_nothing() -> None:
    task = get_task("detection")
    for labelled, said in ((True, "fp32 itself has mAP50-95 0.0000"), (False, "gives all 200 images the same answer")):
        _, fp32 = evaluations(untouched, labelled)
        rows = fp32.rows.assign(found=pd.Series([np.empty((0, 6), np.float32)] * IMAGES, dtype=object))
        empty = Evaluation(rows, 0)
        targets = Ragged.of(list(rows["truth"])) if labelled else None
        with pytest.raises(DataError, match=said):
            require_signal(task, empty, targets, 0.95)
    nothing_found = empty.rows.assign(reference=empty.rows["found"])
    with pytest.raises(DataError, match=r"fp32 finds nothing with a score of 0\.25 or more in 200 images"):
        task.estimate(nothing_found, empty.rows, 1.0)


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_the_tables(labelled: bool) -> None:
    task = get_task("detection")
    engine, fp32 = evaluations(shifted(3), labelled)
    truths = list(fp32.rows["truth"]) if labelled else None
    tables = task.tables(image_set(truths), {"fp32": fp32.rows, "int8": engine.rows}, 0)
    assert list(tables) == [
        "classes.csv",
        "recall.csv",
        "changed.csv",
        "confusion_fp32.csv",
        "confusion_int8.csv",
        "predictions.csv",
    ]
    classes = tables["classes.csv"]
    assert list(classes["class"]) == list("abcd")
    if labelled:
        assert classes["boxes"].sum() == sum(map(len, truths or []))
        assert (classes["ap_delta_int8"] < 0).all()
        assert (tables["confusion_fp32.csv"]["actual"] != "(nothing)").sum() == classes["boxes"].sum()
    else:
        assert (classes["agreement_int8"] < 1).all()
    assert set(tables["recall.csv"]["precision"]) == ({"fp32", "int8"} if labelled else {"int8"})
    changed = tables["changed.csv"]
    assert (changed["agreement"].diff().dropna() >= 0).all()
    assert (changed["lost"] + changed["added"] > 0).all()
    assert tables["predictions.csv"]["fp32"].mean() > tables["predictions.csv"]["int8"].mean()


def test_likeness_is_of_boxes_classes_and_scores() -> None:
    one = np.array([[10, 10, 30, 30, 0.9, 0], [50, 50, 80, 90, 0.6, 1]], np.float32)
    empty = one[:0]
    assert likeness(one, one) == likeness(empty, empty) == 1
    assert likeness(one, empty) == likeness(empty, one) == 0
    near, far, other = one.copy(), one.copy(), one.copy()
    near[:, 0], far[:, 0], other[:, 5] = near[:, 0] + 1, far[:, 0] + 3, 1 - other[:, 5]
    assert 1 > likeness(near, one) > likeness(far, one) > likeness(other, one) == 0
    assert likeness(near, far) == likeness(far, near)
