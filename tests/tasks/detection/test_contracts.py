"""Every decoder finds the boxes that a plain reading of its convention finds, and is told by the shapes alone."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import pytest

from enginewright.errors import ModelError
from enginewright.interface import BATCH, TensorSpec
from enginewright.tasks.detection.boxes import Detections, Limits
from enginewright.tasks.detection.contracts import CONTRACTS, Contract, fitting
from support import plain_boxes as plainly
from support.plain_boxes import Row

SIZE = (64, 96)
ANCHORS = 8 * 12 + 4 * 6 + 2 * 3
CLASSES = 3
LIMITS = Limits(confidence=0.3, iou=0.5, detections=20)
BY_NAME = {contract.name: contract for contract in CONTRACTS}
Array = npt.NDArray[Any]


def centred(rng: np.random.Generator, count: int) -> Array:
    middle = rng.uniform([0, 0], SIZE[::-1], (count, 2))
    return np.concatenate([middle, rng.uniform(4, 40, (count, 2))], axis=1)


def outputs_of(name: str, rng: np.random.Generator) -> dict[str, Array]:
    """Random outputs for two images, with values of which float32 keeps all digits that matter."""
    if name == "detr":
        boxes = np.stack([centred(rng, 30) / np.tile(SIZE[::-1], 2) for _ in range(2)])
        return {"labels": rng.normal(-1, 2, (2, 30, CLASSES)).astype(np.float32), "dets": boxes.astype(np.float32)}
    if name == "end2end":
        rows = np.stack([centred(rng, 40) for _ in range(2)])
        low, high = rows[..., :2] - rows[..., 2:] / 2, rows[..., :2] + rows[..., 2:] / 2
        score, kind = rng.random((2, 40, 1)), rng.integers(0, CLASSES, (2, 40, 1))
        return {"output0": np.concatenate([low, high, score, kind], axis=2).astype(np.float32)}
    boxes = np.stack([centred(rng, ANCHORS) for _ in range(2)])
    if name == "yolox_raw":
        boxes = rng.normal(0, 0.7, (2, ANCHORS, 4))
    scores = rng.random((2, ANCHORS, CLASSES + (name != "yolo"))) ** 2
    found = np.concatenate([boxes, scores], axis=2).astype(np.float32)
    return {"output": found.swapaxes(1, 2) if name == "yolo" else found}


def yolo(image: Array) -> list[Row]:
    """[4 + C, A]."""
    return plainly.nms(
        [
            (*plainly.from_centre(*image[:4, anchor].tolist()), float(image[4 + kind, anchor]), kind)
            for anchor in range(image.shape[1])
            for kind in range(CLASSES)
            if image[4 + kind, anchor] >= LIMITS.confidence
        ],
        LIMITS.iou,
        LIMITS.detections,
    )


def yolox(image: Array) -> list[Row]:
    """[A, 5 + C]."""
    rows: list[Row] = []
    for x, y, width, height, objectness, *scores in image.tolist():
        kind = int(np.argmax(scores))
        score = float(np.float32(objectness) * np.float32(scores[kind]))
        if score >= LIMITS.confidence:
            rows.append((*plainly.from_centre(x, y, width, height), score, kind))
    return plainly.nms(rows, LIMITS.iou, LIMITS.detections)


def yolox_raw(image: Array) -> list[Row]:
    decoded, anchor = [], 0
    for stride in (8, 16, 32):
        for row in range(SIZE[0] // stride):
            for column in range(SIZE[1] // stride):
                x, y, width, height, *rest = image[anchor].tolist()
                sides = (float(np.exp(width)) * stride, float(np.exp(height)) * stride)
                decoded.append([(x + column) * stride, (y + row) * stride, *sides, *rest])
                anchor += 1
    return yolox(np.array(decoded))


def end2end(image: Array) -> list[Row]:
    rows = [row for row in image.tolist() if row[4] >= LIMITS.confidence]
    rows = sorted(rows, key=lambda row: -row[4])[: LIMITS.detections]
    return [(x1, y1, x2, y2, score, int(kind)) for x1, y1, x2, y2, score, kind in rows]


def detr(labels: Array, boxes: Array) -> list[Row]:
    every = [(float(labels[query, kind]), query, kind) for query in range(30) for kind in range(CLASSES)]
    rows: list[Row] = []
    for logit, query, kind in sorted(every, key=lambda one: -one[0])[: LIMITS.detections]:
        if plainly.sigmoid(logit) >= LIMITS.confidence:
            pixels = boxes[query] * np.tile(np.array(SIZE[::-1], np.float32), 2)
            rows.append((*plainly.from_centre(*pixels.tolist()), plainly.sigmoid(logit), kind))
    return rows


READINGS: dict[str, Any] = {"yolo": yolo, "yolox": yolox, "yolox_raw": yolox_raw, "end2end": end2end}


def decoded(contract: Contract, outputs: dict[str, Array]) -> list[Detections]:
    specs = [TensorSpec(name, array.dtype, (BATCH, *array.shape[1:])) for name, array in outputs.items()]
    names = contract.choose(specs, None)
    assert names is not None
    return contract.decode({name: outputs[name] for name in names}, SIZE, LIMITS)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", BY_NAME)
def test_a_decoder_finds_what_a_plain_reading_finds(name: str, seed: int) -> None:
    outputs = outputs_of(name, np.random.default_rng(seed))
    found = decoded(BY_NAME[name], outputs)
    assert len(found) == 2
    for image, rows in enumerate(found):
        if name == "detr":
            wanted = detr(outputs["labels"][image], outputs["dets"][image])
        else:
            wanted = READINGS[name](next(iter(outputs.values()))[image])
        assert rows.dtype == np.float32
        assert len(rows) == len(wanted) > 0
        assert np.allclose(rows, np.array(wanted), rtol=1e-5, atol=1e-4)


def specs(*shapes: tuple[Any, ...]) -> list[TensorSpec]:
    return [TensorSpec(f"y{index}", np.dtype(np.float32), (BATCH, *shape)) for index, shape in enumerate(shapes)]


@pytest.mark.parametrize(
    ("shapes", "size", "names"),
    [
        pytest.param([(84, 8400)], (640, 640), ["yolo"], id="ultralytics"),
        pytest.param([(5, 8400)], (640, 640), ["yolo"], id="ultralytics, one class"),
        pytest.param([(84, "anchors")], None, ["yolo"], id="ultralytics, any size"),
        pytest.param([(8400, 85)], (640, 640), ["yolox", "yolox_raw"], id="YOLOX"),
        pytest.param([(3549, 6)], (416, 416), ["yolox", "yolox_raw"], id="YOLOX, one class"),
        pytest.param([(5000, 85)], (640, 640), ["yolox"], id="other anchors than the three grids"),
        pytest.param([(300, 6)], (640, 640), ["end2end"], id="end to end"),
        pytest.param([(300, 6)], None, ["yolox", "yolox_raw", "end2end"], id="six columns, any size"),
        pytest.param([("anchors", 85)], None, ["yolox", "yolox_raw"], id="YOLOX, any size"),
        pytest.param([("a", "b")], None, ["yolo", "yolox", "yolox_raw", "end2end"], id="nothing is known"),
        pytest.param([(300, 4), (300, 91)], (560, 560), ["detr"], id="RF-DETR"),
        pytest.param([(300, 80), (300, 4)], (640, 640), ["detr"], id="RT-DETR, logits first"),
        pytest.param([(300, 4), (300, 91), (300, 108, 108)], (432, 432), ["detr"], id="with masks"),
        pytest.param([("a", 4), ("b", 91)], (560, 560), ["detr"], id="axes that the exporter named"),
        pytest.param([(300, 4), (200, 91)], (560, 560), [], id="other queries"),
        pytest.param([(1000,)], (224, 224), [], id="a classifier"),
        pytest.param([(21, 64, 64)], (64, 64), [], id="a segmenter"),
        pytest.param([(8400, 4), (8400, 4)], (640, 640), [], id="two lists of boxes"),
        pytest.param([(4, 8400)], (640, 640), [], id="boxes without scores"),
    ],
)
def test_the_shapes_tell_the_contract(
    shapes: list[tuple[Any, ...]], size: Optional[tuple[int, int]], names: list[str]
) -> None:
    assert [contract.name for contract in fitting(specs(*shapes), size)] == names


@pytest.mark.parametrize(
    ("name", "shapes", "classes"),
    [
        ("yolo", [(84, 8400)], 80),
        ("yolox", [(8400, 85)], 80),
        ("yolox_raw", [(3549, 6)], 1),
        ("end2end", [(300, 6)], None),
        ("detr", [(300, 4), (300, 91)], 91),
        ("yolo", [("rows", 8400)], None),
    ],
)
def test_the_classes_are_counted(name: str, shapes: list[tuple[Any, ...]], classes: Optional[int]) -> None:
    assert BY_NAME[name].classes(specs(*shapes)) == classes


def test_raw_outputs_of_another_size_are_refused() -> None:
    with pytest.raises(ModelError, match="has 100 anchors, and an input of 64 x 96 pixels has 126 in grids of strides"):
        BY_NAME["yolox_raw"].decode({"y": np.zeros((1, 100, 8), np.float32)}, SIZE, LIMITS)
