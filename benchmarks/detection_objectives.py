"""Which number, on a few hundred images, predicts what INT8 costs a detector in mAP50-95 on many others.

    python -m benchmarks.detection_objectives PROJECT [--images 200] [--judges 600] [--mixtures 40]

PROJECT is a reproduced one of task detection, such as that of experiment=digit_detection. Of its model many mixtures
are run: all layers in INT8, each layer alone in INT8, each alone in float, and random ones. The loss of mAP50-95 is
that of the validation images against their labels; the candidates are measured on the sensitivity images. What counts
is the rank correlation (Spearman) of each with the loss.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from enginewright.calibration.mixture import float_nodes
from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import read_recipe
from enginewright.config import Placement, Preprocessing
from enginewright.config.reading import read
from enginewright.data import Feeding, ImageSet
from enginewright.graph import stored
from enginewright.graph.qdq import quantizable
from enginewright.interface import up_to
from enginewright.layout import Layout
from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine
from enginewright.runtimes.onnxruntime.prepare import prepared
from enginewright.runtimes.onnxruntime.session import Purpose, open_model, open_session
from enginewright.tasks import judged, task_of
from enginewright.tasks.base import Task
from enginewright.tasks.detection.boxes import Detections, unstacked
from enginewright.tasks.detection.matching import of_one_class, pairs, shown
from enginewright.tasks.detection.task import OF_FP32

RESULTS = Path(__file__).parent / "results" / "detection_objectives.json"
SURE = 0.25  # FP32's score of an anchor whose boxes are compared one by one
Array = npt.NDArray[Any]


class Judge:
    """Runs models over the images of one set."""

    def __init__(self, task: Task, images: ImageSet, preprocessing: Preprocessing, path: Path) -> None:
        self.task, self.images, self._path = task, images, path
        self._feeding = Feeding(images, preprocessing)
        self.targets: Any = None if images.targets is None else images.targets[:]

    def answers(self, session: Any, name: str) -> tuple[Array, Array]:
        """The raw output of every image, and its detections."""
        raw, found = [], []
        with OnnxRuntimeEngine(self._path, session, up_to(50)) as engine:
            for piece in self._feeding.pieces(50):
                feeds = self._feeding.rows(piece, engine.interface.inputs)
                raw.append(engine.infer(feeds)[name])
                size = self._feeding.size(feeds)
                found.append(self.task.decode({name: raw[-1]}, self.images.geometries(piece), size))
        return np.concatenate(raw), np.concatenate(found)


def panoptic(found: Detections, reference: Detections) -> float:
    """Overlap of paired boxes over the mean number of boxes, those with a score that is shown (panoptic quality)."""
    own, wanted = shown(found), shown(reference)
    if not len(own) or not len(wanted):
        return float(len(own) == len(wanted))
    overlapping = of_one_class(own, wanted)
    paired = pairs(overlapping)
    return float(sum(overlapping[row, column] for row, column in paired) / ((len(own) + len(wanted)) / 2))


def candidates(task: Task, judge: Judge, fp32: tuple[Array, Array], answers: tuple[Array, Array]) -> dict[str, float]:
    """Each is 0 where an engine answers as FP32 does, and grows with what is lost."""
    (wanted, reference), (raw, found) = fp32, answers
    figures = task.summary(task.score(found, judge.targets, reference), 0)
    labelled = task.summary(task.score(reference, judge.targets, None), 0)[task.metric]
    power = np.square(wanted, dtype=np.float64).sum()
    noise = np.square(np.subtract(raw, wanted, dtype=np.float64)).sum()
    boxes, scores = np.abs(raw[:, :4] - wanted[:, :4]).mean(axis=1), np.abs(raw[:, 4:] - wanted[:, 4:]).max(axis=1)
    sure = wanted[:, 4:].max(axis=1) >= SURE
    quality = [panoptic(unstacked(own), unstacked(its)) for own, its in zip(found, reference)]
    return {
        "1 - agreement": 1 - figures["agreement"],
        "1 - mAP50-95 against FP32's detections": 1 - figures[OF_FP32],
        "loss of mAP50-95 against labels": labelled - figures[task.metric],
        "noise over signal of the raw output": float(noise / power),
        "error of boxes in pixels, where FP32 is sure": float(boxes[sure].mean()),
        "error of scores, where FP32 is sure": float(scores[sure].mean()),
        "1 - panoptic quality": 1 - float(np.mean(quality)),
    }


def mixtures(layers: list[str], count: int) -> dict[str, list[str]]:
    """Name -> the layers that stay in float."""
    rng = np.random.default_rng(0)
    found = {"all in INT8": list[str]()}
    found.update({f"{layer} alone in INT8": [other for other in layers if other != layer] for layer in layers})
    found.update({f"{layer} alone in float": [layer] for layer in layers})
    for index in range(count):
        kept = rng.choice(layers, int(rng.integers(1, len(layers))), replace=False)
        found[f"random {index}"] = [str(layer) for layer in kept]
    return found


def measure(project: Path, images: int, judges: int, count: int) -> list[dict[str, Any]]:
    """A row a mixture: the loss on the validation images, and the candidates on the sensitivity images."""
    params, paths = read(project / "params.yaml"), Layout(project)
    task = task_of(params.model)
    model, recipe = prepared(stored.read(paths.model), read_recipe(paths))
    session = open_session(str(paths.model))
    preprocessing = params.data.preprocessing
    few = Judge(task, ImageSet.open(paths.sensitivity_images).first(images), preprocessing, paths.model)
    many = Judge(task, ImageSet.open(paths.validation).first(judges), preprocessing, paths.model)
    with OnnxRuntimeEngine(paths.model, session, up_to(50)) as engine:
        (name,) = (spec.name for spec in judged(params.model, engine.interface).outputs)
    fp32, truth = few.answers(session, name), many.answers(session, name)[1]
    reached = task.summary(task.score(truth, many.targets, None), 0)[task.metric]
    rows = []
    for which, kept in mixtures([node.name for node in quantizable(model)], count).items():
        quantized = quantize(model, recipe, Placement.onnxruntime, float_nodes(model, kept)).model
        session = open_model(quantized, Purpose.run)
        found = many.answers(session, name)[1]
        loss = reached - task.summary(task.score(found, many.targets, None), 0)[task.metric]
        rows.append({"mixture": which, "loss": loss, **candidates(task, few, fp32, few.answers(session, name))})
        print(f"{len(rows)}: {which}: {loss:+.4f}", flush=True)
    return rows


def correlations(rows: list[dict[str, Any]]) -> Mapping[str, float]:
    """Candidate -> Spearman's rank correlation with the loss, the best first."""
    from scipy.stats import spearmanr

    loss = [row["loss"] for row in rows]
    names = [name for name in rows[0] if name not in ("mixture", "loss")]
    found = {name: float(spearmanr(loss, [row[name] for row in rows]).statistic) for name in names}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    """Measure, and write RESULTS."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--judges", type=int, default=600)
    parser.add_argument("--mixtures", type=int, default=40)
    asked = parser.parse_args()
    rows = measure(asked.project, asked.images, asked.judges, asked.mixtures)
    found = {
        "images": asked.images,
        "judges": asked.judges,
        "all": correlations(rows),
        "random mixtures": correlations([row for row in rows if str(row["mixture"]).startswith("random")]),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for which in ("all", "random mixtures"):
        print(which, json.dumps(found[which], indent=1))


if __name__ == "__main__":
    main()
