"""What the three stages that measure engines refuse before they measure: engines that are not those of their folders,
or not of one model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enginewright import manifest
from enginewright.target import read_target
from stages.benchmark_sustained import benchmark_sustained
from stages.profile_layers import profile_layers
from stages.validate_accuracy import validate_accuracy
from support.project import PATHS

Run = Callable[[Callable[[], None]], tuple[int, str]]
READERS = [pytest.param(stage, id=stage.__name__) for stage in (validate_accuracy, profile_layers, benchmark_sustained)]


def engine(precision: str) -> Path:
    return PATHS.engine(precision, "engine.npy")


def swap_with_sidecars() -> None:
    (PATHS.engines / "fp32").rename("aside")
    (PATHS.engines / "int8").rename(PATHS.engines / "fp32")
    Path("aside").rename(PATHS.engines / "int8")


def swap_and_rename_in_the_sidecars() -> None:
    swap_with_sidecars()
    for here, there in (("fp32", "int8"), ("int8", "fp32")):
        sidecar = manifest.sidecar(engine(here))
        sidecar.write_text(sidecar.read_text().replace(f"engines/{there}/engine.npy", f"engines/{here}/engine.npy"))


def of_another_model() -> None:
    for precision, model in (("fp32", b"one"), ("int8", b"two")):
        PATHS.model.parent.mkdir(exist_ok=True)
        PATHS.model.write_bytes(model)
        manifest.seal(
            engine(precision), f"build_{precision}", [PATHS.model], read_target(PATHS.target), {"precision": precision}
        )
    PATHS.model.unlink()  # as on a target, to which the engines alone were carried


def flipped() -> None:
    path = engine("int8")
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        pytest.param(
            swap_with_sidecars,
            "engines/fp32/engine.npy cannot be used: its sidecar is that of artifacts/engines/int8/engine.npy",
            id="swapped",
        ),
        pytest.param(
            swap_and_rename_in_the_sidecars,
            "lies in the folder of fp32 and is the engine of int8; run `dvc repro build_fp32`",
            id="renamed",
        ),
        pytest.param(
            of_another_model,
            "were built from two versions of artifacts/onnx/model.onnx; run `dvc repro build_int8`",
            id="two models",
        ),
        pytest.param(flipped, "int8/engine.npy cannot be used: its bytes differ", id="flipped byte"),
        pytest.param(
            lambda: manifest.sidecar(engine("fp16")).unlink(),
            "engine.npy.json is missing, so it may be half-written",
            id="no sidecar",
        ),
        pytest.param(
            lambda: shutil.rmtree(PATHS.engines / "int8_mixed"),
            "int8_mixed/engine.npy cannot be used: it was not built yet; run `dvc repro build_int8_mixed`",
            id="no engine",
        ),
    ],
)
def test_engines_that_do_not_belong_together_are_not_measured(
    project: Callable[..., Path],
    weights: dict[str, Any],
    run: Run,
    reader: Callable[[], None],
    damage: Callable[[], object],
    text: str,
) -> None:
    project(weights)
    damage()
    code, printed = run(reader)
    assert code == 2, printed
    assert text in printed
    assert not PATHS.metrics.exists()


@pytest.mark.parametrize("reader", READERS)
def test_images_of_one_run_beside_labels_of_another_are_not_measured(
    project: Callable[..., Path], weights: dict[str, Any], run: Run, reader: Callable[[], None]
) -> None:
    project(weights)
    folder = PATHS.validation
    for name, seed in (("images.npy", 1), ("geometry.npy", 1), ("labels.csv", 0), ("classes.json", 0)):
        manifest.seal(folder / name, "prepare_data", [], settings={"seed": seed, "set": f"of seed {seed}"})
    code, printed = run(reader)
    assert code == 2, printed
    assert "labels.csv does not belong to artifacts/data/validation/images.npy (set, seed differ)" in printed
    assert not PATHS.metrics.exists()
