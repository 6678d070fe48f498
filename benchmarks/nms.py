"""How long a detector's postprocessing takes: candidates of 8,400 anchors, then suppression by NumPy.

    PYTHONPATH=.:tests python -m benchmarks.nms [--rounds 30] [--sets 1000]

Made images: `OBJECTS` boxes of 16 to 320 pixels, round whose centres anchors repeat them with noise, and a weak score
of every class everywhere, so that a confidence of 0.001 leaves about ten thousand candidates, as validation has them,
and 0.25 a few hundred, as applications have. Ways take turns, so that what else the machine does meets all of them.
Before that, each way that is exact is held equal to loops over boxes, on random sets with ties and empty boxes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from enginewright.tasks.detection.boxes import (
    BLOCK,
    CLASS,
    Detections,
    Limits,
    detections,
    overlaps,
    suppressed,
)
from enginewright.tasks.detection.contracts import STRIDES, Yolo
from support.plain_boxes import Row, nms

SIZE, ANCHORS, OBJECTS = 640, 8400, 20
# confidence and classes
CASES = {"validation": (0.001, 80), "application": (0.25, 80), "validation of one class": (0.001, 1)}
RESULTS = Path(__file__).parent / "results" / "nms.json"
Way = Callable[[Detections, Limits], Detections]
Array = npt.NDArray[np.float32]


def output(kinds: int) -> Array:
    """What a detector of contract yolo might give for an image, [4 + kinds, ANCHORS]."""
    rng = np.random.default_rng(0)
    grids = [np.mgrid[: SIZE // step, : SIZE // step].reshape(2, -1).T[:, ::-1] for step in STRIDES]
    centres = np.concatenate([(grid + 0.5) * step for grid, step in zip(grids, STRIDES)])
    strides = np.repeat(STRIDES, [len(grid) for grid in grids])[:, None]
    where = rng.uniform(0, SIZE, (OBJECTS, 2))
    sides = np.exp(rng.uniform(np.log(16), np.log(320), (OBJECTS, 2)))
    distances = (((centres[:, None] - where) / (sides / 2)) ** 2).sum(axis=2)
    nearest, distance = distances.argmin(axis=1), distances.min(axis=1)
    inside = distance < 1
    found = np.empty((4 + kinds, ANCHORS), np.float32)
    places = where[nearest] + rng.normal(0, 0.05, (ANCHORS, 2)) * sides[nearest]
    found[:2] = np.where(inside[:, None], places, centres).T
    around = strides * np.exp(rng.normal(1, 0.5, (ANCHORS, 2)))
    found[2:4] = np.where(inside[:, None], sides[nearest] * np.exp(rng.normal(0, 0.1, (ANCHORS, 2))), around).T
    found[4:] = np.exp(rng.normal(np.log(5e-5), 1.3, (kinds, ANCHORS)))
    classes, peaks = rng.integers(0, kinds, OBJECTS), rng.uniform(0.3, 0.95, OBJECTS)
    near = np.flatnonzero(inside)
    scores = peaks[nearest[near]] * np.exp(-3 * distance[near]) * rng.uniform(0.3, 1, len(near))
    found[4 + classes[nearest[near]], near] = scores
    return found


def one_at_a_time(found: Detections, limits: Limits) -> Detections:
    """Take the best, drop what it covers, and so on: NumPy over the rest for each box that is kept."""
    return found[_one_at_a_time(found, limits, np.arange(len(found)))]


def class_by_class(found: Detections, limits: Limits) -> Detections:
    """The same in each class by itself, then the best of all."""
    classes = [np.flatnonzero(found[:, CLASS] == kind) for kind in np.unique(found[:, CLASS])]
    kept = [place for rows in classes for place in _one_at_a_time(found, limits, rows)]
    return found[sorted(kept)[: limits.detections]]


def _one_at_a_time(found: Detections, limits: Limits, order: npt.NDArray[np.int64]) -> list[int]:
    kept: list[int] = []
    while len(order) and len(kept) < limits.detections:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        covered = overlaps(found[best : best + 1], found[rest])[0] > limits.iou
        order = rest[~(covered & (found[rest, CLASS] == found[best, CLASS]))]
    return kept


def classes_apart(found: Detections, limits: Limits) -> Detections:
    """Each class moved to a place of its own, as torchvision's `batched_nms` does, so that no class is compared.

    Moved coordinates are rounded more: in float32 an overlap next to the bound may fall on its other side.
    """
    moved = found.copy()
    moved[:, :4] += (moved[:, CLASS] * (np.abs(moved[:, :4]).max(initial=0) * 2 + 1))[:, None]
    moved[:, CLASS] = 0
    keys = moved[:, :4].astype(np.float64)
    kept = np.empty(0, np.int64)
    for start in range(0, len(found), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(found)))
        rows = rows[~(overlaps(keys[rows], keys[kept]) > limits.iou).any(axis=1)]
        kept = np.concatenate([kept, rows[_alive(overlaps(keys[rows], keys[rows]) > limits.iou)]])
        if len(kept) >= limits.detections:
            break
    return found[kept[: limits.detections]]


def matrix(found: Detections, limits: Limits) -> Detections:
    """Drop what any higher score covers, kept or not (Fast NMS of YOLACT, on which Matrix NMS builds): not exact."""
    best = found[: limits.detections * 4]  # all candidates would take a matrix of gigabytes
    covered = (overlaps(best, best) > limits.iou) & (best[:, None, CLASS] == best[:, CLASS])
    return np.asarray(best[~np.triu(covered, 1).any(axis=0)][: limits.detections])


def _alive(covered: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows no earlier row that is alive covers."""
    later, alive = np.triu(covered, 1), np.ones(len(covered), bool)
    for row in np.flatnonzero(later.any(axis=1)):
        if alive[row]:
            alive &= ~later[row]
    return alive


EXACT: Mapping[str, Way] = {
    "pairs of a class, in blocks (ours)": suppressed,
    "one at a time": one_at_a_time,
    "class by class": class_by_class,
}
NEARLY: Mapping[str, Way] = {"classes apart, in blocks": classes_apart, "matrix": matrix}


def equal(sets: int) -> dict[str, int]:
    """Way -> in how many of random sets it keeps other boxes than loops do."""
    differing = dict.fromkeys([*EXACT, *NEARLY], 0)
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(0, 300))
        corners = rng.uniform(0, 50, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(-1, 40, (count, 2))], axis=1).astype(np.float32)
        scores = np.round(rng.uniform(0, 1, count), int(rng.integers(1, 4))).astype(np.float32)  # with ties
        found = detections(boxes, scores, rng.integers(0, rng.integers(1, 12), count), count)
        limits = Limits(iou=float(rng.uniform(0.3, 0.8)), detections=int(rng.integers(1, 120)))
        rows: list[Row] = [tuple(row) for row in found.astype(np.float64).tolist()]
        wanted = np.array(nms(rows, limits.iou, limits.detections), np.float32).reshape(-1, found.shape[1])
        for name, way in {**EXACT, **NEARLY}.items():
            differing[name] += not np.array_equal(way(found, limits), wanted)
    return differing


def timed(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, in turn."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            spent[name].append(time.perf_counter() - start)
    return {name: round(1e3 * float(np.median(seconds)), 3) for name, seconds in spent.items()}


def measured(confidence: float, classes: int, rounds: int) -> dict[str, Any]:
    """Candidates, and milliseconds of an image: the decoder as a whole, and each way to suppress."""
    limits, raw = Limits(confidence), output(classes)
    no_suppression = Limits(confidence, iou=1.0, detections=30_000)
    (found,) = Yolo().decode({"output": raw[None]}, (SIZE, SIZE), no_suppression)
    ways: dict[str, Callable[[], object]] = {
        "decoder, suppression included": lambda: Yolo().decode({"output": raw[None]}, (SIZE, SIZE), limits)
    }
    for name, way in {**EXACT, **NEARLY}.items():
        ways[name] = lambda way=way: way(found, limits)  # type: ignore[misc]
    kept = len(suppressed(found, limits))
    return {"candidates": len(found), "kept": kept, "ms": timed(ways, rounds)}


def main() -> None:
    """Print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--sets", type=int, default=1000)
    chosen = parser.parse_args()
    differing = equal(chosen.sets)
    found = {"sets": chosen.sets, "sets_that_differ": differing}
    found |= {name: measured(*case, chosen.rounds) for name, case in CASES.items()}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    if wrong := [name for name in EXACT if differing[name]]:
        raise SystemExit(f"not exact: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
