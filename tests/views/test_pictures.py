"""What a picture of detections shows: the least alike images first, padding cut off, changes in their colours."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from enginewright.config import ChannelOrder, Precision, Preprocessing
from enginewright.data import ImageSet
from enginewright.data.columns import Ragged
from enginewright.data.geometry import Geometry
from enginewright.tasks import get_task
from enginewright.tasks.base import Evaluation
from enginewright.views import pictures
from enginewright.views.pictures import ADDED_COLOUR, LOST_COLOUR, MOVED_COLOUR, SAME_COLOUR, Change

Array = npt.NDArray[Any]
TASK = get_task("detection")
FP32, FP16, INT8, MIXED = Precision.fp32, Precision.fp16, Precision.int8, Precision.int8_mixed
FOUND = np.array([[10, 10, 50, 50, 0.9, 0], [60, 60, 100, 110, 0.8, 1], [10, 70, 40, 100, 0.7, 0]], np.float32)


def stacked(*images: Array) -> Array:
    from enginewright.tasks.detection.boxes import stacked as together

    return together(list(images), 5)


def changed() -> Array:
    """Of FOUND the first is the same, the second 6 pixels off, the third is lost, and another is new."""
    rows = FOUND[[0, 1, 1]].copy()
    rows[1, :4] += 6
    rows[2] = [80, 5, 120, 40, 0.6, 1]
    return rows


def images(count: int, geometry: Optional[Geometry] = None, channels: int = 1) -> ImageSet:
    pixels = np.full((count, 128, 128, channels), 40, np.uint8)
    truths = np.zeros((1, 7))
    truths[0, :4] = FOUND[0, :4]
    rows = None if geometry is None else np.stack([geometry.to_row()] * count)
    names = tuple(f"{index}.png" for index in range(count))
    return ImageSet({"images": pixels}, None, ("cat", "犬"), names, [], Ragged.of([truths] * count), rows)


def evaluations(engine: Array, found: ImageSet, *precisions: Precision) -> dict[Precision, Evaluation]:
    fp32 = stacked(*[FOUND] * len(found))
    truths: Any = found.targets
    others = {precision: Evaluation(TASK.score(engine, truths[:], fp32), 0) for precision in precisions}
    return {FP32: Evaluation(TASK.score(fp32, truths[:], None), 0), **others}


def colours(picture: Any) -> set[str]:
    found = np.unique(np.asarray(picture).reshape(-1, 3), axis=0)
    return {"#{:02X}{:02X}{:02X}".format(*colour) for colour in found.tolist()}


def test_a_change_is_what_is_the_same_moved_added_and_lost() -> None:
    change = Change.of(changed(), FOUND)
    assert [len(part) for part in (change.same, change.moved, change.added, change.lost)] == [1, 1, 1, 1]
    assert change.says() == "1 lost, 1 added, 1 moved"
    assert Change.of(FOUND, FOUND).says() == "nothing changed"
    faint = FOUND.copy()
    faint[:, 4] = 0.1
    assert Change.of(faint, faint).same.shape == (0, 6)


def test_boxes_have_the_colours_of_what_became_of_them() -> None:
    found = images(1)
    picture = pictures.draw(TASK, found, evaluations(stacked(changed()), found, INT8), Preprocessing())
    assert picture is not None
    panel = picture.crop((0, 50, picture.width // 2, picture.height - 40))
    assert {SAME_COLOUR} == colours(panel) & {SAME_COLOUR, MOVED_COLOUR, ADDED_COLOUR, LOST_COLOUR}
    panel = picture.crop((picture.width // 2 + 6, 50, picture.width, picture.height - 40))
    assert {SAME_COLOUR, MOVED_COLOUR, ADDED_COLOUR, LOST_COLOUR} <= colours(panel)


def test_a_box_stands_where_it_is() -> None:
    """A panel of 128 pixels is three times as large; the first one begins below the title and the caption."""
    found = images(1)
    picture = pictures.draw(TASK, found, evaluations(stacked(FOUND), found, INT8), Preprocessing())
    assert picture is not None
    pixels = np.asarray(picture)
    blue = (pixels[:, : picture.width // 2] == [0x56, 0xB4, 0xE9]).all(axis=2)
    rows, columns = np.nonzero(blue[: blue.shape[0] - 40])
    left, right = columns.min() - pictures.GAP, columns.max() - pictures.GAP
    assert left == pytest.approx(3 * 10, abs=2)
    assert right == pytest.approx(3 * 100, abs=2)
    assert rows.max() - rows.min() == pytest.approx(3 * (110 - 10) + 18, abs=8)  # and a label above


def test_padding_is_cut_off_and_channels_are_turned_round() -> None:
    """A letterbox of 64 x 128 pixels; blue in BGR is blue."""
    found = images(1, Geometry((64, 128), offset=(32, 0)), channels=3)
    pixels = np.asarray(found.arrays["images"]).copy()
    pixels[:, :32], pixels[:, 96:] = 114, 114
    pixels[:, 32:96] = [200, 0, 0]
    found = ImageSet({"images": pixels}, None, (), found.names, [], found.targets, found.geometry)
    settings = Preprocessing(recipe="letterbox", channels=ChannelOrder.bgr, size=[128, 128])
    picture = pictures.draw(TASK, found, evaluations(stacked(FOUND), found, INT8), settings)
    assert picture is not None
    assert "#0000C8" in colours(picture)
    border = (np.asarray(picture) == 114).all(axis=2)  # some pixels of letters are as gray
    assert border.sum() < 100


def test_the_least_alike_image_is_first_and_no_more_than_eight_are_shown() -> None:
    found = images(12)
    engine = stacked(*[changed() if index == 7 else FOUND for index in range(12)])
    evaluated = evaluations(engine, found, FP16, INT8, MIXED)
    picture = pictures.draw(TASK, found, evaluated, Preprocessing())
    assert picture is not None
    panel, head = 3 * 128 + pictures.GAP + pictures.LINE, 2 * pictures.LINE + 2 * pictures.GAP
    assert picture.height == pytest.approx(pictures.WORST * panel + head, abs=40)
    first = picture.crop((0, 0, picture.width, panel + head))
    assert LOST_COLOUR in colours(first)
    rest = picture.crop((0, panel + head, picture.width, picture.height - 2 * pictures.LINE))
    assert LOST_COLOUR not in colours(rest)


def test_equal_answers_give_equal_bytes() -> None:
    found = images(2)
    drawn = [
        pictures.draw(TASK, found, evaluations(stacked(changed(), FOUND), found, INT8), Preprocessing())
        for _ in range(2)
    ]
    assert drawn[0] is not None
    assert drawn[1] is not None
    assert drawn[0].tobytes() == drawn[1].tobytes()


def test_what_cannot_be_drawn_is_none() -> None:
    found = images(2)
    both = evaluations(stacked(FOUND, FOUND), found, INT8)
    arrays = ImageSet({"x": np.zeros((2, 3))}, None, (), found.names, [], found.targets)
    assert pictures.draw(TASK, arrays, both, Preprocessing()) is None
    assert pictures.draw(TASK, found, {FP32: both[FP32]}, Preprocessing()) is None
    rows = Evaluation(pd.DataFrame({"prediction": [0, 1]}), 2)
    assert pictures.draw(get_task("classification"), found, {FP32: rows, INT8: rows}, Preprocessing()) is None
