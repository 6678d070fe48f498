"""A few random edits of a small project leave nothing stale; `python -m benchmarks.edits` plays 150."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import edits
from benchmarks.edits import play
from enginewright import manifest
from support.project import PATHS

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("edits")]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_random_edits_leave_nothing_stale(tmp_path: Path) -> None:
    with np.errstate(all="ignore"):
        played = play(tmp_path, edits=8, seed=7, rebuilds=1, at_once=4)
    assert played.stale == []
    assert played.edits.total() == 8
    assert played.hashes > 400
    assert played.sidecars > 50
    assert played.rebuilt_files > 50


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_player_notices_what_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above could not fail."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"params.yaml": "seed: 1\n", "model.py": "one", "artifacts/onnx/model.onnx": "onnx"}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    manifest.seal(PATHS.model, "export", [Path("model.py")])
    entry = {"path": "model.py", "md5": hashlib.md5(b"one").hexdigest()}
    folder = {"path": "artifacts/onnx", "md5": edits._md5(Path("artifacts/onnx"))}
    lock = {"stages": {"export": {"deps": [entry], "outs": [folder], "params": {"params.yaml": {"seed": 1}}}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))

    def faults() -> list[str]:
        return [*edits._lock_faults(edits.Played()), *edits._sidecar_faults(edits.Played())]

    assert faults() == []
    Path("model.py").write_text("two")
    assert len(faults()) == 2  # the lock, and the sidecar of what was made from it
    Path("model.py").write_text("one")
    PATHS.model.write_text("ONNX")
    assert len(faults()) == 2
    PATHS.model.write_text("onnx")
    Path("params.yaml").write_text("seed: 2\n")
    assert faults() == ["export: dvc.lock has seed = 1, and params.yaml 2"]
