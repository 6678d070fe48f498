"""The engine runtime on stand-ins for TensorRT and CUDA: order of copies and launches, splits, graphs by shape,
refusals, memory given back.

On a machine with TensorRT and a GPU, `benchmarks/gpu/smoke.py` runs the same on the real thing; the last test here says
what is missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright import manifest
from enginewright.errors import EngineInputError, RuntimeUnavailable, StaleArtifact
from enginewright.runtimes.base import Capability, LoadOptions
from enginewright.runtimes.tensorrt import RUNTIME, memory
from enginewright.runtimes.tensorrt.engine import TensorRTEngine, load_engine
from enginewright.runtimes.tensorrt.interop import DeviceArray
from enginewright.target import TargetFingerprint
from support import cuda_stand_in
from support.cuda_stand_in import Gpu
from support.tensorrt_stand_in import runtime as tensorrt_runtime
from support.waiting import HANG_SECONDS

HERE = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0", "13.0", "580.95.05")
MAX = 4
RANDOM = np.random.default_rng(0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return cuda_stand_in.install(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the ONNX")
    return path


@pytest.fixture
def plan(tmp_path: Path, model: Path) -> Path:
    return sealed(tmp_path / "engine.trt", model)


def sealed(path: Path, *inputs: Path, **made_of: Any) -> Path:
    path.write_bytes(tensorrt_runtime.plan(maximum=MAX, **made_of))
    manifest.seal(path, "build_fp32", inputs, HERE)
    return path


def load(path: Path, **options: Any) -> TensorRTEngine:
    return load_engine(tensorrt_runtime, path, HERE, LoadOptions(**options))  # type: ignore[arg-type,unused-ignore]


def images(rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RANDOM.standard_normal((rows, 3, 4)).astype(np.float32)


def check(x: np.ndarray[Any, Any], got: dict[str, Any]) -> None:
    assert set(got) == {"y", "s"}
    np.testing.assert_allclose(got["y"], 2 * x, rtol=1e-6)
    np.testing.assert_allclose(got["s"], x.reshape(len(x), -1).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, MAX, MAX + 1, 3 * MAX + 2], ids=lambda rows: f"{rows} rows")
def test_infer_returns_every_output_for_any_batch(gpu: Gpu, plan: Path, rows: int) -> None:
    with load(plan) as engine:
        x = images(rows)
        check(x, engine.infer({"x": x}))
        assert engine.axes["batch"].max == MAX


@pytest.mark.parametrize(
    "options", [{"depth": 1}, {"depth": 2}, {"depth": 5}, {"depth": 4, "contexts": 2}, {"graphs": False}], ids=str
)
def test_many_batches_overlapped_keep_order_and_values(gpu: Gpu, plan: Path, options: dict[str, Any]) -> None:
    sizes = [MAX, 1, MAX, 11, 2, MAX, MAX, 3, 1]
    with load(plan, **options) as engine:
        batches = [images(size) for size in sizes]
        outputs = list(engine.infer_many({"x": batch} for batch in batches))
    for batch, output in zip(batches, outputs, strict=True):
        check(batch, output)


def test_a_batch_is_submitted_before_the_one_before_it_is_collected(gpu: Gpu, plan: Path) -> None:
    drawn: list[int] = []

    def source() -> Iterator[dict[str, Any]]:
        for index in range(6):
            drawn.append(index)
            yield {"x": images(MAX)}

    with load(plan, depth=3) as engine:
        outputs = engine.infer_many(source())
        next(outputs)
        assert drawn == [0, 1, 2, 3]  # three under way, and the fourth waiting for the first one's buffers
        outputs.close()  # type: ignore[attr-defined]
        check(batch := images(2), engine.infer({"x": batch}))


def test_a_second_pipeline_beside_the_first(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        ours, theirs = [images(1) for _ in range(9)], [images(2) for _ in range(9)]
        both = zip(engine.infer_many({"x": x} for x in ours), engine.infer_many({"x": x} for x in theirs), strict=True)
        for one, other, outputs in zip(ours, theirs, both, strict=True):
            check(one, outputs[0])
            check(other, outputs[1])


def test_pinned_inputs_are_read_where_they_lie(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        ring = [engine.pinned_inputs(MAX) for _ in range(4)]
        for feeds in ring:
            feeds["x"][...] = images(MAX)
        assert memory.is_pinned(ring[0]["x"])
        assert not memory.is_pinned(images(1))
        for feeds, output in zip(ring, engine.infer_many(ring), strict=True):
            check(feeds["x"], output)


def test_cuda_arrays_are_read_in_place_and_outputs_can_stay_on_the_gpu(gpu: Gpu, plan: Path) -> None:
    class Foreign:
        def __init__(self, address: int, stream: int) -> None:
            self.__cuda_array_interface__ = {
                "shape": (2, 3, 4),
                "typestr": "<f4",
                "data": (address, False),
                "version": 3,
                "strides": None,
                "stream": stream,
            }

    with load(plan) as engine:
        x, theirs = images(2), memory.DeviceBuffer(96)
        theirs.copy_from_host(x)
        check(x, engine.infer({"x": Foreign(theirs.address, stream=1)}))
        engine.infer({"x": Foreign(theirs.address, stream=4096)})
        assert gpu.log.count("waited for stream 4096") == 1
        for output in engine.infer_many([{"x": Foreign(theirs.address, 1)}] * 3, on_device=True):
            back = np.empty(output["y"].shape, np.float32)
            memory.driver().memcpy_dtoh(back, output["y"].__cuda_array_interface__["data"][0])
            np.testing.assert_allclose(back, 2 * x)
        theirs.free()


def test_a_large_cuda_array_is_split_where_it_lies(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        x = images(2 * MAX + 1)
        theirs = memory.DeviceBuffer(x.nbytes)
        theirs.copy_from_host(x)
        check(x, engine.infer({"x": DeviceArray(theirs.address, x.shape, x.dtype)}))
        theirs.free()


def test_each_shape_gets_one_graph_and_is_launched_through_it(gpu: Gpu, plan: Path) -> None:
    with load(plan, depth=1) as engine:
        for rows in (1, MAX, 1, 2, MAX, 1):
            x = images(rows)
            check(x, engine.infer({"x": x}))
        assert engine.state()["graphs"] == 3
        assert engine.state()["why_no_graph"] is None
        assert gpu.log.count("launch") == 6
    assert gpu.log.count("destroy") == 3


def test_memory_that_comes_once_is_not_captured(gpu: Gpu, plan: Path) -> None:
    with load(plan, depth=1) as engine:
        x, theirs = images(1), memory.DeviceBuffer(48)
        theirs.copy_from_host(x)
        for expected in (0, 1, 1):
            check(x, engine.infer({"x": DeviceArray(theirs.address, x.shape, x.dtype)}))
            assert engine.state()["graphs"] == expected
        theirs.free()


@pytest.mark.parametrize("why", ["capture", "profile sharing"])
def test_without_graphs_inference_goes_on_and_says_why(monkeypatch: pytest.MonkeyPatch, plan: Path, why: str) -> None:
    cuda_stand_in.install(monkeypatch, refuse_capture=why == "capture")
    monkeypatch.setattr(tensorrt_runtime, "profile_sharing", why != "profile sharing")
    with load(plan) as engine:
        batches = [images(rows) for rows in (1, 9, 2, MAX)]
        for batch, output in zip(batches, engine.infer_many({"x": batch} for batch in batches), strict=True):
            check(batch, output)
        reason = engine.state()["why_no_graph"]
    assert ("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" if why == "capture" else "one context only") in reason


def test_two_contexts_of_one_profile_need_profile_sharing(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, plan: Path
) -> None:
    monkeypatch.setattr(tensorrt_runtime, "profile_sharing", False)
    with pytest.raises(RuntimeUnavailable, match="allows no further context"):
        load(plan, contexts=2)
    assert memory_is_back(gpu)


@pytest.mark.parametrize(("kind", "dtype"), [("HALF", np.float16), ("INT8", np.int8)], ids=["FP16", "INT8"])
def test_half_and_int8_inputs_and_outputs(gpu: Gpu, tmp_path: Path, kind: str, dtype: type[np.generic]) -> None:
    with load(sealed(tmp_path / "engine.trt", dtype=kind)) as engine:
        x = RANDOM.integers(-9, 9, (5, 3, 4)).astype(dtype)
        got = engine.infer({"x": x})
    assert got["y"].dtype == dtype
    np.testing.assert_array_equal(got["y"], 2 * x)


def test_a_batch_below_the_profile_is_filled_up_and_cut_off(gpu: Gpu, tmp_path: Path) -> None:
    with load(sealed(tmp_path / "engine.trt", minimum=3)) as engine:
        for rows in (1, 2, MAX + 1):
            x = images(rows)
            check(x, engine.infer({"x": x}))


BAD_FEEDS = {
    "unknown name": ({"z": images(1)}, "no input 'z'"),
    "missing": ({}, "the input 'x' .* is missing"),
    "dtype": ({"x": images(1).astype(np.float64)}, "must be float32 and is float64"),
    "rank": ({"x": images(1)[0]}, "must have shape"),
    "shape": ({"x": images(1)[:, :2]}, "must have shape"),
    "empty": ({"x": images(0)}, "the batch is empty"),
    "list": ({"x": [[1.0]]}, "is a list; feed a NumPy array"),
    "strided": ({"x": DeviceArray(64, (1, 3, 4), np.dtype(np.float64))}, "must be float32"),
}


@pytest.mark.parametrize(("feeds", "text"), BAD_FEEDS.values(), ids=BAD_FEEDS)
def test_wrong_feeds_are_refused_in_one_sentence(gpu: Gpu, plan: Path, feeds: dict[str, Any], text: str) -> None:
    with load(plan) as engine, pytest.raises(EngineInputError, match=text):
        engine.infer(feeds)


def test_a_closed_engine_and_one_of_another_thread_are_refused(gpu: Gpu, plan: Path) -> None:
    said: list[str] = []

    def elsewhere() -> None:
        with pytest.raises(EngineInputError, match="another thread") as caught:
            engine.infer({"x": images(1)})
        said.append(str(caught.value))

    with load(plan) as engine:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert len(said) == 1
    with pytest.raises(EngineInputError, match="closed"):
        engine.infer({"x": images(1)})
    engine.close()


def flip(path: Path, _: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(bytes(content))


STALE = {
    "flipped byte": (flip, "its bytes differ from the sha256"),
    "missing sidecar": (lambda path, _: manifest.sidecar(path).unlink(), "sidecar engine.trt.json is missing"),
    "half a sidecar": (lambda path, _: manifest.sidecar(path).write_text("{"), "is not a manifest"),
}


@pytest.mark.parametrize(("spoil", "text"), STALE.values(), ids=STALE)
def test_a_stale_engine_is_refused_before_anything_is_deserialized(
    gpu: Gpu, plan: Path, model: Path, spoil: Any, text: str
) -> None:
    spoil(plan, model)
    with pytest.raises(StaleArtifact, match=text):
        load(plan)
    assert tensorrt_runtime.deserialized == []
    assert gpu.live == {}


@pytest.mark.parametrize(
    ("here", "text"),
    [
        pytest.param(
            replace(HERE, runtime_version="10.3.0"), "runtime_version was '8.6.0' and is '10.3.0'", id="other TensorRT"
        ),
        pytest.param(
            replace(HERE, device="Orin", compute_capability="8.7"),
            "compute_capability was '9.0' and is '8.7'",
            id="other GPU",
        ),
    ],
)
def test_an_engine_of_another_machine_is_refused(gpu: Gpu, plan: Path, here: TargetFingerprint, text: str) -> None:
    with pytest.raises(StaleArtifact, match=text):
        load_engine(tensorrt_runtime, plan, here)  # type: ignore[arg-type,unused-ignore]
    assert tensorrt_runtime.deserialized == []


def test_a_plan_that_tensorrt_refuses_leaves_nothing_behind(gpu: Gpu, tmp_path: Path) -> None:
    path = tmp_path / "engine.trt"
    path.write_bytes(b"no plan")
    manifest.seal(path, "build_fp32", [], HERE)
    with pytest.raises(StaleArtifact, match="cannot deserialize"):
        load(path)
    assert memory_is_back(gpu)


def memory_is_back(gpu: Gpu) -> bool:
    return gpu.live == {} and gpu.pinned == 0 and gpu.pushed == 0 and memory.allocated() == {"device": 0, "pinned": 0}


@pytest.mark.parametrize("fault", [None, KeyError], ids=["normal end", "exception in the block"])
def test_everything_is_given_back_at_the_end_of_the_block(gpu: Gpu, plan: Path, fault: Any) -> None:
    try:
        with load(plan, contexts=2) as engine:
            engine.pinned_inputs(2)
            pipeline = engine.infer_many({"x": images(2)} for _ in range(9))
            next(pipeline)
            if fault:
                raise fault
    except KeyError:
        pass
    assert memory_is_back(gpu)


def test_too_little_memory_is_one_sentence_and_leaves_nothing(gpu: Gpu, plan: Path) -> None:
    gpu.room = 4096 + 700
    with pytest.raises(RuntimeUnavailable, match=r"MiB free and the engine needs a buffer .* lower axes.batch.max"):
        load(plan)
    assert memory_is_back(gpu)


def test_nothing_is_allocated_in_the_loop(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        held, pinned = dict(gpu.live), gpu.pinned
        for rows in (1, MAX, 2, 3, 1):
            engine.infer({"x": images(rows)})
            list(engine.infer_many({"x": images(rows)} for _ in range(5)))
        assert (gpu.live, gpu.pinned) == (held, pinned)


def test_device_seconds_and_layer_times(gpu: Gpu, plan: Path) -> None:
    entry = {
        "Name": "conv1 + relu1",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Format/Datatype": "Row major Int8 format"}],
    }
    plan.with_name("layers.json").write_text(
        json.dumps({"Layers": [{**entry, "Outputs": [], "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]"}]})
    )
    with load(plan) as engine:
        np.testing.assert_allclose(engine.device_seconds({"x": images(2)}, 600), np.full(600, 0.0015))
        layers = engine.layer_times({"x": images(2)}, 4)
    assert [(layer.name, layer.milliseconds) for layer in layers] == [("conv1 + relu1", 0.5), ("fc", 0.25)]
    assert (layers[0].precision, layers[0].operations) == ("INT8", ("conv1", "relu1"))
    assert layers[1].operations == ("fc",)


def test_the_stand_in_has_no_name_that_tensorrt_8_6_lacks() -> None:
    """run_names_8_6.json is `dir()` of the real bindings."""
    names = json.loads((Path(__file__).parent / "run_names_8_6.json").read_text())
    for kind, real in names.items():
        stand_in = getattr(tensorrt_runtime, kind)
        ours = {name for name in vars(stand_in) if not name.startswith("_")} - {"executed"}
        assert ours <= set(real), kind


@pytest.mark.skipif(
    bool(RUNTIME.why_not(Capability.run)), reason=f"needs TensorRT, PyCUDA and a GPU: {RUNTIME.why_not(Capability.run)}"
)
def test_on_the_real_thing() -> None:
    root = Path(__file__).parents[3]
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.smoke"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert finished.returncode == 0, finished.stdout[-4000:]
