"""Average precision as COCO defines it: hotcoco matches detections to truths and gives the metrics of a set.

The interval of a metric needs it for thousands of draws of the same images. Matching is within an image, so it is done
once, and `weighted` takes the curve of each draw from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from enginewright.errors import RuntimeUnavailable
from enginewright.tasks.detection.boxes import CLASS, SCORE, Detections

if TYPE_CHECKING:
    import hotcoco

# float64 [m, 7]: x1, y1, x2, y2 in pixels, class, area in square pixels, and 1 for a crowd, which no detection misses
Truths = npt.NDArray[np.float64]
TRUTH_CLASS, AREA, CROWD = 4, 5, 6
TRUTH_COLUMNS = 7
METRICS = ("map50_95", "map50", "map75", "map50_95_small", "map50_95_medium", "map50_95_large")
EVERY_SIZE = [0.0, 1e10]  # COCO's range of areas called `all`
RECALLS = np.linspace(0.0, 1.0, 101)  # at which COCO reads a precision
BEYOND = np.append(RECALLS, np.inf)
INSTALL = "pip install 'enginewright[detection]'"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """How the detections of one class over all images were matched, in the order of their scores, highest first."""

    image: npt.NDArray[np.int64]  # [d]
    right: npt.NDArray[np.bool_]  # [thresholds, d]
    counted: npt.NDArray[np.bool_]  # [thresholds, d]; not those on a crowd
    wanted: npt.NDArray[np.int64]  # [images]: truths that are no crowd


def evaluate(found: Sequence[Detections], truths: Sequence[Truths], classes: int, most: int) -> dict[str, Any]:
    """COCO's metrics of a set: those of METRICS, and `by_class`, NaN where a class or size has no truth.

    Args:
        found: detections of each image.
        truths: of each image.
        classes: how many there are.
        most: detections of an image that count.
    """
    evaluated = _evaluated(found, truths, classes, most)
    evaluated.accumulate()
    summed: Any = evaluated.eval
    precision = np.asarray(summed["precision"], np.float64)  # [thresholds, recalls, classes, sizes, limits]
    by_class = [_mean(precision[:, :, index, 0, -1]) for index in range(classes)]
    thresholds = list(evaluated.params.iou_thrs)
    every = precision[:, :, :, 0, -1]
    metrics = {
        "map50_95": _mean(every),
        "map50": _mean(every[_place(thresholds, 0.5)]),
        "map75": _mean(every[_place(thresholds, 0.75)]),
    }
    sizes = ("small", "medium", "large")
    metrics.update({f"map50_95_{size}": _mean(precision[..., place, -1]) for place, size in enumerate(sizes, 1)})
    return {**metrics, "by_class": by_class}


def matches(found: Sequence[Detections], truths: Sequence[Truths], classes: int, most: int) -> list[Matches]:
    """Match detections to truths of every size. See `evaluate`; one for each class that has a truth."""
    evaluated = _evaluated(found, truths, classes, most, every_size=True)
    by_class: dict[int, list[Mapping[str, Any]]] = {}
    for seen in evaluated.eval_imgs:
        if seen is not None:
            by_class.setdefault(int(seen["category_id"]) - 1, []).append(seen)
    answer = []
    for seen_of_class in by_class.values():
        one = _matches(seen_of_class, len(found), len(evaluated.params.iou_thrs))
        if one.wanted.any():
            answer.append(one)
    return answer


def weighted(matched: Sequence[Matches], times: Floats) -> Floats:
    """mAP50-95 of draws of the images.

    Args:
        matched: of each class.
        times: [draws, images], how often each image was drawn.

    Returns:
        [draws]; a class of which a draw has no truth does not count in it, NaN where it has none at all.
    """
    total, count = np.zeros(len(times)), np.zeros(len(times))
    for one in matched:
        found = _class_precision(one, times)
        known = ~np.isnan(found)
        total += np.where(known, found, 0)
        count += known
    return np.asarray(np.divide(total, count, out=np.full(len(times), np.nan), where=count > 0))


def _class_precision(matched: Matches, times: Floats) -> Floats:
    """[draws]: the mean over thresholds and RECALLS; NaN where a draw has no truth of the class.

    Precision rises at right detections alone, so the curve of a draw is read at those that are right at any threshold:
    a hundredth of all. Sums are of whole numbers, so their order changes nothing.
    """
    wanted, total = times @ matched.wanted, np.zeros(len(times))
    places = np.flatnonzero((matched.right & matched.counted).any(axis=0))
    drawn = times[:, matched.image[places]]
    seen: tuple[bytes, Floats] = (b"", np.empty(0))
    for right, counted in zip(matched.right, matched.counted):
        key = counted.tobytes()  # of most sets the same for all thresholds
        if seen[0] != key:
            seen = (key, np.cumsum(times @ _counted_before(matched.image, counted, places, times.shape[1]), axis=1))
        total += _area_under(np.cumsum(drawn * (right & counted)[places], axis=1), seen[1], wanted)
    return np.where(wanted > 0, total / len(matched.right), np.nan)


def _counted_before(
    image: npt.NDArray[np.int64], counted: npt.NDArray[np.bool_], places: npt.NDArray[np.int64], images: int
) -> Floats:
    """How many counted detections of each image lie between each place and the one before it, [images, places]."""
    own = np.flatnonzero(counted)
    own = own[own <= places[-1]] if len(places) else own[:0]
    found = np.zeros((images, len(places)))
    np.add.at(found, (image[own], np.searchsorted(places, own)), 1)
    return found


def _area_under(right: Floats, counted: Floats, wanted: Floats) -> Floats:
    """The mean over RECALLS of the highest precision at that recall or a later one, [draws].

    Args:
        right: [draws, places], right detections up to each place.
        counted: [draws, places], all detections up to there.
        wanted: [draws].
    """
    precision = right / (counted + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = np.divide(right, wanted[:, None], out=np.zeros_like(right), where=wanted[:, None] > 0)
    reached = (recall * (len(RECALLS) - 1)).astype(np.int64)  # how many of RECALLS, but for one and for rounding
    for _ in range(2):
        reached += recall >= BEYOND[reached]
    return np.asarray((precision * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS))


def _matches(seen: Sequence[Mapping[str, Any]], images: int, thresholds: int) -> Matches:
    """Put the images of one class together; of equal scores the earlier image goes first, as in pycocotools."""
    wanted = np.zeros(images, np.int64)
    scores, image, right, counted = [], [], [], []
    for one in sorted(seen, key=lambda one: int(one["image_id"])):
        place, own = int(one["image_id"]) - 1, np.asarray(one["dtScores"], np.float64)
        wanted[place] = np.count_nonzero(~np.asarray(one["gtIgnore"], bool))
        scores.append(own)
        image.append(np.full(len(own), place))
        right.append(np.asarray(one["dtMatches"], np.int64).reshape(thresholds, len(own)) > 0)
        counted.append(~np.asarray(one["dtIgnore"], bool).reshape(thresholds, len(own)))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Matches(
        np.concatenate(image)[order],
        np.concatenate(right, axis=1)[:, order],
        np.concatenate(counted, axis=1)[:, order],
        wanted,
    )


def _evaluated(
    found: Sequence[Detections], truths: Sequence[Truths], classes: int, most: int, every_size: bool = False
) -> hotcoco.COCOeval:
    """Match, and neither accumulate nor print. Raises RuntimeUnavailable if hotcoco is not installed."""
    try:
        import hotcoco
    except ImportError as fault:
        raise RuntimeUnavailable(f"mAP is computed by hotcoco, which cannot be imported ({fault}); {INSTALL}") from None
    truth = hotcoco.COCO(_dataset(truths, classes))
    evaluated = hotcoco.COCOeval(truth, truth.load_res(_results(found)), "bbox")
    params = evaluated.params
    params.max_dets = [most]
    if every_size:
        params.area_rng, params.area_rng_lbl = [EVERY_SIZE], ["all"]
    evaluated.params = params
    evaluated.evaluate()
    return evaluated


def _dataset(truths: Sequence[Truths], classes: int) -> dict[str, Any]:
    """COCO's form; ids count from 1, as an id of 0 counts as no match there."""
    annotations: list[dict[str, Any]] = []
    for image, rows in enumerate(truths, 1):
        for x1, y1, x2, y2, kind, area, crowd in rows.tolist():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(kind) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [{"id": image, "width": 1, "height": 1} for image in range(1, len(truths) + 1)],
        "annotations": annotations,
        "categories": [{"id": kind + 1, "name": str(kind)} for kind in range(classes)],
    }


def _results(found: Sequence[Detections]) -> npt.NDArray[np.float64]:
    """[k, 7]: image, x, y, width, height, score, category."""
    rows = np.concatenate([np.empty((0, 6), np.float32), *found]).astype(np.float64)
    image = np.repeat(np.arange(1, len(found) + 1), [len(one) for one in found])
    sizes = rows[:, 2:4] - rows[:, :2]
    return np.column_stack([image, rows[:, :2], sizes, rows[:, SCORE], rows[:, CLASS] + 1])


def _mean(precision: Floats) -> float:
    """Of what is not -1, with which COCO marks classes without a truth; NaN where all are."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")


def _place(thresholds: Sequence[float], wanted: float) -> int:
    return int(np.argmin(np.abs(np.asarray(thresholds) - wanted)))


def unlabelled(found: Detections, confidence: float) -> Truths:
    """FP32's own detections as truths, where there are no labels: those with a score that an application would show."""
    kept = found[found[:, SCORE] >= confidence].astype(np.float64)
    sides = kept[:, 2:4] - kept[:, :2]
    return np.column_stack([kept[:, :4], kept[:, CLASS], np.prod(sides, axis=1), np.zeros(len(kept))])
