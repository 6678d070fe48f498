"""Scenes of MNIST digits: the same each time, boxes around the ink, and no digit in training and validation."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from enginewright.config import Data
from enginewright.data.samples import Sample
from enginewright.data.sources import digit_scenes, open_source
from enginewright.data.sources.digit_scenes import HELD_OUT_SCENES, INK, MOST_DIGITS, SCENES, SIZE, Scenes
from enginewright.data.sources.digits import mnist

pytestmark = pytest.mark.slow
CHOSEN = [*range(0, SCENES, 97), *range(SCENES, SCENES + HELD_OUT_SCENES, 97)]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(open_source(Data(source="digit_scenes")).samples())


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    return mnist("digit_scenes")


@pytest.fixture(scope="module")
def labels(images: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return images[1]


@pytest.fixture(scope="module")
def scenes(images: tuple[np.ndarray, np.ndarray]) -> Scenes:
    return Scenes(*images)


def pixels_of(sample: Sample) -> np.ndarray:
    loaded = sample.load()
    assert isinstance(loaded, np.ndarray)
    return loaded


def boxes_of(sample: Sample) -> np.ndarray:
    assert sample.boxes is not None
    return sample.boxes()


def test_validation_has_scenes_of_its_own(samples: list[Sample]) -> None:
    assert [sample.held_out for sample in samples] == [False] * SCENES + [True] * HELD_OUT_SCENES
    assert [sample.name for sample in samples[::1999]] == ["0000", "1999", "3998", "5997"]


def test_no_digit_of_a_validation_scene_is_in_another(scenes: Scenes) -> None:
    shown = {
        held_out: {digit for number in numbers for digit in scenes.digits(number)}
        for held_out, numbers in ((False, range(SCENES)), (True, range(SCENES, SCENES + HELD_OUT_SCENES)))
    }
    assert not shown[False] & shown[True]
    assert (len(shown[False]), len(shown[True])) == (3458, 1495)  # of 3,500 and 1,500


def test_ink_lies_in_boxes_and_touches_their_edges(samples: list[Sample]) -> None:
    for number in CHOSEN:
        pixels, boxes = pixels_of(samples[number]), boxes_of(samples[number])
        assert (str(pixels.dtype), pixels.shape, str(boxes.dtype), boxes.shape[1]) == (
            *("uint8", (SIZE, SIZE)),
            *("float64", 7),
        )
        rest = pixels.copy()
        for x1, y1, x2, y2, kind, area, crowd in boxes.tolist():
            inside = pixels[int(y1) : int(y2), int(x1) : int(x2)] >= INK
            assert inside[[0, -1]].any(axis=1).all()
            assert inside[:, [0, -1]].any(axis=0).all()
            assert (area, crowd) == ((x2 - x1) * (y2 - y1), 0)
            assert 0 <= kind <= 9
            rest[int(y1) : int(y2), int(x1) : int(x2)] = 0
        assert not rest.any()


def test_boxes_do_not_overlap_and_are_one_to_seven(samples: list[Sample]) -> None:
    counts = set()
    for number in CHOSEN:
        covered = np.zeros((SIZE, SIZE), int)
        boxes = boxes_of(samples[number])
        for x1, y1, x2, y2 in boxes[:, :4].astype(int):
            covered[y1:y2, x1:x2] += 1
        assert covered.max() == 1
        counts.add(len(boxes))
    assert counts == set(range(1, MOST_DIGITS + 1))


def test_boxes_have_the_classes_of_the_digits_and_the_label_is_the_most_frequent(
    samples: list[Sample], scenes: Scenes, labels: np.ndarray
) -> None:
    for number in CHOSEN:
        classes = boxes_of(samples[number])[:, 4].astype(int).tolist()
        assert classes == labels[scenes.digits(number)].tolist()
        assert classes.count(samples[number].label) == max(map(classes.count, classes))


def test_a_scene_is_the_same_alone_and_again(samples: list[Sample]) -> None:
    fresh = next(islice(open_source(Data(source="digit_scenes")).samples(), 4321, None))
    for sample in (samples[4321], fresh):
        assert pixels_of(sample).sum() == pixels_of(fresh).sum()
        assert np.array_equal(pixels_of(sample), pixels_of(fresh))
        assert np.array_equal(boxes_of(sample), boxes_of(fresh))


def test_scenes_are_those_that_the_published_figures_are_of(scenes: Scenes) -> None:
    """On any machine and with any version of Python: draws are of `random.Random.random`."""
    assert scenes.digits(0) == [3789, 2105, 1296, 2557, 2026, 3919]
    assert [scenes.boxes(number)[0].tolist() for number in (0, SCENES)] == [
        [80, 65, 103, 88, 7, 529, 0],
        [67, 36, 95, 64, 4, 784, 0],
    ]


def test_nothing_is_composed_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    monkeypatch.setattr(digit_scenes, "_ink", lambda *_: composed.append(1))
    assert sum(1 for _ in open_source(Data(source="digit_scenes")).samples()) == SCENES + HELD_OUT_SCENES
    assert not composed
