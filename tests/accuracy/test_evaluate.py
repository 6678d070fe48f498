"""Engines side by side: the same numbers as one after the other, whatever is kept, and what does not fit together."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Union

import numpy as np
import pandas as pd
import pytest

from enginewright.accuracy import evaluate
from enginewright.accuracy.answers import Columns
from enginewright.config import Precision
from enginewright.data import ImageSet
from enginewright.data.columns import Ragged
from enginewright.errors import DataError, ModelError
from enginewright.feeds import Feeds
from enginewright.interface import AxisRange, Interface, TensorSpec
from enginewright.runtimes.base import Outputs
from enginewright.runtimes.host import HostEngine
from enginewright.tasks import get_task
from support.linear_engines import (
    CLASSES,
    FP16,
    FP32,
    IMAGES,
    INT8,
    RANDOM,
    WEIGHTS,
    Engine,
    engines,
    evaluator,
    images,
)


@pytest.mark.parametrize("task", ["classification", "segmentation", "outputs"])
def test_side_by_side_gives_what_kept_outputs_give(task: str) -> None:
    one, loaded = evaluator(task), engines(task == "segmentation")
    together = one.side_by_side(loaded, ["logits"]).evaluations
    fp32 = one.evaluate(loaded[FP32], FP32, ["logits"])
    assert list(together) == [FP32, FP16, INT8]
    pd.testing.assert_frame_equal(together[FP32].rows, fp32.rows)
    for precision in (FP16, INT8):
        alone = one.evaluate(loaded[precision], precision, ["logits"], fp32.outputs)
        pd.testing.assert_frame_equal(together[precision].rows, alone.rows, rtol=1e-12)
        assert together[precision].classes == alone.classes == (0 if task == "outputs" else CLASSES)
    assert together[FP32].outputs is None, "nothing of an image is kept but its row"


@pytest.mark.parametrize(("task", "passes"), [("classification", 1), ("outputs", 2)])
def test_fp32_goes_over_the_images_again_only_for_its_mean(task: str, passes: int) -> None:
    loaded = engines()
    evaluator(task).side_by_side(loaded, ["logits"])
    assert sum(loaded[FP32].batches) == passes * IMAGES
    assert sum(loaded[INT8].batches) == IMAGES


@pytest.mark.parametrize(
    ("room", "least", "largest"),
    [
        pytest.param(evaluate.AT_ONCE, 1, 5, id="small outputs go by the batch size"),
        pytest.param(2 * 4 * CLASSES, 1, 2, id="large ones by their size"),
        pytest.param(1, 1, 1, id="one image at least"),
        pytest.param(1, 4, 4, id="and no fewer than the engines take"),
    ],
)
def test_a_batch_is_as_large_as_its_outputs_allow(
    monkeypatch: pytest.MonkeyPatch, room: int, least: int, largest: int
) -> None:
    monkeypatch.setattr(evaluate, "AT_ONCE", room)
    loaded = engines(least=least)
    evaluator("classification", images(count=20)).side_by_side(loaded, ["logits"])
    assert max(loaded[INT8].batches) == largest
    assert sum(loaded[INT8].batches) == 20


def test_an_engine_that_answers_nan_once_is_counted_and_the_others_are_judged() -> None:
    loaded = engines()
    loaded[FP16] = Engine(np.full_like(WEIGHTS, np.nan))
    found = evaluator("classification").side_by_side(loaded, ["logits"])
    assert list(found.evaluations) == [FP32, INT8]
    assert found.failed[FP16].startswith("the fp16 engine answers NaN or infinity for 23 of 23 images, first 0.png;")


def test_an_fp32_that_answers_nan_is_a_fault_and_is_counted() -> None:
    loaded = engines()
    loaded[FP32] = Engine(np.full_like(WEIGHTS, np.nan))
    with pytest.raises(ModelError, match="the fp32 engine answers NaN or infinity for 23 of 23 images"):
        evaluator("classification").side_by_side(loaded, ["logits"])
    assert sum(loaded[INT8].batches) == 0


@pytest.mark.parametrize(("constant", "alike"), [(True, True), (False, False)])
def test_all_outputs_alike_is_seen_without_keeping_them(constant: bool, alike: bool) -> None:
    loaded: dict[Precision, Any] = {FP32: Engine(WEIGHTS * np.float32(not constant))}
    found = evaluator("outputs").side_by_side(loaded, ["logits"])
    assert get_task("outputs").answers_alike(found.evaluations[FP32]) is alike


def test_kept_outputs_beyond_memory_go_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    one, loaded = evaluator("classification"), engines()
    inside = one.evaluate(loaded[FP32], FP32, ["logits"]).outputs
    monkeypatch.setattr(evaluate, "IN_MEMORY", IMAGES * CLASSES * 4 - 1)
    outside = one.evaluate(loaded[FP32], FP32, ["logits"]).outputs
    assert isinstance(outside, np.memmap)
    assert inside is not None
    np.testing.assert_array_equal(inside, outside)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"FP32's outputs for 23 images take 0.0 GiB, .*No space left.*set TMPDIR"):
        one.evaluate(loaded[FP32], FP32, ["logits"])


class Lines(HostEngine):
    """Answers two numbers for each column of an image of any width, or two for the image; remembers its shapes."""

    def __init__(self, factor: float, whole: bool) -> None:
        inputs = (TensorSpec("input", np.dtype(np.float32), ("batch", 1, 4, "width")),)
        shape: tuple[Union[int, str], ...] = ("batch", 2) if whole else ("batch", 2, 1, "width")
        outputs = (TensorSpec("logits", np.dtype(np.float32), shape),)
        axes = {"batch": AxisRange(1, 4, 8), "width": AxisRange(1, 4, 9)}
        super().__init__(Path("engine"), Interface(inputs, outputs), axes)
        self._factor, self._whole = np.float32(factor), whole
        self.shapes: list[tuple[int, ...]] = []

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        del rows
        self.shapes.append(feeds["input"].shape)
        low, high = feeds["input"][:, :, :2].sum(axis=2), self._factor * feeds["input"][:, :, 2:].sum(axis=2)
        answer = np.stack([low, high], axis=1)
        return {"logits": answer.mean(axis=(2, 3)) if self._whole else answer}


def of_widths(*widths: int) -> ImageSet:
    pixels = [RANDOM.integers(0, 256, (4, width, 1), dtype=np.uint8) for width in widths]
    return ImageSet({"images": Ragged.of(pixels)}, None, (), tuple(map(str, range(len(widths)))), [])


@pytest.mark.parametrize(
    ("task", "whole"),
    [
        pytest.param("segmentation", False, id="answers of several shapes"),
        pytest.param("classification", True, id="answers of one"),
        pytest.param("outputs", True, id="all outputs, of one"),
    ],
)
def test_images_of_several_shapes_are_never_in_one_batch(task: str, whole: bool) -> None:
    one, loaded = evaluator(task, of_widths(3, 3, 3, 7, 3, 3), 2), {FP32: Lines(1, whole), INT8: Lines(1.1, whole)}
    together = one.side_by_side(loaded, ["logits"]).evaluations
    pieces = [(2, 1, 4, 3), (1, 1, 4, 3), (1, 1, 4, 7), (2, 1, 4, 3)]
    assert loaded[INT8].shapes == pieces
    fp32 = one.evaluate(loaded[FP32], FP32, ["logits"])
    assert fp32.outputs is not None
    alone = one.evaluate(loaded[INT8], INT8, ["logits"], fp32.outputs)
    for column in together[INT8].rows:
        for found, wanted in zip(together[INT8].rows[column], alone.rows[column], strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert len(one.equal(fp32.outputs).rows) == 6


def test_all_outputs_of_several_shapes_have_no_mean() -> None:
    one, loaded = evaluator("outputs", of_widths(3, 7), 2), {FP32: Lines(1, False), INT8: Lines(1.1, False)}
    sentence = r"the output 'logits' has the shape \[2, 1, 3\] for some images and \[2, 1, 7\] for others, and"
    with pytest.raises(DataError, match=sentence):
        one.side_by_side(loaded, ["logits"])
    with pytest.raises(DataError, match=sentence):
        one.evaluate(loaded[FP32], FP32, ["logits"])


def test_columns_are_filled_piece_by_piece() -> None:
    table = pd.DataFrame({"a": np.arange(5), "b": np.arange(5) > 2, "c": np.linspace(0, 1, 5)})
    columns = Columns(5)
    for start in (0, 2, 4):
        columns.put(start, table.iloc[start : start + 2])
    pd.testing.assert_frame_equal(columns.table(), table.astype({"a": np.int32}))
