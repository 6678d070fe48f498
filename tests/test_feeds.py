"""What people feed that is not a batch of the input's type: one sentence each, from every runtime and every method that
takes feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch

from enginewright import load, manifest
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision
from enginewright.data import preprocess
from enginewright.errors import EngineInputError
from enginewright.feeds import as_input, joined
from enginewright.interface import TensorSpec, batches
from enginewright.runtimes import null, onnxruntime
from enginewright.runtimes.base import BuildJob, LoadOptions
from enginewright.runtimes.batches import overlapped
from enginewright.runtimes.tensorrt.engine import load_engine
from enginewright.target import TargetFingerprint
from support import cuda_stand_in
from support.calibrated import plain_recipe
from support.networks import images, residual_network
from support.tensorrt_stand_in import runtime as tensorrt_runtime

HERE = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0", "13.0", "580.95.05")
SETTINGS = Build()
AXES = batches(1, 2, 3)
GOOD = images(2)


def tensorrt_engine(folder: Path, precision: Precision) -> Any:
    path = folder / "engine.trt"
    path.write_bytes(tensorrt_runtime.plan(shape=(3, 12, 12), maximum=3))
    manifest.seal(path, "build", [], HERE, {"precision": precision.name})
    return load_engine(tensorrt_runtime, path, HERE, LoadOptions())  # type: ignore[arg-type,unused-ignore]


def host_engine(runtime: Any, folder: Path, precision: Precision) -> Any:
    model = folder / "model.onnx"
    onnx.save(residual_network(), model)
    portable = onnxruntime.RUNTIME
    quantized = precision is Precision.int8 and runtime is portable
    cache = (
        portable.calibrate(model, [{"input": GOOD}], Calibration(algorithm=CalibrationAlgorithm.minmax))
        if quantized
        else None
    )
    built = runtime.build(model, BuildJob(precision, SETTINGS, plain_recipe(cache), axes=AXES))
    path = folder / runtime.engine_file
    path.write_bytes(built.engine_bytes)
    manifest.seal(path, "build", [model], runtime.target_for(SETTINGS), built.settings)
    return load(path)


RUNTIMES: dict[str, Callable[[Path, Precision], Any]] = {
    "tensorrt": tensorrt_engine,
    "onnxruntime": lambda folder, precision: host_engine(onnxruntime.RUNTIME, folder, precision),
    "null": lambda folder, precision: host_engine(null.RUNTIME, folder, precision),
}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Precision], Any]:
    cuda_stand_in.install(monkeypatch)
    return RUNTIMES[request.param]


@pytest.fixture
def engine(runtime: Callable[[Path, Precision], Any], here: Path) -> Iterator[Any]:
    with runtime(here, Precision.fp32) as loaded:
        yield loaded


FEEDS: dict[str, tuple[Any, str]] = {
    "None": (None, "the feeds are None; feed a dictionary of input name to array"),
    "str": ("photo.png", "the feeds are a str; feed a dictionary"),
    "list": ([GOOD], "the feeds are a list; feed a dictionary"),
    "array": (GOOD, "the feeds are an ndarray; feed a dictionary"),
    "name that is no name": ({7: GOOD}, "the engine has no input '7'"),
}

VALUES: dict[str, tuple[Any, str]] = {
    "None": (None, "is None; feed a NumPy array"),
    "str": ("photo.png", r"is a str; feed a NumPy array.*; preprocess\(\) of enginewright.data"),
    "path": (Path("photo.png"), r"is a PosixPath; feed a NumPy array.*; preprocess\(\) of enginewright.data"),
    "list": (GOOD.tolist(), "is a list; feed a NumPy array"),
    "number": (0.5, "is a float; feed a NumPy array"),
    "scalar": (np.float32(0.5), "is a float32; feed a NumPy array"),
    "no dimension": (np.asarray(0.5, np.float32), r"must have shape .* and has \[\]"),
    "objects": (np.array([GOOD[0], None], object), "holds Python objects"),
    "masked": (np.ma.masked_array(GOOD, GOOD > 0), "is a masked array"),
    "pixels": (
        np.zeros((2, 3, 12, 12), np.uint8),
        r"must be float32 and is uint8; these look like pixels.*preprocess\(\) of enginewright.data",
    ),
    "double": (GOOD.astype(np.float64), "must be float32 and is float64; convert it with .astype"),
    "other byte order": (GOOD.astype(">f4"), "must be float32 and is >f4"),
    "text": (GOOD.astype("U4"), "must be float32 and is <U4"),
    "bfloat16": (GOOD.astype(ml_dtypes.bfloat16), "must be float32 and is bfloat16"),
    "FP8": (GOOD.astype(ml_dtypes.float8_e4m3fn), "must be float32 and is float8_e4m3fn"),
    "torch, on the CPU": (
        torch.from_numpy(GOOD),
        r"is a torch.Tensor; feed a NumPy array.*\.detach\(\)\.cpu\(\)\.numpy\(\)",
    ),
    "torch, double": (torch.from_numpy(GOOD).double(), r"is a torch.Tensor; feed a NumPy array"),
    "torch, without values": (torch.empty(2, 3, 12, 12, device="meta"), "on the device meta, which holds no values"),
    "torch, sparse": (torch.from_numpy(GOOD).to_sparse(), r"is sparse; feed \.to_dense\(\) of it"),
    "torch, with a gradient": (
        torch.from_numpy(GOOD).clone().requires_grad_(),
        r"requires a gradient.*; feed \.detach\(\)",
    ),
    "torch, bfloat16": (torch.from_numpy(GOOD).bfloat16(), "is torch.bfloat16, which NumPy lacks"),
    "torch, FP8": (torch.from_numpy(GOOD).to(torch.float8_e4m3fn), "is torch.float8_e4m3fn, which NumPy lacks"),
}
CASES = [*FEEDS.values(), *(({"input": value}, text) for value, text in VALUES.values())]
IDS = [*(f"feeds: {name}" for name in FEEDS), *(f"value: {name}" for name in VALUES)]


def named(engine: Any, feeds: Any) -> Any:
    """The stand-in's input is called x."""
    return {engine.interface.inputs[0].name: feeds["input"]} if isinstance(feeds, dict) and "input" in feeds else feeds


@pytest.mark.parametrize(("feeds", "text"), CASES, ids=IDS)
def test_what_is_not_a_batch_is_one_sentence(engine: Any, feeds: Any, text: str) -> None:
    wrong, good = named(engine, feeds), named(engine, {"input": GOOD})
    calls: list[Callable[[], Any]] = [
        lambda: engine.infer(wrong),
        lambda: engine.device_seconds(wrong, 1),
        lambda: engine.phase_seconds(wrong, 1),
        lambda: engine.layer_times(wrong, 1),
        lambda: list(engine.infer_many([good, wrong, good])),
    ]
    for call in calls:
        with pytest.raises(EngineInputError, match=text) as fault:
            call()
        assert "\n" not in str(fault.value)
    assert set(engine.infer(good)) == {spec.name for spec in engine.interface.outputs}


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        pytest.param({"input": GOOD}, "given one dictionary; put it in a list, or use infer", id="one dictionary"),
        pytest.param(None, "given None; give it a list or a generator", id="None"),
        pytest.param("photos", "given a str; give it a list", id="str"),
        pytest.param(5, "given an int; give it a list", id="number"),
    ],
)
def test_infer_many_says_what_it_takes(engine: Any, batches: Any, text: str) -> None:
    with pytest.raises(EngineInputError, match=text):
        list(engine.infer_many(batches))


def test_preprocess_is_what_the_sentence_about_pixels_names() -> None:
    assert preprocess.__module__.startswith("enginewright.data")


def test_the_answers_before_a_wrong_batch_come_first(engine: Any) -> None:
    good = named(engine, {"input": GOOD})
    outputs = engine.infer_many([good, good, None, good])
    assert [len(next(iter(next(outputs).values()))) for _ in range(2)] == [2, 2]
    with pytest.raises(EngineInputError, match="the feeds are None"):
        next(outputs)


def test_what_a_source_raises_comes_in_its_turn(engine: Any) -> None:
    def source() -> Iterator[Any]:
        yield named(engine, {"input": GOOD})
        raise OSError("the camera is gone")

    outputs = engine.infer_many(source())
    next(outputs)
    with pytest.raises(OSError, match="the camera is gone"):
        next(outputs)


def test_a_closed_engine_is_one_sentence(runtime: Callable[[Path, Precision], Any], here: Path) -> None:
    with runtime(here, Precision.fp32) as engine:
        feeds = named(engine, {"input": GOOD})
        outputs = engine.infer_many(feeds for _ in range(9))
        next(outputs)
    calls: list[Callable[[], Any]] = [
        lambda: next(outputs),
        lambda: engine.infer(feeds),
        lambda: engine.device_seconds(feeds, 1),
        lambda: engine.phase_seconds(feeds, 1),
        lambda: engine.layer_times(feeds, 1),
        lambda: list(engine.infer_many([feeds])),
    ]
    for call in calls:
        with pytest.raises(EngineInputError, match=r"engine\.\w+ is closed: its `with` block has ended; load it again"):
            call()


@pytest.mark.parametrize("name", ["tensorrt", "onnxruntime"])
def test_int8_refuses_nan_and_takes_infinity(monkeypatch: pytest.MonkeyPatch, here: Path, name: str) -> None:
    """QuantizeLinear makes a finite number of NaN, and of infinity the largest, which is what an INT8 range means."""
    cuda_stand_in.install(monkeypatch)
    with RUNTIMES[name](here, Precision.int8) as engine:
        endless = GOOD.copy()
        endless[0, 0, 0, 0] = -np.inf
        assert set(engine.infer(named(engine, {"input": endless}))) == {spec.name for spec in engine.interface.outputs}
        broken = GOOD.copy()
        broken[-1, -1, -1, -1] = np.nan
        for call in (
            engine.infer,
            lambda feeds: list(engine.infer_many([feeds])),
            lambda feeds: engine.device_seconds(feeds, 1),
        ):
            with pytest.raises(EngineInputError, match="holds NaN, which INT8 would turn into a finite number"):
                call(named(engine, {"input": broken}))
    with RUNTIMES[name](here, Precision.fp32) as engine:  # float shows NaN in its answers
        engine.infer(named(engine, {"input": broken}))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_nan_is_found_in_every_float_type(dtype: Any) -> None:
    spec, values = (
        TensorSpec("x", np.dtype(np.int8), ("batch",), scale=0.1),
        np.array([1, -np.inf, np.inf, -0.0], dtype),
    )
    np.testing.assert_array_equal(as_input(values, spec), [10, -128, 127, 0])
    with pytest.raises(EngineInputError, match="'x' holds NaN"):
        as_input(np.append(values, dtype(np.nan)), spec)


def test_as_input_takes_no_pixels_and_guesses_no_scale() -> None:
    spec = TensorSpec("x", np.dtype(np.int8), ("batch",), scale=0.1)
    with pytest.raises(EngineInputError, match=r"'x' must be float32 and is uint8.*preprocess\(\)"):
        as_input(np.zeros(3, np.uint8), spec)
    with pytest.raises(EngineInputError, match="'x' takes uint8 without a scale"):
        as_input(np.zeros(3, np.float32), TensorSpec("x", np.dtype(np.uint8), ("batch",)))


def test_integers_go_into_an_input_of_fewer_bits_where_each_fits() -> None:
    """TensorRT 8.6 makes int32 of an int64 input."""
    spec = TensorSpec("input_ids", np.dtype(np.int32), ("batch", "tokens"))
    fed = as_input(np.array([[3, -1]], np.int64), spec)
    assert fed.dtype == np.int32
    assert fed.tolist() == [[3, -1]]
    with pytest.raises(
        EngineInputError, match=r"'input_ids' is int32 in this engine, .* 2147483647, and is fed 2147483648"
    ):
        as_input(np.array([[2**31]], np.int64), spec)


def test_an_int8_input_names_what_makes_its_integers(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    cuda_stand_in.install(monkeypatch)
    path = here / "engine.trt"
    path.write_bytes(tensorrt_runtime.plan(dtype="INT8"))
    manifest.seal(path, "build", [], HERE, {"precision": "int8", "input_scales": {"x": 0.1}})
    with load_engine(tensorrt_runtime, path, HERE) as engine:  # type: ignore[arg-type,unused-ignore]
        for dtype, text in (
            ("float32", r"use as_input\(\)"),
            ("uint8", r"use preprocess\(\) of enginewright.data.*, and as_input\(\)"),
        ):
            with pytest.raises(EngineInputError, match=f"must be int8 and is {dtype}; .*{text}"):
                engine.infer({"x": np.zeros((1, 3, 4), dtype)})


def test_one_array_filled_again_for_each_batch(engine: Any) -> None:
    """A source may reuse its array: what was drawn has been read."""
    buffer, want = np.empty_like(GOOD), [named(engine, {"input": GOOD * factor}) for factor in (1, 2, 3, 4, 5, 6)]

    def source() -> Iterator[Any]:
        for feeds in want:
            buffer[...] = next(iter(feeds.values()))
            yield named(engine, {"input": buffer})

    for feeds, outputs in zip(want, engine.infer_many(source()), strict=True):
        for name, answer in engine.infer(feeds).items():
            np.testing.assert_allclose(outputs[name], answer, rtol=1e-5, atol=1e-6)


def test_a_thread_that_has_yet_to_read_a_batch_reads_what_was_drawn() -> None:
    """As above, for backends that answer in threads, with the read held back until the source has filled its array
    again.
    """
    from threading import Event

    refilled, buffer = Event(), np.zeros(3, np.float32)

    def infer(feeds: Any) -> dict[str, Any]:
        refilled.wait()
        return {"y": feeds["x"] * 2}

    def source() -> Iterator[dict[str, Any]]:
        for value in (1, 2):
            buffer[...] = value
            if value == 2:
                refilled.set()
            yield {"x": buffer}

    assert [outputs["y"][0] for outputs in overlapped(infer, source())] == [2, 4]


def test_answers_of_the_null_runtime_cannot_be_changed(here: Path) -> None:
    with RUNTIMES["null"](here, Precision.fp32) as engine, pytest.raises(ValueError, match="read-only"):
        engine.infer({"input": GOOD})["logits"][...] = 1


def test_outputs_without_a_row_for_each_row_are_not_put_together() -> None:
    whole = {"y": np.zeros((2, 5)), "loss": np.zeros(1)}
    assert joined([(whole, 2)]) is whole
    with pytest.raises(EngineInputError, match=r"the output 'loss' has shape \[1\] for a batch of 2"):
        joined([(whole, 2), (whole, 2)])
