"""build_fp32, build_fp16, build_int8 and build_int8_mixed as scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import enginewright
from enginewright import manifest
from enginewright.calibration.mixture import FloatLayer, Mixture
from enginewright.config import Precision
from stages.build_fp16 import build_fp16
from stages.build_fp32 import build_fp32
from stages.build_int8 import build_int8
from stages.build_int8_mixed import build_int8_mixed
from stages.calibrate import calibrate
from support.checked_model import write_images, write_model, write_report, write_target
from support.project import PATHS

Run = Callable[[Callable[[], None]], tuple[int, str]]
STAGES = {
    Precision.fp32: build_fp32,
    Precision.fp16: build_fp16,
    Precision.int8: build_int8,
    Precision.int8_mixed: build_int8_mixed,
}
EACH = pytest.mark.parametrize("precision", list(Precision), ids=lambda precision: precision.name)


@pytest.fixture
def ready(configured: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    monkeypatch.setattr(sys, "argv", ["build"])
    params = configured / "params.yaml"
    params.write_text(params.read_text().replace("algorithm: entropy", "algorithm: minmax"))
    write_model()
    write_images()
    write_target()
    code, printed = run(calibrate)
    assert code == 0, printed
    with manifest.replacing(PATHS.mixed_layers) as temporary:
        temporary.write_text(Mixture((FloatLayer("Conv_3"),)).to_text())
    manifest.seal(PATHS.mixed_layers, "search_mixed", [PATHS.model])
    return configured


def engine_of(precision: Precision) -> Path:
    return PATHS.engine(precision.name, "engine.onnx")


@EACH
def test_the_engine_loads_answers_and_says_what_it_was_made_from(ready: Path, run: Run, precision: Precision) -> None:
    code, printed = run(STAGES[precision])
    assert code == 0, printed
    made = manifest.read(engine_of(precision))
    cache, layers = str(PATHS.calibration_cache), str(PATHS.mixed_layers)
    assert set(made.inputs) == {str(PATHS.model)} | {
        Precision.int8: {cache},
        Precision.int8_mixed: {cache, layers},
    }.get(precision, set())
    assert made.settings["precision"] == precision.name
    assert made.settings["axes"] == {"batch": {"min": 1, "opt": 32, "max": 128}}
    with enginewright.load(engine_of(precision)) as engine:
        assert engine.axes["batch"].max == 128
        assert engine.infer({"input": np.zeros((2, 1, 28, 28), np.float32)})["logits"].shape == (2, 5)
    metrics = json.loads((PATHS.metrics / f"build_{precision.name}.json").read_text())
    assert metrics["int8_share"] == {Precision.int8: 1.0, Precision.int8_mixed: 0.8}.get(precision, 0.0)
    assert sum(metrics["layers"].values()) == metrics["quantizable"] == 5
    asked = {Precision.int8: 5, Precision.int8_mixed: 4}.get(precision)  # the mixture leaves one layer in float
    assert metrics.get("int8", {}).get("layers") == ({"int8": asked, "float": 0, "unknown": 0} if asked else None)
    assert metrics["findings"] == made.settings["findings"] == []


@EACH
def test_a_second_build_is_byte_identical(ready: Path, run: Run, precision: Precision) -> None:
    run(STAGES[precision])
    first = {path.name: path.read_bytes() for path in engine_of(precision).parent.iterdir()}
    run(STAGES[precision])
    assert {path.name: path.read_bytes() for path in engine_of(precision).parent.iterdir()} == first


def test_calib_cache_is_only_read(ready: Path, run: Run) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in PATHS.calibration_cache.parent.iterdir()}
    run(build_int8)
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in PATHS.calibration_cache.parent.iterdir()
    } == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        pytest.param(
            lambda: write_model(seed=5),
            "calib.cache cannot be used: it was made from another artifacts/onnx/model.onnx",
            id="another model",
        ),
        pytest.param(
            lambda: flip(PATHS.calibration_cache),
            "calib.cache cannot be used: its bytes differ",
            id="flipped byte in the cache",
        ),
        pytest.param(
            lambda: flip(PATHS.model), "model.onnx cannot be used: its bytes differ", id="flipped byte in the model"
        ),
        pytest.param(PATHS.calibration_cache.unlink, "calib.cache cannot be used: it does not exist", id="no cache"),
        pytest.param(
            lambda: manifest.sidecar(PATHS.calibration_cache).unlink(), "may be half-written", id="no sidecar"
        ),
        pytest.param(
            lambda: manifest.seal(PATHS.calibration_cache, "calibrate", []),
            "does not say which model",
            id="a cache of unknown origin",
        ),
        pytest.param(lambda: write_report("fail"), "did not pass check_onnx", id="not passed"),
        pytest.param(PATHS.target.unlink, "run `dvc repro probe_target`", id="no target"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_engine(
    ready: Path, run: Run, damage: Callable[[], object], text: str
) -> None:
    damage()
    code, printed = run(build_int8)
    assert code == 2
    assert text in printed
    assert not engine_of(Precision.int8).parent.exists()


def test_a_target_of_another_machine_is_refused(ready: Path, run: Run) -> None:
    manifest.write_json(PATHS.target, {**json.loads(PATHS.target.read_text()), "device": "Another CPU"})
    code, printed = run(build_fp32)
    assert (code, "device was 'Another CPU'" in printed) == (2, True)


@EACH
def test_the_null_runtime_builds_too(ready: Path, run: Run, precision: Precision) -> None:
    write_target("null")
    code, printed = run(STAGES[precision])
    assert code == 0, printed
    with enginewright.load(PATHS.engine(precision.name, "engine.null")) as engine:
        assert [spec.name for spec in engine.interface.outputs] == ["logits"]


def test_a_bias_correction_goes_into_int8_and_its_hash_into_the_manifest(ready: Path, run: Run) -> None:
    def answers() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        assert run(build_int8)[0] == 0
        with enginewright.load(engine_of(Precision.int8)) as engine:
            return engine.infer({"input": np.ones((2, 1, 28, 28), np.float32)})["logits"]

    plain = answers()
    params = ready / "params.yaml"
    params.write_text(params.read_text().replace("bias_correction: false", "bias_correction: true"))
    assert run(calibrate)[0] == 0
    corrected = answers()
    assert np.abs(corrected - plain).max() > 0
    assert str(PATHS.bias_correction) in manifest.read(engine_of(Precision.int8)).inputs

    PATHS.bias_correction.write_text("{}")
    code, printed = run(build_int8)
    assert code == 2
    assert "bias_correction.json cannot be used: its bytes differ" in " ".join(printed.split())
