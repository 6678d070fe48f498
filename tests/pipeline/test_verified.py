"""Every reader verifies what it reads: each artifact is tampered with in turn, and each stage that reads it must refuse
it.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enginewright import config, manifest
from enginewright.cli import chain, main
from support.json_schema import faults
from support.project import PATHS, ROOT, Project, stages

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("reruns")]

BUILDS = ("build_fp32", "build_fp16", "build_int8", "build_int8_mixed")
MEASURING = ("validate_accuracy", "profile_layers", "benchmark_sustained")
SET = ("images.npy", "geometry.npy", "labels.csv", "classes.json")
# Artifact -> the stages that read it. What has a sidecar is verified by it: bytes, place, inputs.
READERS: dict[str, tuple[str, ...]] = {
    **{f"data/training/{name}": ("train_reference",) for name in SET},
    **{f"data/validation/{name}": ("train_reference", *MEASURING, "check_drift") for name in SET},
    **{f"data/calibration/{name}": ("calibrate", "check_drift", "export") for name in SET},
    **{f"data/sensitivity/{name}": ("analyze_sensitivity", "search_mixed") for name in SET},
    "reference/weights.pt": ("export",),
    "onnx/model.onnx": ("check_onnx", "calibrate", "check_drift", "analyze_sensitivity", "search_mixed", *BUILDS),
    "checks/report.json": ("calibrate", "check_drift", "analyze_sensitivity", "search_mixed", *BUILDS),
    "calibration/calib.cache": ("check_drift", "analyze_sensitivity", "search_mixed", "build_int8", "build_int8_mixed"),
    "sensitivity/ranking.csv": ("search_mixed",),
    "mixed/layers.yaml": ("build_int8_mixed",),
    **{f"engines/{precision}/engine.onnx": MEASURING for precision in ("fp32", "fp16", "int8", "int8_mixed")},
    "accuracy/metrics.json": ("pareto",),
    "benchmark/metrics.json": ("pareto",),
    **dict.fromkeys(
        ("accuracy/verdict.json", "drift/report.json", "profile/layers.csv", "pareto/pareto.csv"), ("gate",)
    ),
}
# Without a sidecar, as probe_target writes them in each run: they are compared with the machine and with params.yaml.
COMPARED = {"target/target.json": (*BUILDS, *MEASURING), "target/calibrator.json": ("calibrate",)}
ALWAYS_THE_SAME = "artifacts/toolchain/checked.txt"  # check_toolchain refuses; its output says nothing more
FOR_PEOPLE = {
    "accuracy/predictions.csv",
    "benchmark/windows.csv",
    "gate/verdict.json",
}  # no stage reads them


@pytest.fixture(scope="module")
def tampered(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy for all tests of this module: each puts back what it changes."""
    root = tmp_path_factory.mktemp("tampered") / "project"
    shutil.copytree(reproduced.root, root, symlinks=True, ignore=shutil.ignore_patterns("cache"))
    yield Project(root)
    shutil.rmtree(root)


@pytest.fixture
def inside(tampered: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tampered.root)
    monkeypatch.setattr(sys, "argv", ["stage"])
    return tampered.root


def said(stage: str, capfd: pytest.CaptureFixture[str]) -> str:
    """What the stage's script says when it refuses; it runs in this process, as it must refuse before it computes."""
    entry = getattr(importlib.import_module(f"stages.{stage}"), stage)
    with pytest.raises(SystemExit) as ended:
        entry()
    printed = capfd.readouterr()
    assert ended.value.code == 2, f"{stage} ended with {ended.value.code}: {printed.out[-500:]} {printed.err[-500:]}"
    assert "Traceback" not in printed.err
    return printed.err


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    replace(path, bytes(content))


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # DVC may have made it read-only
    path.write_bytes(content)


def without_sidecar(path: Path) -> None:
    manifest.sidecar(path).unlink()


def of_another_place(path: Path) -> None:
    """A whole sidecar, which says that the file was made elsewhere: what a swap with another artifact leaves."""
    sidecar = manifest.sidecar(path)
    content = json.loads(sidecar.read_text())
    replace(sidecar, json.dumps({**content, "path": "artifacts/elsewhere/file"}).encode())


def made_from_others(path: Path) -> None:
    """A whole sidecar of an artifact that was made from other inputs."""
    sidecar = manifest.sidecar(path)
    content = json.loads(sidecar.read_text())
    replace(
        sidecar,
        json.dumps(
            {**content, "inputs": dict.fromkeys(content["inputs"], "0" * 64) or {"params.yaml": "0" * 64}}
        ).encode(),
    )


WAYS = [
    pytest.param(flip, "its bytes differ from the sha256", id="flipped byte"),
    pytest.param(without_sidecar, "is missing, so it may be half-written", id="no sidecar"),
    pytest.param(of_another_place, "its sidecar is that of artifacts/elsewhere/file", id="of another place"),
    pytest.param(made_from_others, "it was made from another ", id="made from others"),
]


@pytest.mark.parametrize("artifact", READERS)
@pytest.mark.parametrize(("tamper", "text"), WAYS)
def test_every_reader_refuses_an_artifact_that_was_tampered_with(
    inside: Path, capfd: pytest.CaptureFixture[str], artifact: str, tamper: Callable[[Path], None], text: str
) -> None:
    path = inside / PATHS.artifacts / artifact
    kept = {file: file.read_bytes() for file in (path, manifest.sidecar(path))}
    tamper(path)
    try:
        for stage in READERS[artifact]:
            sentence = said(stage, capfd)
            assert " cannot be used: " in sentence, (stage, sentence)
            # Where a reader first takes up something that was made from the artifact, that one says so.
            of_itself = f"artifacts/{artifact} cannot be used: " in sentence and text in sentence
            assert of_itself or f"it was made from another artifacts/{artifact}; " in sentence, (stage, sentence)
    finally:
        for file, content in kept.items():
            file.unlink(missing_ok=True)
            file.write_bytes(content)


def another_device(path: Path) -> None:
    replace(path, json.dumps({**json.loads(path.read_text()), "device": "Another CPU"}).encode())


def another_calibrator(path: Path) -> None:
    replace(path, json.dumps({"runtime": "onnxruntime", "onnxruntime": "0.1"}).encode())


@pytest.mark.parametrize(
    ("artifact", "tamper", "text"),
    [
        pytest.param("target/target.json", another_device, "Another CPU", id="target"),
        pytest.param(
            "target/target.json", lambda path: replace(path, b"{}"), "run `dvc repro probe_target`", id="no target"
        ),
        pytest.param(
            "target/calibrator.json",
            another_calibrator,
            "names another calibrator than is configured and installed",
            id="calibrator",
        ),
        pytest.param(
            "target/calibrator.json",
            lambda path: replace(path, b"[]"),
            "run `dvc repro probe_target`",
            id="no calibrator",
        ),
    ],
)
def test_what_the_probe_found_is_compared_with_the_machine(
    inside: Path, capfd: pytest.CaptureFixture[str], artifact: str, tamper: Callable[[Path], None], text: str
) -> None:
    path = inside / PATHS.artifacts / artifact
    kept = path.read_bytes()
    tamper(path)
    try:
        for stage in COMPARED[artifact]:
            assert text in said(stage, capfd), stage
    finally:
        path.write_bytes(kept)


def test_the_tables_above_name_all_that_stages_read() -> None:
    read = {f"artifacts/{artifact}": set(readers) for artifact, readers in {**READERS, **COMPARED}.items()}
    for stage, described in stages().items():
        for dep in map(str, described.get("deps", [])):
            if dep.startswith("artifacts/") and not dep.endswith(".json.json") and dep != ALWAYS_THE_SAME:
                covered = [
                    artifact
                    for artifact, readers in read.items()
                    if stage in readers and (artifact == dep or artifact.startswith(f"{dep}/"))
                ]
                assert covered, (
                    f"{stage} depends on {dep}, and no row of READERS shows that it verifies what it reads there"
                )


def test_the_tables_above_name_all_that_is_sealed(inside: Path) -> None:
    found = {path.relative_to(PATHS.artifacts).as_posix() for path in chain.sealed([PATHS.artifacts])}
    assert found == {*READERS, *FOR_PEOPLE}


def test_every_sidecar_is_what_the_published_schema_says(inside: Path) -> None:
    schema = json.loads((ROOT / "enginewright/schemas/manifest-1.json").read_text())
    for artifact in chain.sealed([PATHS.artifacts]):
        content = json.loads(manifest.sidecar(artifact).read_text())
        assert list(faults(content, schema, schema)) == [], artifact


def test_a_model_and_its_engines_say_how_to_use_them(inside: Path) -> None:
    model = manifest.verify(PATHS.model).usage
    assert model.interface is not None
    assert [spec.name for spec in model.interface.inputs] == ["input"]
    assert model.preprocessing == config.read().data.preprocessing.to_dict()
    assert model.classes == tuple("0123456789")
    for engine in PATHS.engines.glob("*/engine.onnx"):
        assert manifest.verify(engine).usage == model


def test_verify_misses_no_deleted_sidecar(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = chain.sealed([PATHS.artifacts])
    for artifact in found:
        sidecar = manifest.sidecar(artifact)
        sidecar.rename(inside / "aside")
        try:
            assert artifact in chain.sealed([PATHS.artifacts]), f"{artifact} is not missed when its sidecar is"
        finally:
            (inside / "aside").rename(sidecar)
    kept = {manifest.sidecar(artifact): manifest.sidecar(artifact).read_bytes() for artifact in found}
    for sidecar in kept:
        sidecar.unlink()
    with pytest.raises(SystemExit) as ended:
        main(["verify"])
    for sidecar, content in kept.items():
        sidecar.write_bytes(content)
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert f"0 of {len(found)} artifacts are whole" in printed.out
    assert all(
        f"{artifact} cannot be used: its sidecar {artifact.name}.json is missing" in printed.err for artifact in found
    )


def test_a_whole_project_verifies_from_anywhere(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("artifacts/onnx").mkdir(parents=True)
    Path("artifacts/onnx/model.onnx").write_bytes(b"of somebody else")
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(inside / "artifacts")])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    model = inside / PATHS.model
    kept = model.read_bytes()
    flip(model)
    with pytest.raises(SystemExit):
        main(["verify", str(inside / "artifacts/engines")])
    replace(model, kept)
    assert capsys.readouterr().err.count("it was made from another artifacts/onnx/model.onnx") == 4


def test_a_carried_engine_verifies_alone(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (inside / "artifacts/engines/int8").glob("engine.onnx*"):
        shutil.copy(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["verify", "engine.onnx"])
    assert ended.value.code == 0, capsys.readouterr().err
    os.truncate("engine.onnx", 1000)
    with pytest.raises(SystemExit) as ended:
        main(["verify", "engine.onnx"])
    assert ended.value.code == 2


HELPER = """
from torch import nn
import blocks
class Helped(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.a, self.fc = nn.Conv2d(1, 16, 3, stride=4), nn.Linear(16 * 49, classes)
    def forward(self, x):
        return self.fc(blocks.act(self.a(x)).flatten(1))
"""


def test_case_28_a_module_that_model_code_imports_is_refused_before_it_can_go_stale(project: Project) -> None:
    import torch

    (project.root / "blocks.py").write_text("import torch.nn.functional as F\ndef act(x): return F.relu(x)\n")
    (project.root / "helper_model.py").write_text(
        HELPER.replace("import blocks\n", "")
        .replace("blocks.act(", "torch.relu(")
        .replace("from torch", "import torch\nfrom torch")
    )
    weights = {
        "a.weight": torch.ones(16, 1, 3, 3),
        "a.bias": torch.ones(16),
        "fc.weight": torch.ones(10, 784),
        "fc.bias": torch.ones(10),
    }
    torch.save(weights, project.root / "helped.pt")
    (project.root / "conf/model/helped.yaml").write_text(
        "_target_: helper_model.Helped\narguments: {classes: 10}\ncode: helper_model.py\n"
        "weights: helped.pt\nweights_from: file\n"
        "inputs: {input: {shape: [batch, 1, 28, 28]}}\noutputs: [logits]\n"
    )
    project.configure("model=helped")
    run = project.repro("export")
    assert run.code == 0, run.output
    (project.root / "helper_model.py").write_text(HELPER)
    says = (
        "model code beside helper_model.py imports blocks.py, which DVC does not see, so a change of it would rerun"
        " nothing"
    )
    again = project.repro("export")
    assert again.code != 0
    assert f"error: export: {says}" in again.output
    assert not (project.root / PATHS.model).exists()
    check = project.call("python", "-m", "enginewright.cli", "configure", "--check")
    assert check.code != 0
    assert f"error: {says}" in check.output


def test_compare_says_that_figures_were_edited(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = inside / "artifacts/metrics/validate_accuracy.json"
    kept = path.read_text()
    metrics = json.loads(kept)
    metrics["int8"]["top1"] += 0.25
    for content, said_so in ((kept, False), (json.dumps(metrics), True)):
        path.write_text(content)
        with pytest.raises(SystemExit):
            main(["compare", "--rev", "none"])
        assert (
            "validate_accuracy.json is not what artifacts/accuracy/metrics.json holds: it was edited"
            in capsys.readouterr().out
        ) is said_so
    path.write_text(kept)
