"""A model whose classes are in another order than the folders' names reaches its true top-1 with data.classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from PIL import Image

from enginewright.accuracy.evaluate import Evaluator
from enginewright.config import Precision, Preprocessing, Selection
from enginewright.data import ImageSet
from enginewright.data.classes import BY_FILE, BY_NAME
from enginewright.data.preparation import prepare
from enginewright.data.sources import open_source
from enginewright.feeds import Feeds
from enginewright.interface import AxisRange, Interface, TensorSpec
from enginewright.runtimes.base import Outputs
from enginewright.runtimes.host import HostEngine
from enginewright.tasks import get_task
from support.image_sets import SETS, output, settings

BRIGHTNESS = {"night": 20, "dusk": 120, "day": 220}  # in the order of the model's outputs


class Brightness(HostEngine):
    """Tells how bright an image is."""

    def __init__(self) -> None:
        inputs = (TensorSpec("input", np.dtype(np.float32), ("batch", 1, 6, 6)),)
        outputs = (TensorSpec("logits", np.dtype(np.float32), ("batch", 3)),)
        super().__init__(Path("engine"), Interface(inputs, outputs), {"batch": AxisRange(1, 4, 8)})

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        seen = feeds["input"].reshape(rows, -1).mean(axis=1, keepdims=True) * 255
        return {"logits": -np.abs(seen - np.array([*BRIGHTNESS.values()], np.float32)).astype(np.float32)}


@pytest.mark.parametrize(
    ("changes", "order", "top1"),
    [
        pytest.param({"classes": "classes.txt"}, BY_FILE, 1.0, id="with the file"),
        pytest.param({}, BY_NAME, None, id="without: the order that is taken is said"),
    ],
)
def test_the_true_top1(here: Path, changes: dict[str, Any], order: str, top1: Optional[float]) -> None:
    random = np.random.default_rng(0)
    for name, level in BRIGHTNESS.items():
        for index in range(14):
            path = Path("images") / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((level + random.integers(-9, 9, (6, 6))).astype(np.uint8)).save(path)
    Path("classes.txt").write_text("\n".join(BRIGHTNESS) + "\n")
    data = settings(selection=Selection.random, **changes)
    metrics = prepare(open_source(data), data, 0, {name: Path("out") / name for name in SETS}, output)
    images = ImageSet.open(Path("out/validation"))
    assert (metrics["class_order"], images.class_order) == (order, order)
    assert sorted(images.classes) == sorted(BRIGHTNESS)
    task = get_task("classification")
    found = Evaluator(task, images, Preprocessing(size=[6, 6]), 5, shows_progress=False)
    reached = found.side_by_side({Precision.fp32: Brightness()}, ["logits"]).evaluations[Precision.fp32]
    value = task.summary(reached.rows, reached.classes)["top1"]
    assert value == top1 if top1 is not None else value < 0.5
