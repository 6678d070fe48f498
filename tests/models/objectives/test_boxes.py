"""What training asks of boxes: who answers for which, what it costs, and mAP."""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np
import pytest
import torch

from enginewright.data import ImageSet
from enginewright.data.columns import Column, Ragged
from enginewright.data.geometry import Geometry
from enginewright.errors import DataError, ModelError
from enginewright.models.detector import Detector, Predictions
from enginewright.models.objectives import objective_of
from enginewright.models.objectives.boxes import assigned, overlaps

DETECTION = objective_of("detection")
SIDE, CLASSES = 32, 2
CELLS = torch.arange(4) * 8.0 + 4
POINTS = torch.stack(torch.meshgrid(CELLS, CELLS, indexing="xy"), -1).reshape(16, 2)  # row by row, stride 8
BOX = [2.0, 2.0, 14.0, 14.0, 1.0, 144.0, 0.0]  # the four points 4 and 12 lie in it, its centre is 8, 8
EMPTY: list[list[float]] = []


def image_set(
    targets: Optional[Column], count: int = 2, geometry: Optional[Geometry] = None, width: int = SIDE
) -> ImageSet:
    """`width`: of the second image."""
    alike = np.zeros((count, SIDE, SIDE, 1), np.uint8)
    pixels: Column = alike
    if width != SIDE:
        pixels = Ragged.of([alike[0], np.zeros((SIDE, width, 1), np.uint8)])
    rows = None if geometry is None else np.stack([geometry.to_row()] * count)
    return ImageSet({"images": pixels}, None, ("a", "b"), tuple(map(str, range(count))), [], targets, rows)


def truths(*images: list[list[float]]) -> Ragged:
    return Ragged.of([np.array(rows, np.float64).reshape(-1, 7) for rows in images])


def batch(*images: list[list[float]]) -> torch.Tensor:
    return DETECTION.targets(image_set(truths(*images), len(images)), "training")(np.arange(len(images)))


def predictions(boxes: torch.Tensor, logits: Optional[torch.Tensor] = None) -> Predictions:
    """One image, a box for each of POINTS."""
    logits = torch.zeros(1, len(POINTS), CLASSES) if logits is None else logits
    return Predictions(boxes[None], logits, POINTS, torch.full((len(POINTS),), 8.0))


def around(reach: float) -> torch.Tensor:
    return torch.cat([POINTS - reach, POINTS + reach], 1)


def test_targets_are_filled_up_to_the_most_boxes_of_the_batch() -> None:
    found = batch([BOX, BOX], EMPTY)
    assert found.shape == (2, 2, 7)
    assert (str(found.dtype), found[0, 1].tolist()) == ("torch.float32", BOX)
    assert found[1, :, 4].tolist() == [-1, -1]
    assert batch(EMPTY)[..., 4].tolist() == [[-1]]


def test_targets_of_which_every_image_has_as_many_are_an_array() -> None:
    dense = np.array([[BOX], [BOX]])
    assert DETECTION.targets(image_set(dense), "training")(np.array([1])).tolist() == [[BOX]]


def test_targets_lie_in_the_input() -> None:
    """The image lies in the input at half its size, 3 pixels down and 5 to the right."""
    geometry = Geometry((40, 40), (0.5, 0.5), (3.0, 5.0))
    found = DETECTION.targets(image_set(truths([BOX]), 1, geometry), "training")(np.arange(1))
    assert found[0, 0].tolist() == [6, 4, 12, 10, 1, 144, 0]


WITHOUT = r"the training images have no boxes: take a data.source that has them, such as digit_scenes"


@pytest.mark.parametrize(
    ("images", "text"),
    [
        pytest.param(image_set(None), WITHOUT, id="no targets"),
        pytest.param(image_set(np.zeros((2, SIDE, SIDE), np.uint8)), WITHOUT, id="by pixel"),
        pytest.param(image_set(np.zeros((2, 3, 6))), WITHOUT, id="six columns"),
        pytest.param(image_set(truths([BOX], []), width=40), "differ in shape", id="sizes"),
    ],
)
def test_sets_that_train_no_detector(images: ImageSet, text: str) -> None:
    with pytest.raises(DataError, match=text):
        DETECTION.targets(images, "training")


def test_boxes_train_no_segmenter() -> None:
    with pytest.raises(DataError, match=r"no targets by pixel: take a data.source that has them"):
        objective_of("segmentation").targets(image_set(truths([BOX], [])), "training")


def test_points_inside_a_box_answer_for_it_and_the_best_gets_its_overlap() -> None:
    boxes = around(4.0)
    boxes[5] = torch.tensor([2.0, 2.0, 14.0, 15.0])  # of the point 12, 12, nearly the box
    quality, which = assigned(predictions(boxes), batch([BOX]))
    answering = quality[0].nonzero().ravel().tolist()
    assert answering == [0, 1, 4, 5]
    assert quality[0, 5] == pytest.approx(144 / 156)
    assert (quality[0, [0, 1, 4]] < 0.1).all()
    assert (which == 0).all()


def test_a_higher_score_for_the_class_of_the_box_answers_better() -> None:
    logits = torch.zeros(1, 16, CLASSES)
    logits[0, 1, 1], logits[0, 4, 0] = 2.0, 2.0  # of the box's class, and of another
    quality, _ = assigned(predictions(around(6.0), logits), batch([BOX]))
    assert quality[0].argmax() == 1
    assert quality[0, 0] == quality[0, 4] == quality[0, 5]


def test_a_crowd_and_an_image_without_boxes_ask_for_nothing() -> None:
    crowd = [*BOX[:6], 1.0]
    for images in ([crowd], EMPTY):
        quality, _ = assigned(predictions(around(6.0)), batch(images))
        assert not quality.any()
        assert torch.isfinite(DETECTION.loss(predictions(around(6.0)), batch(images)))


@pytest.mark.parametrize(
    ("other", "overlap", "generalized"),
    [
        pytest.param([0, 0, 4, 4], 1, 1, id="equal"),
        pytest.param([0, 0, 4, 2], 1 / 2, 1 / 2, id="half"),
        pytest.param([6, 0, 10, 4], 0, -8 / 40, id="apart"),
        pytest.param([4, 4, 0, 0], 0, 0, id="inside out"),
    ],
)
def test_overlap_of_two_boxes(other: list[float], overlap: float, generalized: float) -> None:
    one, its = overlaps(torch.tensor([0.0, 0, 4, 4]), torch.tensor(other, dtype=torch.float32))
    assert float(one) == pytest.approx(overlap)
    if other[2] > other[0]:
        assert float(its) == pytest.approx(generalized)


def test_right_boxes_with_high_scores_cost_less_than_wrong_ones() -> None:
    target = batch([BOX])
    right = torch.tensor(BOX[:4]).expand(16, 4)
    sure = torch.full((1, 16, CLASSES), -6.0)
    sure[0, [0, 1, 4, 5], 1] = 6.0
    best = DETECTION.loss(predictions(right, sure), target)
    other_class = DETECTION.loss(predictions(right, sure.flip(2)), target)
    other_boxes = DETECTION.loss(predictions(around(3.0), sure), target)
    assert best < 0.02
    assert other_class > 1
    assert other_boxes > 1


@pytest.mark.parametrize(
    ("distances", "cost"),
    [
        pytest.param([0.75, 0.75, 0.75, 0.75], 0.0, id="between the two bins that are one"),
        pytest.param([2.0, 0.75, 0.75, 0.75], math.inf, id="one edge elsewhere"),
    ],
)
def test_distances_shall_be_spread_over_the_two_bins_beside_the_right_one(distances: list[float], cost: float) -> None:
    """The box reaches 6 pixels from the point 8, 8 of stride 8 in each direction: 0.75 strides."""
    point = torch.tensor([[8.0, 8.0]])
    bins = torch.full((1, 1, 4, 4), -200.0)
    for edge, distance in enumerate(distances):
        below = int(distance)
        bins[0, 0, edge, below] = math.log(max(1 - (distance - below), 1e-30))
        bins[0, 0, edge, below + 1] = math.log(max(distance - below, 1e-30))
    boxes, logits = torch.tensor(BOX[:4])[None, None], torch.tensor([[[-20.0, 20.0]]])
    plain = Predictions(boxes, logits, point, torch.tensor([8.0]))
    extra = DETECTION.loss(plain._replace(distances=bins), batch([BOX])) - DETECTION.loss(plain, batch([BOX]))
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))  # the least that can be reached
    if cost == 0:
        assert float(extra) == pytest.approx(0.5 * entropy, rel=1e-4)
    else:
        assert float(extra) > 5


def test_a_distance_beyond_the_last_bin_asks_for_the_last() -> None:
    point, boxes = torch.tensor([[8.0, 8.0]]), torch.tensor(BOX[:4])[None, None]
    bins = torch.tensor([-200.0, 0.0]).expand(1, 1, 4, 2)  # of 0 and 1 strides
    small = Predictions(
        boxes, torch.tensor([[[-20.0, 20.0]]]), point, torch.tensor([2.0]), bins
    )  # 3 strides are wanted
    assert float(DETECTION.loss(small, batch([BOX]))) == pytest.approx(0, abs=1e-4)


def test_training_lowers_the_loss_and_finds_squares() -> None:
    """Twelve images of a bright square of class 0 or a gray one of class 1; the loss falls and mAP rises."""
    random = np.random.default_rng(0)
    pixels, rows = np.zeros((12, 1, 32, 32), np.float32), []
    for index, image in enumerate(pixels):
        x, y = random.integers(2, 16, 2)
        kind = index % 2
        image[0, y : y + 12, x : x + 12] = 1.0 - kind / 2
        rows.append([[float(x), float(y), x + 12.0, y + 12.0, float(kind), 144.0, 0.0]])
    target, images = batch(*rows), torch.from_numpy(pixels)
    torch.manual_seed(0)
    network = Detector(1, CLASSES, (32, 32), (8, 16, 16, 16))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    losses = []
    for _ in range(80):
        loss = DETECTION.loss(network(images), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * max(losses)  # the first is small: what overlaps little shall have a low score
    network.eval()
    with torch.no_grad():
        found = DETECTION.evaluate([(network(images), target)])
    assert found.metric > 0.5
    assert found.loss is None


def test_map_of_exact_and_of_shifted_boxes() -> None:
    """Shifted by a quarter of its side, a box overlaps by 0.6: 3 of the 10 thresholds are passed."""

    def answered(shift: float) -> torch.Tensor:
        output = torch.zeros(1, 4 + CLASSES, 9)
        output[0, :, 0] = torch.tensor([8.0 + shift, 8.0, 12.0, 12.0, 0.0, 0.9])
        return output

    assert DETECTION.evaluate([(answered(0), batch([BOX]))]).metric == pytest.approx(1)
    assert DETECTION.evaluate([(answered(3), batch([BOX]))]).metric == pytest.approx(0.3)
    two = [(answered(0), batch([BOX])), (answered(3), batch([BOX]))]
    assert 0.3 < DETECTION.evaluate(two).metric < 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(torch.zeros(1, 6, 16), "a Tensor in training mode, and train_reference trains", id="tensor"),
        pytest.param({"boxes": 1}, "a dict in training mode", id="dict"),
        pytest.param(
            predictions(around(6.0), torch.zeros(1, 16, 1)),
            "answers 1 classes and a box is of class 1; give it 2 at least, in model.arguments",
            id="few classes",
        ),
    ],
)
def test_answers_in_training_that_are_one_sentence(answer: Any, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        DETECTION.loss(answer, batch([BOX]))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(torch.zeros(1, 4, 16), r"the model returns \[1, 4, 16\] in eval mode", id="no classes"),
        pytest.param(torch.zeros(1, 6), r"returns \[1, 6\] in eval mode", id="rank"),
        pytest.param(predictions(around(6.0)), "returns a Predictions in eval mode", id="predictions"),
        pytest.param(torch.zeros(1, 5, 16), "answers 1 classes and a box is of class 1", id="few classes"),
    ],
)
def test_answers_in_evaluation_that_are_one_sentence(answer: Any, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        DETECTION.evaluate([(answer, batch([BOX]))])
