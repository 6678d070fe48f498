from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from enginewright import load, manifest
from enginewright.config import Build, Calibration, Precision
from enginewright.errors import EngineInputError, RuntimeUnavailable
from enginewright.interface import batches
from enginewright.runtimes import get_runtime
from enginewright.runtimes.base import BuildJob, Capability
from enginewright.runtimes.null import RUNTIME
from support.networks import images, residual_network

SETTINGS = Build()
AXES = batches(1, 2, 4)


@pytest.fixture
def engine(here: Path) -> Path:
    model = here / "model.onnx"
    onnx.save(residual_network(), model)
    built = RUNTIME.build(model, BuildJob(Precision.int8, SETTINGS, None, axes=AXES))
    path = here / RUNTIME.engine_file
    path.write_bytes(built.engine_bytes)
    manifest.seal(path, "build", [model], RUNTIME.fingerprint(), built.settings)
    return path


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_it_answers_zeros_of_the_models_shape(engine: Path, batch: int) -> None:
    with load(engine) as loaded:
        answers = loaded.infer({"input": images(batch)})
        assert answers["logits"].shape == (batch, 5)
        assert not answers["logits"].any()
        assert loaded.device_seconds({"input": images(1)}, 5).shape == (5,)


def test_it_checks_what_it_is_fed_as_any_other(engine: Path) -> None:
    with load(engine) as loaded, pytest.raises(EngineInputError, match="must be float32 and is float64"):
        loaded.infer({"input": images().astype(np.float64)})


def test_it_cannot_calibrate(here: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"computes nothing.*calibration\.runtime=onnxruntime"):
        get_runtime("null", Capability.calibrate)
    with pytest.raises(RuntimeUnavailable, match="computes nothing"):
        RUNTIME.calibrate(here, [], Calibration())
