"""Every path of the runtime once, on tiny models: builds, numerics, graphs, zero copy, refusals, memory. Under 90 s.
Run: python -m benchmarks.gpu.smoke.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Optional

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from benchmarks.gpu.common import Report, build, host_rss_mib, machine, settings, sqnr_db
from enginewright import load, manifest
from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Calibration, CalibrationAlgorithm, Precision, PrecisionMode
from enginewright.errors import EngineInputError, EnginewrightError
from enginewright.runtimes.base import LoadOptions
from enginewright.runtimes.tensorrt import RUNTIME, memory
from enginewright.runtimes.tensorrt.engine import load_engine

WORK = Path(tempfile.mkdtemp(prefix="smoke"))
RANDOM = np.random.default_rng(0)
REPORT = Report("smoke", 300)


def conv_net(path: Path, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Conv, Relu, Conv + shortcut, pool, Gemm on [N, 3, 32, 32]."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((RANDOM.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(kind), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a2"], name="add2"),
        helper.make_node("Relu", ["a2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="fc", transB=1),
    ]
    weights = [
        weight("w1", 32, 3, 3, 3),
        weight("b1", 32),
        weight("w2", 32, 32, 3, 3),
        weight("w3", 10, 32),
        weight("b3", 10),
    ]
    graph = helper.make_graph(
        nodes, "tiny", [_value("x", dtype, ["N", 3, 32, 32])], [_value("y", dtype, ["N", 10])], weights
    )
    return _save(graph, path)


def two_by_two(path: Path) -> onnx.ModelProto:
    """Two inputs, two outputs, one of them large."""
    nodes = [helper.make_node("Add", ["a", "b"], ["s"], name="sum"),
             helper.make_node("Mul", ["a", "b"], ["m0"], name="product"),
             helper.make_node("ReduceSum", ["m0", "axes"], ["m"], name="reduce", keepdims=0)]  # fmt: skip
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    ins = [_value("a", TensorProto.FLOAT, ["N", 64]), _value("b", TensorProto.FLOAT, ["N", 64])]
    graph = helper.make_graph(
        nodes, "two", ins, [_value("s", TensorProto.FLOAT, ["N", 64]), _value("m", TensorProto.FLOAT, ["N"])], [axes]
    )
    return _save(graph, path)


def int8_io(path: Path) -> onnx.ModelProto:
    """INT8 in, INT8 out: DequantizeLinear, Conv, QuantizeLinear."""
    kernel = (RANDOM.standard_normal((8, 4, 3, 3)) / 6).astype(np.float32)
    scales = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("sx", 0.02), ("sw", 0.01), ("sy", 0.03))
    ]
    zero = numpy_helper.from_array(np.array(0, np.int8), "zero")
    weights = numpy_helper.from_array(np.clip(np.round(kernel / 0.01), -127, 127).astype(np.int8), "wq")
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "sx", "zero"], ["xf"], name="dqx"),
        helper.make_node("DequantizeLinear", ["wq", "sw", "zero"], ["wf"], name="dqw"),
        helper.make_node("Conv", ["xf", "wf"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "sy", "zero"], ["y"], name="qy"),
    ]
    graph = helper.make_graph(
        nodes,
        "i8",
        [_value("x", TensorProto.INT8, ["N", 4, 8, 8])],
        [_value("y", TensorProto.INT8, ["N", 8, 8, 8])],
        [*scales, zero, weights],
    )
    return _save(graph, path)


def _value(name: str, dtype: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def _save(graph: onnx.GraphProto, path: Path) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return model


def scales_of(model: onnx.ModelProto, feeds: dict[str, Any]) -> CalibrationCache:
    """Min-max scales of every tensor by the reference evaluator."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    named = [output for node in model.graph.node for output in node.output]
    del wide.graph.output[:]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in named)
    found = dict(zip(named, ReferenceEvaluator(wide).run(None, feeds)))
    found.update(feeds)
    return CalibrationCache(
        Header.entropy,
        {name: float(np.float32(np.abs(array).max() / 127)) for name, array in found.items()},
    )


def expected(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """What the reference evaluator says."""
    return dict(zip([value.name for value in model.graph.output], ReferenceEvaluator(model).run(None, feeds)))


MODEL = conv_net(WORK / "tiny.onnx")
X = RANDOM.standard_normal((40, 3, 32, 32)).astype(np.float32)
WANT = expected(MODEL, {"x": X})["y"]
CACHE = scales_of(MODEL, {"x": X})
ENGINES: dict[str, Path] = {}


def build_tiny(key: str, precision: Precision, mode: PrecisionMode) -> dict[str, Any]:
    """Build, then compare with the reference at batch 1, 5, 16 (the profile's largest) and 40 (split)."""
    recipe = QuantizationRecipe(CACHE) if precision is Precision.int8 else None
    path, said = build(
        WORK / "tiny.onnx",
        precision,
        WORK / key,
        settings(16, precision_mode=mode, timing_cache=str(WORK / "timing")),
        recipe,
    )
    ENGINES[key] = path
    with load(path) as engine:
        for batch in (1, 5, 16, 40, 5):
            got = engine.infer({"x": X[:batch]})["y"]
            said[f"sqnr_db_{batch}"] = sqnr_db(WANT[:batch], got)
        said["state"] = engine.state()
    floor = 15 if precision is Precision.int8 else 40
    bad = {name: value for name, value in said.items() if name.startswith("sqnr") and value < floor}
    if bad:
        raise AssertionError(f"below {floor} dB: {bad}; {said}")
    return said


def open_engine(key: str = "fp32", **options: Any) -> Any:
    """One of the engines built above."""
    return load_engine(__import__("tensorrt"), ENGINES[key], RUNTIME.fingerprint(), LoadOptions(**options))


def pipelined() -> dict[str, Any]:
    """`infer_many` over uneven batches: order, values, depth 1 to 4, two contexts, without graphs, from pinned
    memory.
    """
    sizes, seen = [16, 16, 3, 40, 1, 16, 16, 16, 7], {}
    settings_by_label: dict[str, dict[str, Any]]
    settings_by_label = {
        "d1": {"depth": 1},
        "d2": {"depth": 2},
        "d4": {"depth": 4},
        "c2": {"contexts": 2},
        "plain": {"graphs": False},
    }
    for label, options in settings_by_label.items():
        try:
            with open_engine(**options) as engine:
                outs = list(engine.infer_many({"x": X[:size]} for size in sizes))
                for size, out in zip(sizes, outs):
                    np.testing.assert_allclose(out["y"], WANT[:size], rtol=2e-3, atol=2e-3)
                assert len(outs) == len(sizes)
                seen[label] = engine.state()
        except EnginewrightError as fault:  # noqa: PERF203 - each is a result of its own
            seen[label] = str(fault)
    with open_engine() as engine:
        ring = [engine.pinned_inputs(16) for _ in range(4)]
        for index, feeds in enumerate(ring):
            feeds["x"][...] = X[index * 6 : index * 6 + 16]
        outs = list(engine.infer_many(ring[index % 4] for index in range(12)))
        for index, out in enumerate(outs):
            np.testing.assert_allclose(out["y"], WANT[(index % 4) * 6 : (index % 4) * 6 + 16], rtol=2e-3, atol=2e-3)
    return seen


def graph_per_shape() -> dict[str, Any]:
    """Graphs of several shapes of one engine stay right whatever order they are launched in."""
    with open_engine(depth=2) as engine:
        for batch in (1, 8, 16, 1, 8, 3, 16, 1):
            np.testing.assert_allclose(engine.infer({"x": X[:batch]})["y"], WANT[:batch], rtol=2e-3, atol=2e-3)
        with_graph = float(np.median(engine.device_seconds({"x": X[:1]}, 300)))
        state = engine.state()
    with open_engine(depth=1, graphs=False) as engine:
        without = float(np.median(engine.device_seconds({"x": X[:1]}, 300)))
    return {"us_graph": with_graph * 1e6, "us_launches": without * 1e6, **state}


def zero_copy() -> dict[str, Any]:
    """A CUDA array (PyCUDA memory behind the interface) is read in place; device outputs are readable."""
    with open_engine() as engine:
        buffer = memory.DeviceBuffer(X[:8].nbytes)
        buffer.copy_from_host(X[:8])

        class Cai:
            __cuda_array_interface__: ClassVar[dict[str, Any]] = {
                "shape": (8, 3, 32, 32),
                "typestr": "<f4",
                "data": (buffer.address, False),
                "version": 3,
                "strides": None,
                "stream": 1,
            }

        for _ in range(3):
            np.testing.assert_allclose(engine.infer({"x": Cai()})["y"], WANT[:8], rtol=2e-3, atol=2e-3)
        count = 0
        for out in engine.infer_many(({"x": Cai()} for _ in range(10)), on_device=True):
            host = np.empty(out["y"].shape, np.float32)
            memory.driver().memcpy_dtoh(host, out["y"].address)
            np.testing.assert_allclose(host, WANT[:8], rtol=2e-3, atol=2e-3)
            count += 1
        buffer.free()
        return {"device_outputs": count, **engine.state()}


def several_tensors() -> dict[str, Any]:
    """Two inputs and outputs, FP16 I/O, INT8 I/O."""
    said: dict[str, Any] = {}
    model = two_by_two(WORK / "two.onnx")
    feeds = {name: RANDOM.standard_normal((9, 64)).astype(np.float32) for name in "ab"}
    path, _ = build(WORK / "two.onnx", Precision.fp32, WORK / "two", settings(4))
    with load(path) as engine:
        for name, want in expected(model, feeds).items():
            np.testing.assert_allclose(engine.infer(feeds)[name], want, rtol=1e-4, atol=1e-4)
    said["two_by_two"] = "ok"
    for name, maker, mode, precision, data in (
        (
            "half_io",
            lambda p: conv_net(p, TensorProto.FLOAT16),
            PrecisionMode.implicit,
            Precision.fp16,
            X[:6].astype(np.float16),
        ),
        (
            "int8_io",
            int8_io,
            PrecisionMode.implicit,
            Precision.int8,
            RANDOM.integers(-100, 100, (6, 4, 8, 8)).astype(np.int8),
        ),
    ):
        try:
            model = maker(WORK / f"{name}.onnx")
            cache = CalibrationCache(Header.entropy, {"x": 0.02, "xf": 0.02, "c": 0.03, "y": 0.03})
            recipe = QuantizationRecipe(cache) if precision is Precision.int8 else None
            path, _ = build(WORK / f"{name}.onnx", precision, WORK / name, settings(4, precision_mode=mode), recipe)
            with load(path) as engine:
                got = engine.infer({"x": data})["y"]
                said[name] = [
                    str(engine.interface.inputs[0].dtype),
                    str(got.dtype),
                    sqnr_db(expected(model, {"x": data})["y"], got),
                ]
        except Exception as fault:  # noqa: BLE001, PERF203 - what this version cannot do is a result
            said[name] = f"{type(fault).__name__}: {str(fault)[:250]}"
    return said


def flip(path: Path) -> None:
    """One bit of the plan."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def edit(field: str, value: str) -> Callable[[Path], None]:
    """One field of the target in the sidecar."""

    def change(path: Path) -> None:
        sidecar = manifest.sidecar(path)
        content = json.loads(sidecar.read_text())
        content["target"][field] = value
        sidecar.write_text(json.dumps(content))

    return change


def refused(spoil: Callable[[Path], object]) -> str:
    """What loading a spoilt copy of the FP32 engine says."""
    folder = WORK / "refused"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(WORK / "fp32", folder)
    spoil(folder / "engine.trt")
    try:
        load(folder / "engine.trt")
    except EnginewrightError as fault:
        return str(fault)
    raise AssertionError("was not refused")


def stale_engines() -> dict[str, str]:
    """Shown by 5: each is one sentence, and nothing is deserialized."""
    return {
        "flipped byte": refused(flip),
        "other TensorRT": refused(edit("runtime_version", "10.3.0")),
        "other GPU": refused(edit("compute_capability", "8.7")),
        "missing sidecar": refused(lambda path: manifest.sidecar(path).unlink()),
    }


def sentence(engine: Any, feeds: Any) -> str:
    """What an engine says to wrong feeds."""
    try:
        engine.infer(feeds)
    except EngineInputError as fault:
        return str(fault)
    raise AssertionError("was not refused")


def wrong_feeds() -> dict[str, str]:
    """Name, dtype, shape, an empty batch, no array, another thread, a closed engine."""
    cases = {
        "name": {"z": X[:1]},
        "dtype": {"x": X[:1].astype(np.float64)},
        "shape": {"x": X[:1, :, :16]},
        "empty": {"x": X[:0]},
        "kind": {"x": [1, 2]},
    }
    with open_engine() as engine:
        said = {name: sentence(engine, feeds) for name, feeds in cases.items()}
        thread = threading.Thread(target=lambda: said.update(thread=sentence(engine, {"x": X[:1]})))
        thread.start()
        thread.join()
    said["closed"] = sentence(engine, {"x": X[:1]})
    return said


def own_thread() -> str:
    """An engine loaded, used and left in a second thread, while this one holds another."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with open_engine("fp16") as other:
                for _ in range(50):
                    np.testing.assert_allclose(other.infer({"x": X[:5]})["y"], WANT[:5], rtol=3e-2, atol=3e-2)
        except BaseException as fault:  # noqa: BLE001 - handed to the main thread
            failed.append(fault)

    with open_engine() as engine:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            np.testing.assert_allclose(engine.infer({"x": X[:7]})["y"], WANT[:7], rtol=2e-3, atol=2e-3)
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return "ok"


def memory_steady() -> dict[str, Any]:
    """Short form of Shown by 4; measure.py has the long one."""
    said: dict[str, Any] = {}
    with memory.primary_context():
        with open_engine() as engine:
            for round_ in (100, 5000):
                for _ in range(round_):
                    engine.infer({"x": X[:1]})
                said[f"free_after_{round_}"], said[f"rss_after_{round_}"] = memory.memory_info()[0], host_rss_mib()
        frees = []
        for _ in range(10):
            with open_engine() as engine:
                engine.infer({"x": X[:16]})
            frees.append(memory.memory_info()[0])
        said["free_after_cycles"] = frees
        said["rss"] = host_rss_mib()
        said["allocated_by_us"] = memory.allocated()
    return said


def layers(key: str) -> Any:
    """The layer profile, joined with the inspector."""
    with open_engine(key) as engine:
        found = engine.layer_times({"x": X[:16]}, 20)
    return [
        (layer.name[:60], round(layer.milliseconds, 4), layer.precision, list(layer.operations)[:4]) for layer in found
    ]


def calibrate() -> dict[str, Any]:
    """TensorRT's calibrators; scales beside min-max ones. A last, smaller batch is part of it."""
    said: dict[str, Any] = {}
    for algorithm in (CalibrationAlgorithm.entropy, CalibrationAlgorithm.minmax):
        batches = [{"x": X[:16]}, {"x": X[16:32]}, {"x": X[32:]}]
        cache = RUNTIME.calibrate(WORK / "tiny.onnx", batches, Calibration(algorithm=algorithm, batch_size=16))
        again = RUNTIME.calibrate(WORK / "tiny.onnx", batches, Calibration(algorithm=algorithm, batch_size=16))
        ratios = {
            name: round(cache.scales[name] / CACHE.scales[name], 3) for name in cache.scales if name in CACHE.scales
        }
        said[algorithm.name] = {
            "identical_twice": cache.to_bytes() == again.to_bytes(),
            "tensors": len(cache.scales),
            "over_minmax": ratios,
        }
        folder, recipe = WORK / f"int8_{algorithm.name}", QuantizationRecipe(cache)
        path, built = build(WORK / "tiny.onnx", Precision.int8, folder, settings(16), recipe)
        with load(path) as engine:
            said[algorithm.name]["sqnr_db"] = sqnr_db(WANT, engine.infer({"x": X})["y"])
        said[algorithm.name]["quantized"] = [built["quantized"], built["quantizable"]]
    return said


def timing_cache() -> dict[str, Any]:
    """A second build of the same model is served from the timing cache."""
    seconds = []
    for _ in range(2):
        begun = time.monotonic()
        build(WORK / "tiny.onnx", Precision.fp16, WORK / "warm", settings(16, timing_cache=str(WORK / "timing2")))
        seconds.append(round(time.monotonic() - begun, 2))
    return {"cold_warm_seconds": seconds, "files": [path.name for path in (WORK / "timing2").iterdir()]}


def main(only: Optional[str] = None) -> int:
    """Run all steps, or those whose name holds `only`."""
    steps: list[tuple[str, Any]] = [("machine", machine)]
    for key, precision, mode in (
        ("fp32", Precision.fp32, PrecisionMode.implicit),
        ("fp16", Precision.fp16, PrecisionMode.implicit),
        ("int8", Precision.int8, PrecisionMode.implicit),
        ("fp16_explicit", Precision.fp16, PrecisionMode.explicit),
        ("int8_explicit", Precision.int8, PrecisionMode.explicit),
    ):
        steps.append((f"build {key}", lambda key=key, precision=precision, mode=mode: build_tiny(key, precision, mode)))
    steps += [
        ("pipelined", pipelined),
        ("graph per shape", graph_per_shape),
        ("zero copy", zero_copy),
        ("several tensors", several_tensors),
        ("stale engines", stale_engines),
        ("wrong feeds", wrong_feeds),
        ("threads", own_thread),
        ("layers fp32", lambda: layers("fp32")),
        ("layers int8", lambda: layers("int8")),
        ("memory", memory_steady),
        ("calibrate", calibrate),
        ("timing cache", timing_cache),
    ]
    for name, body in steps:
        if only is None or only in name or name.startswith("build fp32"):
            REPORT.step(name, body)
    shutil.rmtree(WORK, ignore_errors=True)
    print("smoke:", "all steps passed" if not REPORT.failed() else f"FAILED: {', '.join(REPORT.failed())}", flush=True)
    return 1 if REPORT.failed() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
