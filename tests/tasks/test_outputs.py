"""The task for any numbers: every output counts, and what all images have in common does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from enginewright.accuracy.gate import failure, judge
from enginewright.config import Accuracy, Precision
from enginewright.data import ImageSet
from enginewright.errors import ModelError
from enginewright.results.verdicts import Outcome
from enginewright.tasks.base import Evaluation, Outputs, mean_of, together
from enginewright.tasks.classification import TASK as CLASSIFICATION
from enginewright.tasks.outputs import TASK

RANDOM = np.random.default_rng(0)
IMAGES = 600
Floats = npt.NDArray[np.float64]


def evaluations(fp32: dict[str, Floats], engine: dict[str, Floats]) -> tuple[Evaluation, Evaluation]:
    want, have = together(fp32), together(engine)
    return Evaluation(TASK.score(have, None, want, mean_of(want)), 0), Evaluation(TASK.score(want, None, None), 0)


def outcome(fp32: Floats, engine: Floats) -> Outcome:
    return judge(TASK, *evaluations({"y": fp32}, {"y": engine}), Accuracy()).outcome


def noisy(values: Floats, ratio: float) -> Floats:
    """With noise of this share of the power of what varies."""
    varying = values - values.mean(axis=0)
    found: Floats = values + RANDOM.normal(size=values.shape) * np.sqrt(ratio * np.square(varying).mean())
    return found


EMBEDDING = RANDOM.normal(size=(IMAGES, 64))
REGRESSION = RANDOM.normal(size=(IMAGES, 1)) + 30.0  # an age, a depth: far from zero
BOXES = RANDOM.normal(size=(IMAGES, 4, 50)) + RANDOM.uniform(0, 640, (1, 4, 50))  # around anchors that every image has
FEW = RANDOM.normal(size=(3, 64))


@pytest.mark.parametrize(
    ("fp32", "engine", "expected"),
    [
        pytest.param(EMBEDDING, noisy(EMBEDDING, 1e-4), Outcome.passed, id="embedding, 40 dB"),
        pytest.param(EMBEDDING, noisy(EMBEDDING, 0.5), Outcome.failed, id="embedding, 3 dB"),
        pytest.param(EMBEDDING, RANDOM.permutation(EMBEDDING), Outcome.failed, id="embedding of other images"),
        pytest.param(REGRESSION, noisy(REGRESSION, 1e-4), Outcome.passed, id="one value, 40 dB"),
        pytest.param(
            REGRESSION,
            np.full_like(REGRESSION, 30.0),
            Outcome.failed,
            id="one value, the same for every image: 30 dB of SQNR",
        ),
        pytest.param(
            REGRESSION,
            noisy(REGRESSION, 1.0),
            Outcome.failed,
            id="one value, as much noise as it varies: 30 dB of SQNR",
        ),
        pytest.param(BOXES, noisy(BOXES, 1e-4), Outcome.passed, id="boxes"),
        pytest.param(
            BOXES, np.broadcast_to(BOXES.mean(axis=0), BOXES.shape), Outcome.failed, id="boxes that are the anchors"
        ),
        pytest.param(
            np.ones((IMAGES, 5)),
            np.ones((IMAGES, 5)) * 1.001,
            Outcome.passed,
            id="FP32 answers the same everywhere, and so does the engine",
        ),
        pytest.param(
            np.ones((IMAGES, 5)),
            -np.ones((IMAGES, 5)),
            Outcome.failed,
            id="FP32 answers the same everywhere, and the engine its negative",
        ),
        pytest.param(
            np.zeros((IMAGES, 5)), np.ones((IMAGES, 5)), Outcome.failed, id="something where FP32 has nothing"
        ),
        pytest.param(FEW, FEW + 1e-6, Outcome.undecided, id="three images"),
        pytest.param(FEW[:1], FEW[:1] + 1e-6, Outcome.undecided, id="one image"),
    ],
)
def test_verdict(fp32: Floats, engine: Floats, expected: Outcome) -> None:
    assert outcome(fp32, engine) is expected


def test_cosine_and_sqnr_are_those_of_numpy() -> None:
    other = noisy(BOXES, 0.01)
    found = TASK.summary(evaluations({"y": BOXES}, {"y": other})[0].rows, 0)
    want, have = (values.astype(np.float32).astype(np.float64) for values in (BOXES, other))
    about, own = (values - want.mean(axis=0) for values in (want, have))
    assert found["outputs"]["y"]["cosine"] == pytest.approx(
        (about * own).sum() / np.linalg.norm(about) / np.linalg.norm(own), rel=1e-6
    )
    assert found["sqnr_db"] == pytest.approx(
        10 * np.log10(np.square(want).sum() / np.square(want - have).sum()), rel=1e-6
    )


def test_every_output_is_judged_and_the_worst_decides() -> None:
    good, bad = noisy(EMBEDDING, 1e-4), noisy(BOXES, 0.5)
    engine, fp32 = evaluations({"embedding": EMBEDDING, "boxes": BOXES}, {"embedding": good, "boxes": bad})
    found = TASK.summary(engine.rows, 0)
    assert set(found["outputs"]) == {"embedding", "boxes"}
    assert found["lowest_cosine"] == found["outputs"]["boxes"]["cosine"] < found["outputs"]["embedding"]["cosine"]
    assert judge(TASK, engine, fp32, Accuracy()).outcome is Outcome.failed
    assert (
        judge(TASK, *evaluations({"embedding": EMBEDDING}, {"embedding": good}), Accuracy()).outcome is Outcome.passed
    )


def test_the_worst_images_come_first() -> None:
    other = EMBEDDING.copy()
    other[[7, 3]] = [-EMBEDDING[7], 0.1 * EMBEDDING[3] + EMBEDDING[4]]
    engine, fp32 = evaluations({"y": EMBEDDING}, {"y": other})
    names = tuple(f"{index}.png" for index in range(IMAGES))
    images = ImageSet({"images": np.zeros((IMAGES, 1, 1, 1), np.uint8)}, None, (), names, [Path("x")])
    changed = TASK.tables(images, {"fp32": fp32.rows, "int8": engine.rows}, 0)["changed.csv"]
    assert changed["name"].tolist()[:2] == ["7.png", "3.png"]
    assert changed["predicted"].is_monotonic_increasing


def test_a_field_for_each_output() -> None:
    found: Outputs = together({"a": np.ones((3, 2)), "b/c.0": np.arange(3, dtype=np.int64)})
    assert found.dtype.names == ("a", "b/c.0")
    assert mean_of(found)["b/c.0"].tolist() == [1.0]


def test_vectors_of_length_one_are_no_class_scores() -> None:
    vectors = (EMBEDDING / np.linalg.norm(EMBEDDING, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    names = [f"{index}.png" for index in range(IMAGES)]
    with pytest.raises(ModelError, match=r"vectors of length 1, as embeddings are.*set model.task=outputs"):
        CLASSIFICATION.check_batch(vectors, None, names)
    CLASSIFICATION.check_batch(EMBEDDING, None, names)
    CLASSIFICATION.check_batch(np.eye(4), None, names[:4])  # certain probabilities have length 1 too


def test_a_failed_gate_names_the_outputs_that_lost_most() -> None:
    engine, fp32 = evaluations(
        {"embedding": EMBEDDING, "boxes": BOXES}, {"embedding": noisy(EMBEDDING, 1e-4), "boxes": noisy(BOXES, 0.5)}
    )
    images = ImageSet(
        {"images": np.zeros((IMAGES, 1, 1, 1), np.uint8)}, None, (), tuple(map(str, range(IMAGES))), [Path("x")]
    )
    classes = TASK.tables(images, {"fp32": fp32.rows, "int8": engine.rows}, 0)["classes.csv"]
    said = failure(TASK, judge(TASK, engine, fp32, Accuracy()), Precision.int8, classes, Accuracy())
    assert "cosine of the worst output of int8 is 0.8" in said
    assert "the outputs that lost most are 'boxes' (-0.1" in said
