"""What goes wrong in the field: each ends in one clear sentence and a non-zero exit, and the next `dvc repro`
recovers.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from support.project import AT_WORK, Project, Run
from support.waiting import gone, until

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("failures")]

MODEL = "artifacts/onnx/model.onnx"
CACHE = "artifacts/calibration/calib.cache"
WEIGHTS = "artifacts/reference/weights.pt"
FP32, INT8 = "artifacts/engines/fp32/engine.onnx", "artifacts/engines/int8/engine.onnx"

# --- killed

Started = subprocess.Popen[str]
OWN_WORK = {  # the first call of which shows that a stage is at it
    "train_reference": "enginewright.models.training:train",
    "benchmark_sustained": "enginewright.benchmark.samples:Recorder.record",
}


def _watch(project: Project, call: str) -> Path:
    """A file that gets a byte for each call of a function, in what is started from now on."""
    file = project.root.parent / "calls"
    file.unlink(missing_ok=True)
    project.environment |= {"PYTHONPATH": str(AT_WORK), "AT_WORK_CALL": call, "AT_WORK_FILE": str(file)}
    return file


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _at_work(process: Started, calls: Path) -> bool:
    """Whether it has called what is watched, or has ended without."""
    return bool(_size(calls)) or process.poll() is not None


def _wait_for_stage(repro: Started, name: str, calls: Path) -> psutil.Process:
    """The process of a stage's script, once `dvc repro` has started it and it is at its own work."""
    until(lambda: _at_work(repro, calls))
    for child in psutil.Process(repro.pid).children(recursive=True) if repro.poll() is None else []:
        with contextlib.suppress(psutil.NoSuchProcess):  # one may end while it is looked at
            if f"stages.{name}" in child.cmdline() and "python" in child.name():
                return child
    raise AssertionError(f"{name} did not start: {repro.communicate()[0]}")


def _kill_stage(repro: Started, stage: psutil.Process) -> None:
    stage.kill()


def _kill_dvc(repro: Started, stage: psutil.Process) -> None:
    repro.kill()


def _interrupt(repro: Started, stage: psutil.Process) -> None:
    os.killpg(repro.pid, signal.SIGINT)


@pytest.mark.parametrize(
    ("setting", "how", "sentence"),
    [
        pytest.param(
            "train.epochs=20",
            _kill_stage,
            "failed to run: exec python -m stages.train_reference, exited with -9",
            id="SIGKILL of the stage",
        ),
        pytest.param("train.epochs=20", _kill_dvc, "", id="SIGKILL of dvc"),  # who can say nothing any more
        pytest.param(
            "benchmark.seconds=1.2",
            _interrupt,
            "interrupted; `dvc repro` starts this stage again",
            id="Ctrl-C under load",
        ),
    ],
)
def test_killed(project: Project, setting: str, how: Callable[[Started, psutil.Process], None], sentence: str) -> None:
    name = "train_reference" if setting.startswith("train") else "benchmark_sustained"
    project.configure(setting)
    calls = _watch(project, OWN_WORK[name])
    repro = project.start("dvc", "repro", name)
    process = _wait_for_stage(repro, name, calls)
    how(repro, process)
    output = project.end(repro).output
    assert repro.returncode != 0
    assert (f"error: {name}: {sentence}" if sentence.startswith("interrupted") else sentence) in output
    assert "Traceback" not in output
    until(lambda: gone(process))  # an orphan that lives on would write what must not be there
    for whole in (
        f"artifacts/metrics/{name}.json",
        WEIGHTS if name == "train_reference" else "artifacts/benchmark/windows.csv.json",
    ):
        assert not (project.root / whole).exists()

    again = project.repro(name)
    assert again.code == 0, again.output
    assert name in again.ran, again.output
    assert project.leftovers() == []


@pytest.mark.parametrize("driver", ["own", "auto"])  # auto: LoadGen, where it is installed
def test_ctrl_c_in_the_middle_of_a_load_keeps_what_was_measured_and_marks_it(project: Project, driver: str) -> None:
    project.configure("benchmark.seconds=60", f"benchmark.driver={driver}")
    calls = _watch(project, OWN_WORK["benchmark_sustained"])
    repro = project.start("dvc", "repro", "benchmark_sustained")
    assert repro.stdout is not None
    seen = []
    for line in repro.stdout:  # ends with the marker, or with the process
        seen.append(line)
        if "fp32: single_stream (60 s)" in line:
            break
    before = _size(calls)
    until(lambda: _size(calls) > before + 100 or repro.poll() is not None)  # LoadGen first prepares a minute of queries
    os.killpg(repro.pid, signal.SIGINT)
    output = "".join(seen) + project.end(repro).output
    assert repro.returncode != 0
    assert "benchmark_sustained: interrupted" in output
    assert "Traceback" not in output
    kept = json.loads((project.root / "artifacts/benchmark/incomplete.json").read_text())
    with (project.root / "artifacts/benchmark/windows.csv").open() as series:
        queries = sum(int(row["queries"]) for row in csv.DictReader(series))
    assert kept["complete"] is False
    assert queries == kept["fp32"]["single_stream"]["queries"] > 0
    assert kept["fp32"]["single_stream"]["seconds"] > 0
    assert not (project.root / "artifacts/benchmark/windows.csv.json").exists()  # nothing may take it for whole
    assert not (project.root / "artifacts/metrics/benchmark_sustained.json").exists()

    project.configure()
    again = project.repro("benchmark_sustained")
    assert again.code == 0, again.output
    assert "benchmark_sustained" in again.ran | again.restored, again.output
    assert not (project.root / "artifacts/benchmark/incomplete.json").exists()


KILLED_AT = (  # the call that a build has come to; the first of them before it is Python
    "",
    "enginewright.build:build_engine",
    "enginewright.runtimes.onnxruntime.builder:build",
    "enginewright.manifest:replacing",
    "enginewright.manifest:seal",
    "enginewright.stage:Stage.write_metrics",
)


def test_killed_at_any_moment_a_stage_leaves_the_whole_engine_or_none_that_passes(project: Project) -> None:
    project.configure("calibration=minmax")
    assert project.stage("calibrate").code == 0
    before = project.root / "before"
    shutil.copytree(project.root / "artifacts/engines/int8", before)
    assert project.stage("build_int8").code == 0
    whole = project.bytes_of("artifacts/engines/int8")
    ends = []
    for call in KILLED_AT:
        shutil.rmtree(project.root / "artifacts/engines/int8")
        shutil.copytree(before, project.root / "artifacts/engines/int8")
        calls = _watch(project, call)
        with project.start("python", "-m", "stages.build_int8") as stage:
            if call:
                until(partial(_at_work, stage, calls))
            stage.kill()
            stage.communicate()
        assert not call or _size(calls), f"build_int8 ended without a call of {call}"
        project.environment.pop("AT_WORK_CALL")
        ends.append(_whole(project, INT8))
        if ends[-1]:
            assert (project.root / INT8).read_bytes() == whole[INT8]
    assert (ends[0], ends[-1]) == (False, True)  # the engine is written last but for the metrics

    again = project.repro("build_int8")
    assert again.code == 0, again.output
    assert project.bytes_of("artifacts/engines/int8") == whole
    assert project.leftovers() == []


def _whole(project: Project, artifact: str) -> bool:
    return project.call("enginewright", "verify", artifact).code == 0


def test_two_repros_at_once(project: Project) -> None:
    project.configure("train.epochs=20")
    calls = _watch(project, OWN_WORK["train_reference"])
    first = project.start("dvc", "repro", "train_reference")
    stage = _wait_for_stage(first, "train_reference", calls)
    stage.suspend()  # it must not be over before the second has come so far
    second = project.repro("train_reference")
    stage.resume()
    assert second.code != 0
    assert "is busy, it is being blocked by" in second.output
    assert "train_reference" not in second.ran
    ended = project.end(first)
    assert ended.code == 0, ended.output


# --- the disk


def test_full_disk(project: Project) -> None:
    mount = (  # less than the engine, in a namespace of its own that ends with the command
        "mount -t tmpfs -o size=128k none artifacts/engines"
    )
    folder = project.root / "artifacts/engines"
    shutil.rmtree(folder)
    folder.mkdir()
    if project.call("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount).code:
        pytest.skip("this machine lets nobody mount a small tmpfs")
    project.configure("build.workspace_mib=2048")
    command = f"{mount}; dvc repro build_fp32; code=$?; find artifacts/engines -type f; exit $code"
    run = project.call("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command)
    assert run.code != 0
    assert "error: build_fp32: no space left on the disk of " in run.output
    assert "while writing engine.onnx; free some and run `dvc repro` again" in run.output
    assert not run.output.rstrip().endswith(("engine.onnx", ".json", ".partial")), run.output
    again = project.repro("build_fp32")
    assert again.code == 0, again.output
    assert _whole(project, FP32)


def _flip_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


def _cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("artifact", "damage", "stage"),
    [
        pytest.param(MODEL, _flip_a_byte, "build_fp32", id="flipped byte in the ONNX"),
        pytest.param(CACHE, _flip_a_byte, "build_int8", id="flipped byte in calib.cache"),
        pytest.param(INT8, _flip_a_byte, "validate_accuracy", id="flipped byte in an engine to validate"),
        pytest.param(FP32, _flip_a_byte, "benchmark_sustained", id="flipped byte in an engine to load"),
        pytest.param(
            "artifacts/data/calibration/images.npy", _flip_a_byte, "calibrate", id="flipped byte in calibration images"
        ),
        pytest.param(WEIGHTS, _cut_in_half, "export", id="truncated reference weights"),
    ],
)
def test_damaged_artifact(project: Project, artifact: str, damage: Callable[[bytes], bytes], stage: str) -> None:
    path = project.root / artifact
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(damage(whole))
    run = project.stage(stage)
    assert run.code == 2
    assert (
        f"error: {stage}: {artifact} cannot be used: its bytes differ from the sha256 in {path.name}.json; run `dvc"
        " repro " in run.output
    )
    again = project.repro(stage)
    assert again.code == 0, again.output
    assert again.ran <= {"check_toolchain", "probe_target"}, again.output  # DVC puts back the bytes that it has
    assert path.read_bytes() == whole


# --- models


def test_onnx_of_another_model_beside_the_old_cache(project: Project) -> None:
    cache = (project.root / CACHE).read_bytes()
    project.configure("model.outputs=[scores]")
    assert [project.stage(name).code for name in ("export", "check_onnx")] == [0, 0]
    run = project.stage("build_int8")
    assert run.code == 2
    assert (
        f"error: build_int8: {CACHE} cannot be used: it was made from another {MODEL}; run `dvc repro calibrate`"
        in run.output
    )
    assert (project.root / CACHE).read_bytes() == cache
    project.configure()
    assert project.repro("build_int8").code == 0


def _own_weights(project: Project) -> Run:
    project.configure("model.weights=weights/mine.pt", "model.weights_from=file")
    return project.repro("export")


@pytest.fixture
def mine(project: Project) -> Path:
    """Where the user's own weights lie."""
    path = project.root / "weights/mine.pt"
    path.parent.mkdir()
    return path


def test_missing_weights(project: Project, mine: Path) -> None:
    mine.touch()  # `configure` refuses weights that are not there
    project.configure("model.weights=weights/mine.pt", "model.weights_from=file")
    mine.unlink()
    run = project.repro("export")
    assert run.code != 0
    assert (
        "failed to reproduce 'export': [Errno 2] No such file or directory: " in run.output
    )  # DVC, which hashes the file before the stage starts
    assert "weights/mine.pt" in run.output
    assert (
        "error: train_reference: model.weights weights/mine.pt does not exist; put the state dict there"
        in project.stage("train_reference").output
    )


def test_truncated_weights(project: Project, mine: Path) -> None:
    whole = (project.root / WEIGHTS).read_bytes()
    mine.write_bytes(_cut_in_half(whole))
    run = _own_weights(project)
    assert run.code != 0
    assert "error: export: weights/mine.pt is damaged: it begins as a zip and does not end as one" in run.output
    assert not (project.root / MODEL).exists()
    mine.write_bytes(whole)
    again = project.repro("export")
    assert again.code == 0, again.output


def test_nan_outputs(project: Project, mine: Path) -> None:
    import torch

    weights = torch.load(project.root / WEIGHTS, weights_only=True)
    bias = next(name for name in reversed(weights) if name.endswith("bias"))
    weights[bias] = torch.full_like(weights[bias], float("nan"))
    torch.save(weights, mine)
    run = _own_weights(project)
    assert run.code != 0
    assert re.search(
        r"error: export: resnet_reference \(.*resnet.*\) returns NaN or infinity on .*images.* in PyTorch itself; look",
        run.output,
    ), run.output
    assert not (project.root / MODEL).exists()


# --- images


@pytest.fixture
def photos(project: Project) -> Iterator[Path]:
    """A folder of images, empty, for which the project is configured; afterwards the project goes back to its own
    images.
    """
    folder = project.root / "photos"
    folder.mkdir()
    project.configure("data.source=image_folder", "data.root=photos")
    yield folder
    assert not (project.root / "artifacts/data/validation/images.npy").exists()
    project.configure()
    again = project.repro("prepare_data")
    assert again.code == 0, again.output


def _draw(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"class_{index % 2}" / f"{index:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (28, 28), dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    ("count", "sentence"),
    [pytest.param(0, "there are 0 images", id="empty"), pytest.param(1, "there is 1 image", id="one image")],
)
def test_too_few_images(project: Project, photos: Path, count: int, sentence: str) -> None:
    _draw(photos, count)
    run = project.repro("prepare_data")
    assert run.code != 0
    asked = (
        "data.train_images 600 + data.calibration_pool 100 + data.sensitivity_images 50 + data.validation_images 100"
    )
    assert f"error: prepare_data: 850 images are needed ({asked})" in run.output
    assert f"{sentence} in what photos holds; lower these settings or add images" in run.output


def test_corrupt_image(project: Project, photos: Path) -> None:
    _draw(photos, 20)
    broken = photos / "class_1/0007.png"
    broken.write_bytes(broken.read_bytes()[:60])
    run = project.repro("prepare_data")
    assert run.code != 0
    assert "error: prepare_data: photos/class_1/0007.png cannot be read as an image (" in run.output
    assert "replace the file or remove it" in run.output


# --- settings


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        pytest.param(("max: 128", "max: 1"), "params.yaml: axes.batch: ", id="a profile that holds no batch"),
        pytest.param(
            ("batch_size: 50", "batch_size: 500"),
            "accuracy.batch_size: 500 is over axes.batch.max = 128",
            id="a batch beyond the profile",
        ),
        pytest.param(("seed: 0", "sead: 0"), "sead is not a setting; did you mean 'seed'?", id="an unknown key"),
        pytest.param(
            ("algorithm: entropy", "algorithm: entropie"), "did you mean 'entropy'?", id="an unknown algorithm"
        ),
    ],
)
def test_params_edited_by_hand(project: Project, edit: tuple[str, str], sentence: str) -> None:
    params = project.root / "params.yaml"
    before = params.read_text()
    assert edit[0] in before
    params.write_text(before.replace(*edit))
    run = project.repro("probe_target")
    assert run.code != 0
    assert "error: probe_target: params.yaml: " in run.output
    assert sentence in run.output


def test_application_beyond_the_profile_gets_every_answer(project: Project) -> None:
    program = (
        "import numpy as np, enginewright\n"
        "images = np.zeros((300, 1, 28, 28), np.float32)\n"
        f"with enginewright.load('{INT8}') as engine:\n"
        "    print(engine.axes['batch'].max, engine.infer({'input': images})['logits'].shape)\n"
    )
    run = project.call("python", "-c", program)
    assert (run.code, run.output.strip()) == (0, "128 (300, 10)"), run.output
