"""What goes wrong in the field: each ends in one clear sentence and a non-zero exit, and the next `dvc repro` recovers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from support.project import Project, Run

pytestmark = pytest.mark.pipeline
RETRAIN = "train.epochs=3"  # makes train_reference stale, a stage that runs for some seconds


def _wait_for_stage(repro: subprocess.Popen[str], name: str) -> psutil.Process:
    """The process of a stage's script, as soon as `dvc repro` has started it and it has imported its parts."""
    until = time.monotonic() + 60
    while time.monotonic() < until and repro.poll() is None:
        for child in psutil.Process(repro.pid).children(recursive=True):
            try:
                if f"stages.{name}" in child.cmdline() and "python" in child.name() and child.cpu_times().user > 1:
                    return child
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)
    raise AssertionError(f"{name} did not start: {repro.communicate()[0]}")


def _kill_stage(repro: subprocess.Popen[str], stage: psutil.Process) -> None:
    stage.kill()


def _kill_dvc(repro: subprocess.Popen[str], stage: psutil.Process) -> None:
    repro.kill()


def _interrupt(repro: subprocess.Popen[str], stage: psutil.Process) -> None:
    os.killpg(repro.pid, signal.SIGINT)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        pytest.param(_kill_stage, "exited with -9", id="SIGKILL of the stage"),
        pytest.param(_kill_dvc, "", id="SIGKILL of dvc"),
        pytest.param(_interrupt, "error: train_reference: interrupted", id="Ctrl-C"),
    ],
)
def test_killed(project: Project, how: Callable[[subprocess.Popen[str], psutil.Process], None], sentence: str) -> None:
    project.configure(RETRAIN)
    repro = project.start("dvc", "repro")
    stage = _wait_for_stage(repro, "train_reference")
    how(repro, stage)
    output, _ = repro.communicate(timeout=60)
    assert repro.returncode != 0
    assert sentence in output
    assert not psutil.wait_procs([stage], timeout=5)[1], "the stage lives on as an orphan"
    assert not (project.root / "artifacts/reference/weights.pt").exists()

    again = project.repro()
    assert again.code == 0, again.output
    assert "train_reference" in again.ran
    assert project.leftovers() == []


def test_two_repros_at_once(project: Project) -> None:
    project.configure(RETRAIN)
    first = project.start("dvc", "repro")
    _wait_for_stage(first, "train_reference")
    second = project.repro("train_reference")
    assert second.code != 0
    assert "is busy, it is being blocked by" in second.output
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 0, output


def test_full_disk(project: Project) -> None:
    folder = project.root / "artifacts/engines"
    project.configure("build.workspace_mib=2048")
    shutil.rmtree(folder)
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        run = project.repro("build_fp32")
        left = [path.name for path in folder.rglob("*.onnx")]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert run.code != 0
    assert "error: build_fp32: no space left on the disk of" in run.output
    assert left == []
    again = project.repro()
    assert again.code == 0, again.output


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("artifact", "stage"),
    [
        pytest.param("artifacts/onnx/model.onnx", "build_fp32", id="ONNX"),
        pytest.param("artifacts/calibration/calib.cache", "build_int8", id="calib.cache"),
        pytest.param("artifacts/engines/int8/engine.onnx", "validate_accuracy", id="engine under validation"),
        pytest.param("artifacts/engines/fp32/engine.onnx", "benchmark_sustained", id="engine under load"),
    ],
)
def test_flipped_byte(project: Project, artifact: str, stage: str) -> None:
    _flip_a_byte(project.root / artifact)
    run = project.stage(stage)
    assert run.code == 2
    assert f"error: {stage}: {artifact} cannot be used: its bytes differ from the sha256" in run.output
    assert project.repro().code == 0  # DVC puts back the bytes that it has
    assert project.stage(stage).code == 0


def test_onnx_of_another_model_beside_the_old_cache(project: Project) -> None:
    cache = (project.root / "artifacts/calibration/calib.cache").read_bytes()
    project.configure("model.output_name=scores")
    exported = project.repro("check_onnx")
    assert exported.code == 0, exported.output
    run = project.stage("build_int8")
    assert run.code == 2
    assert "artifacts/calibration/calib.cache cannot be used: it was made from another artifacts/onnx/model.onnx; run `dvc repro calibrate`" in run.output
    assert (project.root / "artifacts/calibration/calib.cache").read_bytes() == cache
    assert project.repro().code == 0


def _own_weights(project: Project, *more: str) -> Run:
    project.configure("model.weights=weights/mine.pt", "model.weights_from=file", *more)
    return project.repro("export")


def test_missing_weights(project: Project) -> None:
    run = _own_weights(project)
    assert run.code != 0
    assert "weights/mine.pt" in run.output
    assert "missing" in run.output


def test_truncated_weights(project: Project) -> None:
    whole = (project.root / "artifacts/reference/weights.pt").read_bytes()
    mine = project.root / "weights/mine.pt"
    mine.parent.mkdir()
    mine.write_bytes(whole[: len(whole) // 2])
    run = _own_weights(project)
    assert run.code != 0
    assert "error: export: weights/mine.pt" in run.output
    assert not (project.root / "artifacts/onnx/model.onnx").exists()
    mine.write_bytes(whole)
    assert project.repro("export").code == 0


def test_nan_outputs(project: Project) -> None:
    import torch

    weights = torch.load(project.root / "artifacts/reference/weights.pt", weights_only=True)
    bias = next(name for name in reversed(weights) if name.endswith("bias"))
    weights[bias] = torch.full_like(weights[bias], float("nan"))
    mine = project.root / "weights/mine.pt"
    mine.parent.mkdir()
    torch.save(weights, mine)
    run = _own_weights(project)
    assert run.code != 0
    assert "error: export: " in run.output
    assert "NaN" in run.output
    assert not (project.root / "artifacts/onnx/model.onnx").exists()


def _folder_of_images(root: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for index in range(count):
        path = root / f"class_{index % 2}" / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (28, 28), dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    ("count", "sentences"),
    [pytest.param(0, ["no images"], id="empty folder"), pytest.param(1, ["1 image"], id="one image")],
)
def test_too_few_images(project: Project, count: int, sentences: list[str]) -> None:
    (project.root / "photos").mkdir()
    _folder_of_images(project.root / "photos", count)
    project.configure("data.source=image_folder", "data.root=photos")
    run = project.repro("prepare_data")
    assert run.code != 0
    assert "error: prepare_data: " in run.output
    for sentence in sentences:
        assert sentence in run.output
    project.configure()
    assert project.repro().code == 0


def test_corrupt_image(project: Project) -> None:
    photos = project.root / "photos"
    _folder_of_images(photos, 1200)
    broken = photos / "class_1/0007.png"
    broken.write_bytes(broken.read_bytes()[:60])
    project.configure("data.source=image_folder", "data.root=photos")
    run = project.repro("prepare_data")
    assert run.code != 0
    assert "error: prepare_data: " in run.output
    assert "class_1/0007.png" in run.output
    assert not (project.root / "artifacts/data/validation/images.npy").exists()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        pytest.param(("max: 128", "max: 1"), "build.profile", id="a profile that holds no batch"),
        pytest.param(("batch_size: 50", "batch_size: 500"), "accuracy.batch_size: 500 is over build.profile.max = 128", id="a batch beyond the profile"),
        pytest.param(("seed: 0", "sead: 0"), "sead is not a setting; did you mean 'seed'?", id="an unknown key"),
        pytest.param(("algorithm: entropy", "algorithm: entropie"), "did you mean 'entropy'?", id="an unknown algorithm"),
    ],
)
def test_params_edited_by_hand(project: Project, edit: tuple[str, str], sentence: str) -> None:
    params = project.root / "params.yaml"
    before = params.read_text()
    assert edit[0] in before
    params.write_text(before.replace(*edit))
    run = project.repro()
    assert run.code != 0
    assert sentence in run.output or "Parameters 'seed' are missing" in run.output
    params.write_text(before)
    assert project.repro().code == 0
