"""The search is judged as the validation will judge, and says where no engine could pass there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from enginewright.accuracy.evaluate import Evaluator
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Accuracy, Calibration, CalibrationAlgorithm, Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.interface import TensorSpec
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.sensitivity.analysis import analyze
from enginewright.sensitivity.budget import Budget
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.sensitivity.variants import Variants
from enginewright.tasks import get_task
from support.networks import residual_network

COUNT = 40
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28, 1), dtype=np.uint8)
IMAGES = ImageSet({"images": PIXELS}, None, (), tuple(f"{index}.png" for index in range(COUNT)), [])


def two_outputs(path: Path) -> None:
    """The logits, and the features that they are made of."""
    model = residual_network(shape=(1, 28, 28))
    model.graph.output.append(helper.make_tensor_value_info("pool", onnx.TensorProto.FLOAT, ["N", 8, 14, 14]))
    onnx.save(model, path)


def variants_of(path: Path, task: str, *outputs: str) -> Variants:
    cache = RUNTIME.calibrate(
        path,
        Feeding(IMAGES, Preprocessing()).batches([TensorSpec("input", np.dtype(np.float32), ("batch", 1, 28, 28))], 20),
        Calibration(algorithm=CalibrationAlgorithm.minmax),
    )
    return Variants(
        path,
        QuantizationRecipe(cache),
        Evaluator(get_task(task), IMAGES, Preprocessing(), 20, shows_progress=False),
        outputs or ["logits"],
    )


@pytest.mark.slow
def test_every_output_of_every_mixture_is_judged(tmp_path: Path) -> None:
    two_outputs(tmp_path / "model.onnx")
    variants = variants_of(tmp_path / "model.onnx", "outputs", "logits", "pool")
    variants.rehearsal = Rehearsal(Accuracy(minimum_ratio=0.5), images=1000)
    whole, table = analyze(variants, Budget("analyze_sensitivity", 100), lambda blocks: blocks)
    assert set(whole["outputs"]) == {"logits", "pool"}
    assert whole["lowest_cosine"] == min(found["cosine"] for found in whole["outputs"].values())
    assert whole["sqnr_db"] == min(found["sqnr_db"] for found in whole["outputs"].values())
    assert {"alone_lowest_cosine", "without_lowest_cosine", "alone_sqnr_db"} <= set(table)
    assert (whole["figure"], whole["verdict"]) == ("lowest_cosine", "passed")
    everything = variants.figures(variants.layers)
    assert everything["lowest_cosine"] >= whole["lowest_cosine"]


@pytest.mark.parametrize(("images", "outcome"), [(50, "undecided"), (1000, "passed")])
def test_a_mixture_is_judged_as_on_the_images_that_the_validation_has(
    images: int, outcome: str, tmp_path: Path
) -> None:
    onnx.save(residual_network(shape=(1, 28, 28)), tmp_path / "model.onnx")
    variants = variants_of(tmp_path / "model.onnx", "classification")
    rehearsal = Rehearsal(Accuracy(minimum_ratio=0.99, minimum_sqnr_db=None), images)
    found = rehearsal.figures(variants.task, variants.equal(), variants.evaluated)
    assert (found["verdict"], found["reaches"], found["value"]) == (outcome, True, 1.0)
    assert rehearsal.holds(found, decidable=True) is (outcome == "passed")
    assert rehearsal.holds(found, decidable=False)  # no engine could pass, so the point decides
    raised = Rehearsal(Accuracy(minimum_ratio=0.99), images, margin=0.02).figures(
        variants.task, variants.equal(), variants.evaluated
    )
    assert not raised["reaches"]
    assert raised["bound"] == pytest.approx(1.01)
