"""What the outputs of a detector mean: one small decoder for each convention, from tensors to boxes in input pixels.

A contract is told by shapes, never by who exported the file. The conventions are those of ultralytics (`yolo`,
`end2end`), YOLOX' tools/export_onnx.py (`yolox`, `yolox_raw`) and the DETR family (`detr`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Protocol

import numpy as np
import numpy.typing as npt

from enginewright.errors import ModelError
from enginewright.feeds import Array
from enginewright.interface import TensorSpec
from enginewright.tasks.detection.boxes import (
    MOST_CANDIDATES,
    Detections,
    Limits,
    corners,
    detections,
    suppressed,
)

STRIDES = (8, 16, 32)  # of YOLOX' three maps
END_TO_END = 6  # x1, y1, x2, y2, score, class
BOX = 4

Size = tuple[int, int]  # height and width of the input in pixels
Outputs = Mapping[str, Array]  # those of the contract, [n, ...] each


class Contract(Protocol):
    """One convention."""

    name: str
    means: str  # its outputs in words, for sentences

    def choose(self, outputs: Sequence[TensorSpec], size: Optional[Size]) -> Optional[tuple[str, ...]]:
        """Which of the outputs are those of this convention, by their shapes; None where they cannot be.

        Args:
            outputs: all that a model has. An axis without a number may be any.
            size: of the input, None where it is not fixed.
        """

    def classes(self, outputs: Sequence[TensorSpec]) -> Optional[int]:
        """How many classes the chosen outputs have; None where the shapes do not say."""

    def decode(self, outputs: Outputs, size: Size, limits: Limits) -> list[Detections]:
        """Detections of each image of a batch, [k, 6], in pixels of the input.

        Raises:
            ModelError: the outputs have not the anchors that an input of this size has.
        """


class Yolo:
    """[N, 4 + C, A]: centre x, centre y, width, height in pixels, then a score in 0..1 for each class."""

    name = "yolo"
    means = "[N, 4 + classes, anchors], boxes as centre, width and height in pixels, scores after the sigmoid"

    def choose(self, outputs: Sequence[TensorSpec], size: Optional[Size]) -> Optional[tuple[str, ...]]:
        """One output of rank 3 with fewer rows than anchors."""
        del size
        return _only(outputs, lambda rows, anchors: _at_least(rows, BOX + 1) and _longer(anchors, rows))

    def classes(self, outputs: Sequence[TensorSpec]) -> Optional[int]:
        """All rows but the box."""
        rows = outputs[0].shape[1]
        return rows - BOX if isinstance(rows, int) else None

    def decode(self, outputs: Outputs, size: Size, limits: Limits) -> list[Detections]:
        """Each class of an anchor is a candidate of its own, as ultralytics validates (`multi_label`)."""
        del size
        (output,) = outputs.values()
        return [_of_scores(rows[:BOX].T, rows[BOX:], limits) for rows in output]


class Yolox:
    """[N, A, 5 + C]: centre x, centre y, width, height in pixels, objectness, then a score for each class."""

    name = "yolox"
    means = "[N, anchors, 5 + classes], boxes as centre, width and height in pixels, then objectness and scores"

    def choose(self, outputs: Sequence[TensorSpec], size: Optional[Size]) -> Optional[tuple[str, ...]]:
        """One output of rank 3 with fewer columns than anchors; six columns are end2end's unless the anchors are those
        of the grids.
        """
        named = _only(outputs, lambda anchors, columns: _at_least(columns, BOX + 2) and _longer(anchors, columns))
        if named is None or outputs[0].shape[2] != END_TO_END:
            return named
        return named if size is None or _on_grids(outputs[0].shape[1], size) else None

    def classes(self, outputs: Sequence[TensorSpec]) -> Optional[int]:
        """All columns but the box and the objectness."""
        columns = outputs[0].shape[2]
        return columns - BOX - 1 if isinstance(columns, int) else None

    def decode(self, outputs: Outputs, size: Size, limits: Limits) -> list[Detections]:
        """The best class of an anchor, scored by objectness times class, as in YOLOX' `postprocess`."""
        (output,) = outputs.values()
        found = []
        for rows in self.boxes(output, size):
            classes = rows[:, BOX + 1 :].argmax(axis=1)
            scores = rows[:, BOX] * np.take_along_axis(rows[:, BOX + 1 :], classes[:, None], axis=1)[:, 0]
            kept = scores >= limits.confidence
            best = detections(corners(rows[kept, :BOX]), scores[kept], classes[kept], MOST_CANDIDATES)
            found.append(suppressed(best, limits))
        return found

    def boxes(self, output: Array, size: Size) -> Array:
        """The output with boxes in pixels, [n, A, 5 + C]."""
        del size
        return output


class YoloxRaw(Yolox):
    """As `Yolox`, exported without `--decode_in_inference`: offsets in cells of a grid, and logarithms of sizes."""

    name = "yolox_raw"
    means = "[N, anchors, 5 + classes], boxes as offsets in the cells of grids of strides 8, 16 and 32"

    def choose(self, outputs: Sequence[TensorSpec], size: Optional[Size]) -> Optional[tuple[str, ...]]:
        """As decoded ones, with the anchors of the grids."""
        named = super().choose(outputs, size)
        return named if named is None or size is None or _on_grids(outputs[0].shape[1], size) else None

    def boxes(self, output: Array, size: Size) -> Array:
        """(xy + cell) * stride, exp(wh) * stride. Raises ModelError if the input's size has other anchors."""
        cells, strides = _grid(size)
        if len(cells) != output.shape[1]:
            raise ModelError(
                f"the output has {output.shape[1]} anchors, and an input of {size[0]} x {size[1]} pixels has"
                f" {len(cells)} in grids of strides {', '.join(map(str, STRIDES))}; set model.detection.contract to"
                " what the model's outputs mean"
            )
        decoded = np.array(output, np.float32)
        decoded[..., :2] = (output[..., :2] + cells) * strides
        decoded[..., 2:BOX] = np.exp(output[..., 2:BOX]) * strides
        return decoded


class EndToEnd:
    """[N, K, 6]: x1, y1, x2, y2 in pixels, score, class; nothing is left to suppress."""

    name = "end2end"
    means = "[N, detections, 6], x1, y1, x2, y2 in pixels, score and class"

    def choose(self, outputs: Sequence[TensorSpec], size: Optional[Size]) -> Optional[tuple[str, ...]]:
        """One output of rank 3 with six columns, which are not on YOLOX' grids."""
        named = _only(
            outputs,
            lambda rows, columns: columns == END_TO_END or (not isinstance(rows, int) and not isinstance(columns, int)),
        )
        return None if named and size is not None and _on_grids(outputs[0].shape[1], size) else named

    def classes(self, outputs: Sequence[TensorSpec]) -> Optional[int]:
        """Unknown: the class is a value."""
        del outputs
        return None

    def decode(self, outputs: Outputs, size: Size, limits: Limits) -> list[Detections]:
        """Rows of a score below the confidence are padding."""
        del size
        (output,) = outputs.values()
        found = []
        for rows in output:
            kept = rows[rows[:, BOX] >= limits.confidence]
            found.append(detections(kept[:, :BOX], kept[:, BOX], kept[:, BOX + 1], limits.detections))
        return found


class Detr:
    """Boxes [N, Q, 4], centre, width and height as shares of the input, and logits [N, Q, C]."""

    name = "detr"
    means = "boxes [N, queries, 4] as shares of the input, and logits [N, queries, classes]"

    def choose(self, outputs: Sequence[TensorSpec], size: Optional[Size]) -> Optional[tuple[str, ...]]:
        """The one output of rank 3 with four columns, and the one other of rank 3 with as many queries; masks and
        others are left alone.
        """
        del size
        ranked = [spec for spec in outputs if len(spec.shape) == len(("N", "Q", "C"))]
        boxes = [spec for spec in ranked if spec.shape[2] == BOX]
        if len(boxes) != 1:
            return None
        logits = [spec for spec in ranked if spec is not boxes[0] and _as_long(spec.shape[1], boxes[0].shape[1])]
        return (boxes[0].name, logits[0].name) if len(logits) == 1 else None

    def classes(self, outputs: Sequence[TensorSpec]) -> Optional[int]:
        """Columns of the logits; in some checkpoints one of them stands for no object."""
        columns = outputs[1].shape[2]
        return columns if isinstance(columns, int) else None

    def decode(self, outputs: Outputs, size: Size, limits: Limits) -> list[Detections]:
        """The highest sigmoids over queries and classes together, as RF-DETR, RT-DETR and D-FINE take them."""
        boxes, logits = outputs.values()  # as `choose` names them
        pixels = np.tile(np.asarray(size[::-1], np.float32), 2)
        found = []
        for shares, rows in zip(boxes, logits):
            queries, classes = np.divmod(np.argsort(-rows.ravel(), kind="stable")[: limits.detections], rows.shape[1])
            scores = 1 / (1 + np.exp(-rows[queries, classes].astype(np.float64)))
            kept = scores >= limits.confidence
            located = corners(shares[queries[kept]]) * pixels
            found.append(detections(located, scores[kept], classes[kept], limits.detections))
        return found


CONTRACTS: tuple[Contract, ...] = (Yolo(), Yolox(), YoloxRaw(), EndToEnd(), Detr())


def fitting(outputs: Sequence[TensorSpec], size: Optional[Size] = None) -> list[Contract]:
    """The contracts that outputs of these shapes may be of; see `Contract.choose`."""
    return [contract for contract in CONTRACTS if contract.choose(outputs, size) is not None]


def _of_scores(centred: Array, scores: Array, limits: Limits) -> Detections:
    """Of boxes [A, 4] and a score for each class, [C, A]; of equal scores the earlier anchor goes first."""
    classes, anchors = np.divmod(np.flatnonzero(scores >= limits.confidence), scores.shape[1])
    # what `nonzero` of the transpose gives, which takes three times as long
    anchors, classes = np.divmod(np.sort(anchors * len(scores) + classes), len(scores))
    found = detections(corners(centred[anchors]), scores[classes, anchors], classes, MOST_CANDIDATES)
    return suppressed(found, limits)


def _grid(size: Size) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The cell, x and y, and the stride of each anchor, [A, 2] and [A, 1]."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = (length // stride for length in size)
        y, x = np.divmod(np.arange(rows * columns), max(columns, 1))
        cells.append(np.stack([x, y], axis=1).astype(np.float32))
        strides.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides)


def _on_grids(anchors: Any, size: Size) -> bool:
    """Whether there may be so many anchors in the grids of an input of this size."""
    return not isinstance(anchors, int) or anchors == sum((size[0] // step) * (size[1] // step) for step in STRIDES)


def _only(outputs: Sequence[TensorSpec], fits: Any) -> Optional[tuple[str, ...]]:
    """The name of the one output, if it has rank 3 and its last two axes fit."""
    if len(outputs) != 1 or len(outputs[0].shape) != len(("N", "A", "C")):
        return None
    return (outputs[0].name,) if fits(*outputs[0].shape[1:]) else None


def _at_least(size: Any, least: int) -> bool:
    """Whether an axis may be so long."""
    return not isinstance(size, int) or size >= least


def _as_long(size: Any, other: Any) -> bool:
    """Whether two axes may be of one length: exporters give open axes names, each its own."""
    return size == other or not isinstance(size, int) or not isinstance(other, int)


def _longer(size: Any, than: Any) -> bool:
    """Whether an axis may be longer than another: of one with a number and one without, that is the one without, as
    anchors follow from the size of the input and classes do not.
    """
    if isinstance(size, int):
        return isinstance(than, int) and size > than
    return True
