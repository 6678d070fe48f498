"""Only the report of check_onnx on this very model lets it through, and an engine loads wherever it lies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import enginewright
from enginewright import manifest
from enginewright.config import Build, Precision
from enginewright.errors import ModelError, StaleArtifact
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.checked import require_checked
from enginewright.runtimes.null import RUNTIME
from support.checked_model import write_model, write_report
from support.project import PATHS

REPORT = PATHS.check_report


def of_another_model() -> None:
    """The report of a run on another model, whole with its sidecar, as `dvc checkout` of another revision or a copy
    leaves it.
    """
    report = {path: path.read_bytes() for path in (REPORT, manifest.sidecar(REPORT))}
    write_model(seed=1)
    for path, content in report.items():
        path.write_bytes(content)


def forged() -> None:
    write_report("fail")
    REPORT.write_text(json.dumps({"verdict": "pass"}))


def on_nothing() -> None:
    manifest.seal(REPORT, "check_onnx", [])


def no_report() -> None:
    REPORT.write_text("[]")
    manifest.seal(REPORT, "check_onnx", [PATHS.model])


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        pytest.param(
            of_another_model,
            "report.json cannot be used: it was made from another artifacts/onnx/model.onnx; run `dvc repro"
            " check_onnx`",
            id="other",
        ),
        pytest.param(forged, "report.json cannot be used: its bytes differ from the sha256", id="forged"),
        pytest.param(
            lambda: manifest.sidecar(REPORT).unlink(), "its sidecar report.json.json is missing", id="no sidecar"
        ),
        pytest.param(on_nothing, "is not the report on artifacts/onnx/model.onnx", id="a report on nothing"),
        pytest.param(no_report, "is missing or no report", id="no report"),
        pytest.param(REPORT.unlink, "does not exist, only its sidecar", id="missing"),
    ],
)
def test_a_report_that_is_not_on_this_model_lets_nothing_through(
    here: Path, damage: Callable[[], object], text: str
) -> None:
    write_model()
    require_checked(PATHS)
    damage()
    with pytest.raises(StaleArtifact) as fault:
        require_checked(PATHS)
    assert text in str(fault.value)


def test_a_failed_check_lets_nothing_through(here: Path) -> None:
    write_model(verdict="fail")
    with pytest.raises(ModelError, match="did not pass check_onnx"):
        require_checked(PATHS)


@pytest.fixture
def engine(here: Path) -> Path:
    write_model()
    path = PATHS.engine("fp32", "engine.null")
    path.parent.mkdir(parents=True)
    built = RUNTIME.build(PATHS.model, BuildJob(Precision.fp32, Build(), None))
    path.write_bytes(built.engine_bytes)
    manifest.seal(path, "build_fp32", [PATHS.model], RUNTIME.fingerprint(), built.settings)
    return path


def loads(path: Path) -> bool:
    with enginewright.load(path) as loaded:
        return bool(loaded.infer({"input": np.zeros((1, 1, 28, 28), np.float32)})["logits"].shape == (1, 5))


def test_an_engine_loads_whatever_model_lies_in_the_current_folder(
    engine: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = engine.absolute()
    monkeypatch.chdir(tmp_path_factory.mktemp("application"))
    PATHS.model.parent.mkdir(parents=True)
    PATHS.model.write_bytes(b"another model")
    assert loads(path)


def test_an_engine_loads_without_its_project_and_after_it_moved_on(engine: Path) -> None:
    Path("deployed").mkdir()
    for path in (engine, manifest.sidecar(engine)):
        shutil.copy(path, Path("deployed") / path.name)
    PATHS.model.write_bytes(b"the next model")
    assert loads(Path("deployed/engine.null"))
    assert loads(engine)
    with pytest.raises(StaleArtifact, match=r"it was made from another artifacts/onnx/model\.onnx"):
        manifest.verify(engine)


def test_the_engine_of_one_precision_in_the_folder_of_another_is_not_loaded(engine: Path) -> None:
    other = PATHS.engine("int8", "engine.null")
    other.parent.mkdir()
    for path in (engine, manifest.sidecar(engine)):
        shutil.copy(path, other.parent / path.name)
    with pytest.raises(
        StaleArtifact, match="lies in the folder of int8 and is the engine of fp32; run `dvc repro build_int8`"
    ):
        enginewright.load(other)
