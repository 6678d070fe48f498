"""Sidecars: a whole artifact is told from a half-written, changed or foreign one, whatever happened in between."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from enginewright import load, manifest
from enginewright.config import ChannelOrder, Preprocessing
from enginewright.errors import EnginewrightError, StaleArtifact
from enginewright.interface import Interface, TensorSpec
from enginewright.manifest import FileRecord, Manifest, Usage
from enginewright.target import TargetFingerprint
from support.json_schema import faults
from support.project import ROOT

CPU = TargetFingerprint("EPYC", None, "onnxruntime", "1.32.0", instruction_sets=("avx2",))


@pytest.fixture
def engine(here: Path) -> Path:
    """An engine made from a model and a cache, sealed."""
    (here / "model.onnx").write_bytes(b"model" * 1000)
    (here / "calib.cache").write_bytes(b"TRT-8600-EntropyCalibration2\n")
    path = Path("engines/int8/engine.onnx")
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(range(256)) * 64)
    manifest.seal(path, "build_int8", [Path("model.onnx"), Path("calib.cache")], CPU, {"precision": "int8"})
    return path


def test_a_sealed_artifact_verifies_and_says_what_it_is(engine: Path) -> None:
    found = manifest.verify(engine, CPU)
    assert found.made_by == "build_int8"
    assert found.target == CPU
    assert dict(found.settings) == {"precision": "int8"}
    assert list(found.inputs) == ["calib.cache", "model.onnx"]


def flip_a_byte(engine: Path) -> None:
    content = bytearray(engine.read_bytes())
    content[5000] ^= 1
    engine.write_bytes(content)


def cut_the_sidecar(engine: Path) -> None:
    sidecar = manifest.sidecar(engine)
    sidecar.write_bytes(sidecar.read_bytes()[:100])


def strange_sidecar(engine: Path) -> None:
    manifest.sidecar(engine).write_text(
        '{"format": 1, "sha256": "0", "made_by": "x", "inputs": {}, "target": {"colour": "red"}, "settings": {}}'
    )


def strange_types(engine: Path) -> None:
    manifest.sidecar(engine).write_text(
        '{"format": 1, "sha256": 1, "made_by": "x", "inputs": [], "target": null, "settings": null, "path": 3}'
    )


def says(**changes: object) -> object:
    """Changes what the sidecar says."""

    def spoil(engine: Path) -> None:
        sidecar = manifest.sidecar(engine)
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **changes}))

    return spoil


def lacks(name: str) -> object:
    """Takes a key out of the sidecar."""

    def spoil(engine: Path) -> None:
        sidecar = manifest.sidecar(engine)
        content = json.loads(sidecar.read_text())
        del content[name]
        sidecar.write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        *(
            pytest.param(lacks(name), "engine.onnx.json is not a manifest", id=f"without {name}")
            for name in ("sha256", "made_by", "inputs", "files", "target", "interface", "classes", "settings", "path")
        ),
        pytest.param(
            says(files={"../model.onnx": {"sha256": "0", "size": 1, "role": "table"}}),
            "engine.onnx.json is not a manifest",
            id="a file elsewhere",
        ),
        pytest.param(
            says(files={"build.log": {"sha256": 3, "size": 1, "role": "log"}}),
            "engine.onnx.json is not a manifest",
            id="a number for a hash",
        ),
        pytest.param(says(interface={"inputs": 3}), "engine.onnx.json is not a manifest", id="no interface"),
        pytest.param(says(preprocessing="crop"), "engine.onnx.json is not a manifest", id="a word for preprocessing"),
        pytest.param(says(colour="red"), "engine.onnx.json is not a manifest", id="an unknown key"),
        pytest.param(
            lacks("format"),
            "engine.onnx.json is of an earlier version of Enginewright, which wrote no format; run `dvc repro -f"
            " build_int8` to make engine.onnx again",
            id="no format",
        ),
        pytest.param(
            says(format=2),
            "engine.onnx.json has format 2, and this version of Enginewright reads format 1; update Enginewright, or"
            " run `dvc repro -f build_int8` to make engine.onnx again",
            id="a format of tomorrow",
        ),
        pytest.param(says(format="1"), "engine.onnx.json is not a manifest", id="a word for a format"),
        pytest.param(says(format=True), "engine.onnx.json is not a manifest", id="a truth for a format"),
        pytest.param(says(classes="cat"), "engine.onnx.json is not a manifest", id="a word for the classes"),
        *(
            pytest.param(
                says(files={name: {"sha256": "0", "size": 1, "role": "table"}}),
                "engine.onnx.json is not a manifest",
                id=f"a file called '{name}'",
            )
            for name in ("", ".", "..")
        ),
        pytest.param(
            says(inputs={"model.onnx": 3}), "engine.onnx.json is not a manifest", id="a number for the hash of an input"
        ),
        pytest.param(flip_a_byte, "its bytes differ from the sha256 in engine.onnx.json", id="flipped-byte"),
        pytest.param(lambda engine: engine.write_bytes(engine.read_bytes()[:-1]), "its bytes differ", id="truncated"),
        pytest.param(lambda engine: engine.write_bytes(b""), "its bytes differ", id="empty"),
        pytest.param(lambda engine: engine.unlink(), "it does not exist, only its sidecar", id="missing"),
        pytest.param(
            lambda engine: manifest.sidecar(engine).unlink(),
            "its sidecar engine.onnx.json is missing, so it may be half-written",
            id="no-sidecar",
        ),
        pytest.param(cut_the_sidecar, "engine.onnx.json is not a manifest", id="sidecar-cut-short"),
        pytest.param(strange_sidecar, "engine.onnx.json is not a manifest", id="another-json"),
        pytest.param(strange_types, "engine.onnx.json is not a manifest", id="other-types"),
        pytest.param(
            lambda _: Path("model.onnx").write_bytes(b"other"),
            "it was made from another model.onnx",
            id="another-model",
        ),
        pytest.param(
            lambda _: Path("calib.cache").write_bytes(b"other"),
            "it was made from another calib.cache",
            id="another-cache",
        ),
    ],
)
def test_a_spoiled_artifact_is_refused_in_one_sentence(engine: Path, spoil: object, text: str) -> None:
    assert callable(spoil)
    spoil(engine)
    with pytest.raises(StaleArtifact, match="dvc repro") as fault:
        manifest.verify(engine, CPU)
    assert text in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_runtime_that_this_version_does_not_know_is_one_sentence(engine: Path) -> None:
    spoil = says(target={**CPU.to_dict(), "runtime": "of_tomorrow"})
    assert callable(spoil)
    spoil(engine)
    with pytest.raises(StaleArtifact, match="names the runtime of_tomorrow, which is not installed here"):
        load(engine)


def test_an_input_that_is_not_here_is_no_fault(engine: Path) -> None:
    Path("model.onnx").unlink()  # an engine that was carried to a target comes without its model
    assert manifest.verify(engine, CPU)


def test_an_engine_for_another_machine_is_refused_with_both_values(engine: Path) -> None:
    with pytest.raises(StaleArtifact, match=r"runtime_version was '1\.32\.0' and is '1\.20\.0'.*dvc repro build_int8"):
        manifest.verify(engine, replace(CPU, runtime_version="1.20.0"))
    assert manifest.verify(engine)  # without a target, only bytes and inputs count


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("artifacts/engines/int8/engine.trt", "it was not built yet; run `dvc repro build_int8`"),
        ("artifacts/calibration/calib.cache", "it was not built yet; run `dvc repro calibrate`"),
        ("artifacts/data/validation/images.npy", "it was not built yet; run `dvc repro prepare_data`"),
        ("engine.trt", "it does not exist; check the path, or run `dvc repro` in its project"),
    ],
)
def test_a_fresh_clone_is_told_what_to_run(here: Path, path: str, sentence: str) -> None:
    with pytest.raises(StaleArtifact) as fault:
        manifest.verify(Path(path))
    assert str(fault.value) == f"{path} cannot be used: {sentence}"


def test_equal_content_seals_to_equal_bytes_whenever_it_is_sealed(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifest.sidecar(engine).read_bytes()
    for file in (engine, Path("model.onnx"), Path("calib.cache")):
        os.utime(file, (1e9, 1e9))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    manifest.seal(engine, "build_int8", [Path("model.onnx"), Path("calib.cache")], CPU, {"precision": "int8"})
    assert manifest.sidecar(engine).read_bytes() == before


def test_metrics_hold_no_nan(here: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest.write_json(here / "metrics.json", {"top1": float("nan")})
    assert list(here.iterdir()) == []


def test_a_failure_leaves_the_old_bytes_and_nothing_beside_them(here: Path) -> None:
    (here / "model.onnx").write_bytes(b"old")

    def fail_halfway() -> None:
        with manifest.replacing(here / "model.onnx") as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {"model.onnx": b"old"}


def test_a_replaced_file_is_new_to_hard_links(here: Path) -> None:
    """DVC's cache may share the inode: writing in place would change the cache."""
    (here / "model.onnx").write_bytes(b"old")
    os.link(here / "model.onnx", here / "cache")
    with manifest.replacing(here / "model.onnx") as temporary:
        temporary.write_bytes(b"new")
    assert (here / "cache").read_bytes() == b"old"
    assert (here / "model.onnx").stat().st_mode & 0o777 == 0o644


def test_a_full_disk_is_one_sentence_and_leaves_nothing(here: Path) -> None:
    full = here / "full"
    full.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(full)], capture_output=True, check=False
        ).returncode
        == 0
    )

    def write() -> None:
        with manifest.replacing(full / "engine.trt") as path:
            # Without the right to mount, /dev/full answers every write with the same error.
            (path if mounted else Path("/dev/full")).write_bytes(bytes(1 << 20))

    try:
        with pytest.raises(EnginewrightError, match=r"no space left on the disk of .*/full while writing engine\.trt"):
            write()
        assert list(full.iterdir()) == []
    finally:
        if mounted:
            subprocess.run(["umount", str(full)], check=True)


def test_another_fault_of_the_disk_keeps_its_traceback(here: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    program = (
        "from pathlib import Path\nfrom enginewright.manifest import replacing\nwith replacing(Path('a.bin')) as path:"
        " path.write_bytes(bytes(5000))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"[Errno {errno.EFBIG}]" in answer.stderr
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("moment", ["while writing", "before the sidecar"])
def test_killed_in_the_middle_nothing_half_written_is_taken_for_whole(here: Path, moment: str) -> None:
    program = """
import sys, time
from pathlib import Path
from enginewright import load, manifest
engine = Path("engine.trt")
with manifest.replacing(engine) as temporary:
    temporary.write_bytes(b"half")
    if sys.argv[1] == "while writing":
        print("now", flush=True); time.sleep(3600)
print("now", flush=True); time.sleep(3600)
manifest.seal(engine, "build_fp32", [])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program, moment], cwd=here, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "now\n"
        process.kill()
    assert (here / "engine.trt").exists() == (moment == "before the sidecar")
    with pytest.raises(StaleArtifact, match="cannot be used"):
        manifest.verify(here / "engine.trt")


def test_an_artifact_that_lies_where_another_was_made_is_refused(engine: Path) -> None:
    other = Path("engines/fp32/engine.onnx")
    other.parent.mkdir()
    other.write_bytes(engine.read_bytes())
    manifest.sidecar(other).write_bytes(manifest.sidecar(engine).read_bytes())
    with pytest.raises(
        StaleArtifact,
        match=(
            r"engines/fp32/engine\.onnx cannot be used: its sidecar is that of engines/int8/engine\.onnx; run `dvc"
            r" repro"
        ),
    ):
        manifest.verify(other)
    assert manifest.verify_alone(other, CPU).made_by == "build_int8"


def test_inputs_are_those_of_the_artifacts_own_project(
    engine: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "model.onnx").write_bytes(b"of somebody else")
    path = engine.absolute()
    monkeypatch.chdir(elsewhere)
    assert manifest.verify(path)
    path.parents[2].joinpath("model.onnx").write_bytes(b"other")
    with pytest.raises(StaleArtifact, match=r"it was made from another model\.onnx"):
        manifest.verify(path)


def test_a_file_that_belongs_to_an_artifact_is_verified_with_it(engine: Path) -> None:
    beside = engine.with_name("layers.json")
    beside.write_text("[]")
    manifest.seal(engine, "build_int8", [], CPU, files={"layers.json": "layers"})
    assert manifest.verify(engine).files == {"layers.json": FileRecord(manifest.sha256(beside), 2, "layers")}
    beside.write_text("[1]")
    with pytest.raises(StaleArtifact, match=r"layers\.json beside it was changed"):
        manifest.verify_alone(engine)
    with pytest.raises(StaleArtifact, match=r"layers\.json beside it was changed"):
        manifest.verify(engine)
    beside.unlink()
    assert manifest.verify_alone(engine)  # carried without it
    with pytest.raises(StaleArtifact, match=r"layers\.json is missing beside it"):
        manifest.verify(engine)


USAGE = Usage(
    Interface(
        (TensorSpec("images", np.dtype(np.int8), ("batch", 3, 32, 32), scale=0.5),),
        (TensorSpec("logits", np.dtype(np.float32), ("batch", 2)),),
    ),
    Preprocessing(size=[32, 32], channels=ChannelOrder.rgb, mean=[0.5] * 3, std=[0.5] * 3).to_dict(),
    ("cat", "dog"),
)
SCHEMA = json.loads((ROOT / "enginewright/schemas/manifest-1.json").read_text())


def test_what_an_application_needs_travels_with_the_engine(engine: Path, tmp_path: Path) -> None:
    manifest.seal(engine, "build_int8", [], CPU, usage=USAGE)
    carried = tmp_path / "elsewhere" / "engine.onnx"
    carried.parent.mkdir()
    for path in (engine, manifest.sidecar(engine)):
        carried.with_name(path.name).write_bytes(path.read_bytes())
    assert manifest.verify_alone(carried, CPU).usage == USAGE


def test_a_manifest_goes_to_json_and_comes_back(engine: Path) -> None:
    made = manifest.seal(engine, "build_int8", [Path("model.onnx")], CPU, {"precision": "int8"}, usage=USAGE)
    assert Manifest.from_dict(json.loads(json.dumps(made.to_dict()))) == made == manifest.read(engine)


@pytest.mark.parametrize(
    ("usage", "target"), [pytest.param(USAGE, CPU, id="an engine"), pytest.param(None, None, id="a table")]
)
def test_the_published_schema_describes_what_is_written(
    engine: Path, usage: Optional[Usage], target: Optional[TargetFingerprint]
) -> None:
    engine.with_name("layers.json").write_text("[]")
    manifest.seal(engine, "build_int8", [Path("model.onnx")], target, files={"layers.json": "layers"}, usage=usage)
    content = json.loads(manifest.sidecar(engine).read_text())
    assert list(faults(content, SCHEMA, SCHEMA)) == []
    assert set(content) == set(SCHEMA["required"]) == set(SCHEMA["properties"])
    described = SCHEMA["$defs"]["preprocessing"]
    assert list(Preprocessing().to_dict()) == described["required"] == list(described["properties"])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"format": 2}, ".format: 2 is not 1"),
        ({"sha256": "0"}, ".sha256: '0' does not match ^[0-9a-f]{64}$"),
        ({"colour": "red"}, ".colour: not allowed"),
        ({"files": {"a/b": {}}}, ".files.a/b (its name): 'a/b' does not match ^[^/]+$"),
        ({"interface": {"inputs": []}}, ".interface: {'inputs': []} is not one of 2 forms"),
        ({"preprocessing": {"recipe": "crop"}}, ".preprocessing: {'recipe': 'crop'} is not one of 2 forms"),
        ({"classes": [1]}, ".classes[0]: 1 is not string"),
    ],
)
def test_the_published_schema_refuses_what_is_not_a_manifest(
    engine: Path, changes: dict[str, object], fault: str
) -> None:
    content = json.loads(manifest.sidecar(engine).read_text())
    assert fault in list(faults({**content, **changes}, SCHEMA, SCHEMA))
