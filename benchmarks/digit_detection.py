"""What INT8 costs a detector, and what the bound of experiment=digit_detection stands on:
python -m benchmarks.digit_detection

For each way to calibrate, with and without bias correction, mAP50-95 on the 1,000 validation scenes with the paired
95 % interval of the difference to FP32: all layers in INT8, the decoding in float by its rule, and the mixture that
analyze_sensitivity and search_mixed find on the sensitivity scenes (the ranking on the first RANKED of them). Then, for
the project's own calibration, layers in INT8 against mAP50-95 along the ranking. It takes ten minutes of CPU.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pandas as pd

from benchmarks.project_copy import call, copy_project, write_result
from enginewright.accuracy.evaluate import Evaluator
from enginewright.calibration.mixture import Mixture
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Calibration, CalibrationAlgorithm, Params, read
from enginewright.data import Feeding, ImageSet
from enginewright.feeds import Feeds
from enginewright.graph import stored
from enginewright.graph.decoding import decoding
from enginewright.interface import Interface
from enginewright.layout import Layout
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.sensitivity.analysis import analyze, ranked
from enginewright.sensitivity.budget import Budget
from enginewright.sensitivity.choice import choose
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.sensitivity.variants import Variants
from enginewright.tasks import task_of

BATCH = 50
RANKED = 60
KEPT = (0, 1, 2, 4, 8, 16, 25)  # layers in float, the first of the ranking
FIGURES = ("map50_95", "map50", "map75", "agreement")


class Detector:
    """The trained and exported model of a copy of the project, and its images."""

    def __init__(self, paths: Layout, params: Params) -> None:
        self.paths, self.params = paths, params
        self.task, self.preprocessing = task_of(params.model), params.data.preprocessing
        self.validation, self.sensitivity = (
            ImageSet.open(folder) for folder in (paths.validation, paths.sensitivity_images)
        )
        interface = Interface.from_file(paths.model)
        self.inputs, self.outputs = interface.inputs, [spec.name for spec in interface.outputs]
        self.rehearsal = Rehearsal(params.accuracy, len(self.validation))

    def recipe(self, algorithm: CalibrationAlgorithm, corrected: bool) -> QuantizationRecipe:
        """Calibrate as the stage does."""
        images, settings = ImageSet.open(self.paths.calibration_images), self.params.calibration

        def feeds() -> Iterator[Feeds]:
            return Feeding(images, self.preprocessing).batches(self.inputs, settings.batch_size)

        asked: Calibration = replace(settings, algorithm=algorithm)
        scales = RUNTIME.calibrate(self.paths.model, feeds(), asked)
        correction = measure_bias_correction(self.paths.model, feeds()) if corrected else None
        return QuantizationRecipe(scales, correction)

    def variants(self, recipe: QuantizationRecipe, images: ImageSet) -> Variants:
        """Any layers in float, judged on some images."""
        evaluator = Evaluator(self.task, images, self.preprocessing, BATCH, shows_progress=False)
        return Variants(self.paths.model, recipe, evaluator, self.outputs)


def shown(variants: Variants, kept: tuple[str, ...]) -> dict[str, Any]:
    """Figures on the validation scenes with some layers in float, and the verdict of the gate."""
    figures = variants.figures(kept)
    found: dict[str, Any] = {"layers_in_int8": len(variants.layers) - len(kept)}
    found.update({name: round(float(figures[name]), 4) for name in FIGURES if name in figures})
    for name in ("low", "bound"):
        found.update({name: round(float(figures[name]), 4)} if name in figures else {})
    return {**found, **({"verdict": figures["verdict"]} if "verdict" in figures else {})}


def measured(detector: Detector, recipe: QuantizationRecipe) -> tuple[dict[str, Any], Variants, pd.DataFrame]:
    """All layers in INT8, the rule, and the search, of one recipe."""
    settings, judging = detector.params, detector.variants(recipe, detector.validation)
    judging.rehearsal = detector.rehearsal
    analyzed = detector.variants(recipe, detector.sensitivity.first(RANKED))
    _, ranking = analyze(analyzed, Budget("analyze_sensitivity", 250), lambda blocks: blocks)
    searched = detector.variants(recipe, detector.sensitivity)
    searched.rehearsal = detector.rehearsal
    asked = Mixture.read(detector.paths.file(settings.search_mixed.layers))
    choice = choose(searched, detector.rehearsal, asked, ranking, settings.search_mixed)
    nodes = decoding(stored.read(detector.paths.model), detector.outputs)
    ruled = detector.variants(replace(recipe, float_decoding=nodes), detector.validation)
    ruled.rehearsal = detector.rehearsal
    found = {
        "first_of_ranking": ranking["layers"].iloc[:3].tolist(),
        "fp32": {name: round(float(judging.fp32[name]), 4) for name in FIGURES if name in judging.fp32},
        "int8": shown(judging, ()),
        "decoding_in_float_by_rule": shown(ruled, ()),
        "mixed_by_search": {
            "in_float": list(choice.mixture.names),
            "evaluations": choice.result.evaluations,
            **shown(judging, tuple(choice.mixture.names)),
        },
    }
    return found, judging, ranking


def main(made: Optional[Path]) -> None:
    """Train and export in a copy, or take the artifacts of a project where `dvc repro` ran, and measure."""
    with tempfile.TemporaryDirectory() as folder:
        project = made or reproduced(Path(folder) / "project")
        paths = Layout(project.resolve())
        detector = Detector(paths, read(paths.root / "params.yaml"))
        rows: dict[str, Any] = {}
        curve: list[dict[str, Any]] = []
        for algorithm in CalibrationAlgorithm:
            for corrected in (False, True):
                name = f"{algorithm.name}{' with bias correction' if corrected else ''}"
                rows[name], judging, ranking = measured(detector, detector.recipe(algorithm, corrected))
                print(name, rows[name], flush=True)
                if algorithm is detector.params.calibration.algorithm and not corrected:
                    order = [layer for block in ranked(ranking) for layer in block]
                    judging.rehearsal = None
                    curve = [shown(judging, tuple(order[:kept])) for kept in KEPT]
        images = {"validation": len(detector.validation), "sensitivity": len(detector.sensitivity)}
        write_result("digit_detection", {"images": images, "calibrations": rows, "layers_against_map": curve})


def reproduced(folder: Path) -> Path:
    """A copy of this checkout in which the experiment was trained, exported and checked."""
    copy_project(folder)
    for command in (["configure", "experiment=digit_detection"], ["lock"]):
        call([sys.executable, "-m", "enginewright.cli", *command], folder)
    call([str(Path(sys.executable).with_name("dvc")), "repro", "check_onnx"], folder)
    return folder


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
