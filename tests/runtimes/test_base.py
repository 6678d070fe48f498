"""A runtime of one's own: what it defines works, and what it leaves out refuses in one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest

from enginewright import LoadOptions, load, manifest
from enginewright.config import Build, Calibration, Precision
from enginewright.errors import EngineInputError, RuntimeUnavailable
from enginewright.feeds import Feeds
from enginewright.interface import BATCH, AxisRange, Interface, TensorSpec, batches, up_to
from enginewright.runtimes import RUNTIMES, get_runtime
from enginewright.runtimes.base import BuildJob, Capability, Outputs, Runtime
from enginewright.runtimes.host import HostEngine
from enginewright.runtimes.null import RUNTIME as NULL
from enginewright.runtimes.onnxruntime import RUNTIME as ONNX_RUNTIME
from enginewright.target import TargetFingerprint
from support.networks import residual_network

FLOAT = np.dtype(np.float32)
TARGET = TargetFingerprint("Abacus", None, "doubling", "1")


class Doubling(HostEngine):
    """Gives twice what it is fed, at most three rows at once."""

    def __init__(self, path: Path, options: LoadOptions) -> None:
        shape = (BATCH, "length")
        interface = Interface((TensorSpec("x", FLOAT, shape),), (TensorSpec("y", FLOAT, shape),))
        super().__init__(path, interface, {**up_to(3), "length": AxisRange(2, 4, 8)}, depth=options.depth_or(2))
        self.computed: list[int] = []

    def compute(self, feeds: Feeds, rows: int) -> Outputs:
        self.computed.append(rows)
        return {"y": 2 * feeds["x"]}


class DoublingRuntime(Runtime):
    """It loads engines and does nothing else."""

    name, engine_file = "doubling", "engine.double"
    loaded: Optional[LoadOptions] = None

    def fingerprint(self) -> TargetFingerprint:
        return TARGET

    def load(self, engine: Path, options: Optional[LoadOptions] = None) -> Doubling:
        self.loaded = options
        return Doubling(engine, options or LoadOptions())


@pytest.fixture
def runtime() -> Iterator[DoublingRuntime]:
    with RUNTIMES.using("doubling", DoublingRuntime()) as made:
        assert isinstance(made, DoublingRuntime)
        yield made


@pytest.fixture
def engine(runtime: DoublingRuntime, tmp_path: Path) -> Path:
    path = tmp_path / runtime.engine_file
    path.write_bytes(b"double")
    manifest.seal(path, "build", [], TARGET)
    return path


def test_an_engine_of_it_is_found_by_its_sidecar_and_given_the_options(runtime: DoublingRuntime, engine: Path) -> None:
    options = LoadOptions(depth=5)
    with load(engine, options) as loaded:
        assert runtime.loaded is options
        fed = np.arange(14, dtype=np.float32).reshape(7, 2)
        np.testing.assert_array_equal(loaded.infer({"x": fed})["y"], 2 * fed)
        assert loaded.computed == [3, 3, 1]
        assert [len(answer["y"]) for answer in loaded.infer_many([{"x": fed}, {"x": fed[:2]}])] == [7, 2]
        assert loaded.device_seconds({"x": fed[:1]}, 4).shape == (4,)
        assert (loaded.phase_seconds({"x": fed}, 1), loaded.layer_times({"x": fed}, 1)) == ({}, [])
        assert loaded.pinned_inputs(5)["x"].shape == (5, 8)  # the largest
        assert loaded.pinned_inputs(5, {"length": 3})["x"].shape == (5, 3)


def test_its_engine_refuses_what_every_engine_refuses(runtime: DoublingRuntime, engine: Path) -> None:
    loaded = runtime.load(engine)
    with pytest.raises(EngineInputError, match="the axis 'length' of the input 'x' is 9, and the engine takes 2 to 8"):
        loaded.infer({"x": np.zeros((1, 9), np.float32)})
    assert loaded.computed == []
    loaded.close()
    loaded.close()
    with pytest.raises(EngineInputError, match=r"engine\.double is closed"):
        loaded.infer({"x": np.zeros((1, 2), np.float32)})


@pytest.mark.parametrize("capability", [Capability.build, Capability.calibrate], ids=lambda each: each.name)
def test_what_it_leaves_out_is_refused_in_one_sentence(runtime: DoublingRuntime, capability: Capability) -> None:
    sentence = f"the runtime doubling cannot {capability.value}"
    assert (runtime.why_not(capability), runtime.why_not(Capability.run)) == (sentence, None)
    with pytest.raises(RuntimeUnavailable, match=rf"nothing here can {capability.value} \(doubling: {sentence}\)"):
        get_runtime("doubling", capability)
    asked: dict[Capability, Callable[[], object]] = {
        Capability.build: lambda: runtime.build(Path(), BuildJob(Precision.fp32, Build())),
        Capability.calibrate: lambda: runtime.calibrate(Path(), [], Calibration()),
    }
    with pytest.raises(RuntimeUnavailable, match=sentence):
        asked[capability]()


def test_the_name_is_gone_after_the_block(runtime: DoublingRuntime) -> None:
    del runtime
    assert "doubling" in RUNTIMES
    with RUNTIMES.using("null", DoublingRuntime()):
        assert RUNTIMES.get("null") is not NULL
    assert RUNTIMES.get("null") is NULL


@pytest.mark.parametrize("runtime_of_ours", [NULL, ONNX_RUNTIME], ids=lambda each: each.name)
def test_an_application_imports_neither_the_pipeline_nor_onnx(runtime_of_ours: Any, tmp_path: Path) -> None:
    model, engine = tmp_path / "model.onnx", tmp_path / runtime_of_ours.engine_file
    onnx.save(residual_network(), model)
    built = runtime_of_ours.build(model, BuildJob(Precision.fp32, Build(), axes=batches(1, 2, 4)))
    engine.write_bytes(built.engine_bytes)
    manifest.seal(engine, "build", [model], runtime_of_ours.fingerprint(), built.settings)
    code = (
        "import sys, numpy, enginewright\n"
        f"with enginewright.load({str(engine)!r}) as engine:\n"
        "    engine.infer({'input': numpy.zeros((2, 3, 12, 12), numpy.float32)})\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    heavy = {"omegaconf", "yaml", "onnx", "pandas", "scipy", "rich", "hydra", "dvc", "torch"}
    assert not heavy & set(loaded)
