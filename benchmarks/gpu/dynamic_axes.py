"""Dynamic height and width, two inputs and integer inputs on TensorRT: one engine for all sizes, held to ONNX Runtime.

Where ONNX Runtime is, once: python -m benchmarks.gpu.dynamic_axes prepare
On the GPU machine: python -m benchmarks.gpu.dynamic_axes [SECONDS]

`prepare` fills .gpu/dynamic_axes with the models, their scales and FP32's answers (about 20 MiB). Batch 8, optimization
level 1. Every engine runs at each of SIZES and is refused beyond its ranges; $OUT/dynamic_axes.json is whole after
every step and holds SQNR against ONNX Runtime, the layers in INT8, and the time of a batch at each size.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu.common import Report, build, machine, settings, sqnr_db
from enginewright import load
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Calibration, CalibrationAlgorithm, Precision, PrecisionMode
from enginewright.errors import CalibrationMismatch, EngineInputError
from enginewright.feeds import as_input
from enginewright.interface import AxisRange, batches

MADE, WORK = Path(".gpu/dynamic_axes"), Path("/tmp/dynamic_axes")
SIDE = AxisRange(64, 128, 256)
AXES = {**batches(1, 8, 8), "height": SIDE, "width": SIDE}
TOKENS = {**AXES, "tokens": AxisRange(4, 16, 32)}
SIZES = ((64, 64), (128, 128), (96, 160), (160, 96), (256, 64), (256, 256))  # height and width; the third is a sample's
ROWS, VOCABULARY, REPEATS = 8, 100, 50
MODES = {"implicit": PrecisionMode.implicit, "explicit": PrecisionMode.explicit}
WAYS = {
    "fp32": (Precision.fp32, "implicit"),
    "fp16": (Precision.fp16, "implicit"),
    "int8_implicit": (Precision.int8, "implicit"),
    "int8_explicit": (Precision.int8, "explicit"),
}
LEAST_DB = {"fp32": 60.0, "fp16": 40.0, "int8_implicit": 12.0, "int8_explicit": 12.0}
Array = npt.NDArray[Any]


class Net:
    """Nodes and weights as they are added, from a stream of numbers that is frozen for good."""

    def __init__(self, seed: int) -> None:
        self.random, self.nodes, self.weights = np.random.RandomState(seed), list[Any](), list[Any]()

    def weight(self, name: str, *shape: int) -> str:
        """Scaled so that every layer keeps the spread of its input."""
        values = self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Returns its output, which has its name."""
        self.nodes.append(helper.make_node(operator, inputs, [name], f"node_{name}", **attributes))
        return name

    def conv(self, source: str, name: str, channels: tuple[int, int], kernel: int = 3, stride: int = 1) -> str:
        """A convolution that keeps the size, or halves it, and its Relu."""
        weight = self.weight(f"{name}_weight", channels[1], channels[0], kernel, kernel)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        return self.node(
            "Relu", [self.node("Conv", [source, weight], name, pads=pads, strides=strides)], f"{name}_relu"
        )

    def save(self, path: Path, inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, list[Any]]) -> None:
        """Write opset 17."""
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info(name, *its) for name, its in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def segmenter(path: Path) -> None:
    """Down twice, up twice with shortcuts, on any height and width."""
    net = Net(1)
    net.weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    fine = net.conv("images", "stem", (3, 16))
    half = net.conv(fine, "down", (16, 32), stride=2)
    quarter = net.conv(net.conv(half, "down_again", (32, 64), stride=2), "bottom", (64, 32))
    up = net.node("Add", [net.node("Resize", [quarter, "", "twice"], "up", mode="nearest"), half], "with_half")
    wide = net.conv(up, "mixed", (32, 16))
    last = net.node("Add", [net.node("Resize", [wide, "", "twice"], "up_again", mode="nearest"), fine], "with_fine")
    net.node("Conv", [net.conv(last, "head", (16, 16)), net.weight("classes_weight", 5, 16, 1, 1)], "classes")
    image = (TensorProto.FLOAT, ["batch", 3, "height", "width"])
    net.save(path, {"images": image}, {"classes": ["batch", 5, "height", "width"]})


def described(path: Path) -> None:
    """An image and integer tokens: a map of the image's size, and scores of both."""
    net = Net(2)
    features = net.conv(net.conv("images", "stem", (3, 16)), "body", (16, 32))
    net.node("Conv", [features, net.weight("map_weight", 2, 32, 1, 1)], "map")
    pooled = net.node("Flatten", [net.node("GlobalAveragePool", [features], "pool")], "flat")
    words = net.node("Gather", [net.weight("vocabulary", VOCABULARY, 32), "tokens"], "words")
    text = net.node("MatMul", [words, net.weight("text_weight", 32, 32)], "text")
    both = net.node("Add", [pooled, net.node("ReduceMean", [text], "meaning", axes=[1], keepdims=0)], "both")
    net.node("MatMul", [net.node("Relu", [both], "active"), net.weight("scores_weight", 32, 10)], "scores")
    net.save(
        path,
        {
            "images": (TensorProto.FLOAT, ["batch", 3, "height", "width"]),
            "tokens": (TensorProto.INT64, ["batch", "tokens"]),
        },
        {"map": ["batch", 2, "height", "width"], "scores": ["batch", 10]},
    )


MODELS = {"segmenter": (segmenter, AXES), "described": (described, TOKENS)}


def feeds(name: str, height: int, width: int, rows: int = ROWS, seed: int = 0) -> dict[str, Array]:
    """Flat patches of 16 pixels with noise on them, and tokens: the same numbers on both machines."""
    random = np.random.RandomState(seed * 1_000_003 + height * 1_009 + width)
    coarse = random.standard_normal((rows, 3, height // 16, width // 16)).repeat(16, axis=2).repeat(16, axis=3)
    images = (coarse + 0.3 * random.standard_normal((rows, 3, height, width))).astype(np.float32)
    tokens = random.randint(0, VOCABULARY, (rows, 4 + height % 29))
    return {"images": images, "tokens": tokens.astype(np.int64)} if name == "described" else {"images": images}


def prepare() -> None:
    """Models, scales of samples at their own shapes, and FP32's answers, by ONNX Runtime."""
    from enginewright.runtimes import runtime_named
    from enginewright.runtimes.onnxruntime.session import open_session

    MADE.mkdir(parents=True, exist_ok=True)
    for name, (write, _) in MODELS.items():
        path = MADE / f"{name}.onnx"
        write(path)
        samples = [feeds(name, *size, rows=2, seed=1) for size in SIZES[:5] for _ in range(2)]
        chosen = Calibration(algorithm=CalibrationAlgorithm.entropy)
        runtime_named("onnxruntime").calibrate(path, samples, chosen).write(MADE / f"{name}.cache")
        session, answers = open_session(str(path)), {}
        for height, width in SIZES:
            found = zip((value.name for value in session.get_outputs()), session.run(None, feeds(name, height, width)))
            answers.update({f"{output}_{height}_{width}": values.astype(np.float16) for output, values in found})
        np.savez_compressed(MADE / f"{name}_fp32.npz", **answers)


def measure(name: str, key: str) -> dict[str, Any]:
    """Build one engine; at each size its distance from ONNX Runtime and the time of a batch; what it refuses."""
    (precision, mode), (_, axes) = WAYS[key], MODELS[name]
    recipe = None
    if precision is Precision.int8:
        recipe = QuantizationRecipe(CalibrationCache.read(MADE / f"{name}.cache"))
    chosen = settings(
        ROWS,
        axes,
        precision_mode=MODES[mode],
        optimization_level=1,
        timing_cache=str(WORK / "timing" / name),
    )
    path, said = build(MADE / f"{name}.onnx", precision, WORK / f"{name}_{key}", chosen, recipe)
    known = np.load(MADE / f"{name}_fp32.npz")
    with load(path) as engine:
        said["inputs"] = {spec.name: f"{spec.dtype} {list(spec.shape)}" for spec in engine.interface.inputs}
        said["axes"] = {axis: its.to_dict() for axis, its in engine.axes.items()}
        said["sizes"] = {f"{height}x{width}": at(engine, name, known, height, width) for height, width in SIZES}
        said["refused"] = refusal(engine, name)
    worst = min(found["sqnr_db"] for found in said["sizes"].values())
    if worst < LEAST_DB[key]:
        raise AssertionError(f"{worst} dB at one of the sizes, and {LEAST_DB[key]} are asked for: {said}")
    return said


def at(engine: Any, name: str, known: Any, height: int, width: int) -> dict[str, float]:
    """One size: the worst output's SQNR and the median device time of a batch of 8."""
    given = fed(engine, feeds(name, height, width))
    answered = engine.infer(given)
    noise = [sqnr_db(known[f"{output}_{height}_{width}"].astype(np.float32), its) for output, its in answered.items()]
    alone = {output: its[:3] for output, its in answered.items()}
    few = engine.infer({input_: values[:3] for input_, values in given.items()})
    differing = max(float(np.abs(few[output] - alone[output]).max()) for output in few)
    milliseconds = 1e3 * float(np.median(engine.device_seconds(given, REPEATS)))
    return {"sqnr_db": min(noise), "batch_ms": round(milliseconds, 4), "batch_3_differs_by": round(differing, 5)}


def fed(engine: Any, values: dict[str, Array]) -> dict[str, Array]:
    """In the dtypes of the engine: TensorRT 8.6 makes int32 of int64."""
    return {spec.name: as_input(values[spec.name], spec) for spec in engine.interface.inputs}


def refusal(engine: Any, name: str) -> list[str]:
    """What an engine says of sizes beyond its ranges. Raises AssertionError if it takes one."""
    said = []
    for height, width in ((272, 64), (64, 48)):
        try:
            engine.infer(fed(engine, feeds(name, height, width)))
        except EngineInputError as fault:  # noqa: PERF203 - two rounds
            said.append(str(fault))
        else:
            raise AssertionError(f"{height}x{width} is beyond the ranges and was taken")
    return said


def own_calibrator() -> dict[str, Any]:
    """TensorRT's own calibrator on dynamic axes: at the one shape of the samples, and refused at two."""
    from enginewright.runtimes.tensorrt import RUNTIME

    path, settings_ = MADE / "segmenter.onnx", Calibration(algorithm=CalibrationAlgorithm.entropy)
    one = RUNTIME.calibrate(path, [feeds("segmenter", 96, 160, seed=seed) for seed in (1, 2)], settings_)
    known = CalibrationCache.read(MADE / "segmenter.cache").scales
    shared = sorted(set(one.scales) & set(known))
    ratios = [one.scales[tensor] / known[tensor] for tensor in shared]
    try:
        RUNTIME.calibrate(path, [feeds("segmenter", 96, 160), feeds("segmenter", 64, 64)], settings_)
    except CalibrationMismatch as fault:
        said = str(fault)
    else:
        raise AssertionError("two shapes were taken")
    return {"tensors": len(one.scales), "ratio_to_onnxruntime": [min(ratios), max(ratios)], "two_shapes": said}


def main(seconds: float) -> int:
    """Run every step as long as the seconds last."""
    report = Report("dynamic_axes", seconds)
    report.step("machine", machine)
    for name in MODELS:
        for key in WAYS:
            report.step(f"{name} {key}", partial(measure, name, key), needs_seconds=40)
    report.step("own calibrator", own_calibrator, needs_seconds=20)
    failed = report.failed()
    print("dynamic_axes:", f"FAILED: {', '.join(failed)}" if failed else "all steps passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["prepare"]:
        prepare()
    else:
        sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 540))
