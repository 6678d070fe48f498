"""How long each step takes by the number of a model's nodes (goal: twice the nodes take twice the time).

The model is residual blocks of small layers: convolutions with BatchNormalization, MatMul, shape arithmetic, constants
behind Identity, element-wise operators. Columns are seconds; `per doubling` is the mean factor where the nodes double,
2.0 for linear time.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Union

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from benchmarks.project_copy import write_result
from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.mixture import float_nodes
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.check_onnx import inspect, judge
from enginewright.config import Calibration, CalibrationAlgorithm, Placement
from enginewright.graph import stored
from enginewright.graph.activations import activations
from enginewright.graph.fold import fold_batch_normalization
from enginewright.graph.fp16 import to_fp16
from enginewright.graph.multiplications import multiplications
from enginewright.graph.names import printable
from enginewright.graph.qdq import insert_qdq, quantizable
from enginewright.graph.reasons import left_in_float
from enginewright.graph.shapes import fold_static_shapes
from enginewright.importers.normalize import normalized
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.prepare import prepared
from enginewright.runtimes.onnxruntime.session import Purpose, open_model

SIZES = (1000, 4000, 16000, 100_000)
SIDE = 4
QUICK = 4000  # nodes up to which ONNX Runtime runs a model with every tensor as an output


def block(number: int, source: str, weights: list[TensorProto]) -> Iterator[NodeProto]:
    """Ten nodes from `source` [batch, 2, SIDE, SIDE] to `x{number}`."""
    name, random = f"b{number}", np.random.default_rng(number)

    def stored_as(what: str, *shape: int) -> str:
        values = random.standard_normal(shape).astype(np.float32) * 0.3
        weights.append(numpy_helper.from_array(values, f"{name}.{what}"))
        return f"{name}.{what}"

    convolution = [source, stored_as("w", 2, 2, 1, 1), stored_as("b", 2)]
    yield helper.make_node("Conv", convolution, [f"{name}.c"], name=f"{name}/conv")
    for what in ("scale", "shift", "mean"):
        stored_as(what, 2)
    weights.append(numpy_helper.from_array(np.ones(2, np.float32), f"{name}.variance"))
    normalization = [f"{name}.c", *(f"{name}.{what}" for what in ("scale", "shift", "mean", "variance"))]
    yield helper.make_node("BatchNormalization", normalization, [f"{name}.n"], name=f"{name}/bn")
    yield helper.make_node("Relu", [f"{name}.n"], [f"{name}.r"], name=f"{name}/relu")
    yield helper.make_node("Identity", [stored_as("m", SIDE, SIDE)], [f"{name}.i"], name=f"{name}/identity")
    yield helper.make_node("MatMul", [f"{name}.r", f"{name}.i"], [f"{name}.p"], name=f"{name}/matmul")
    yield helper.make_node("Sigmoid", [f"{name}.p"], [f"{name}.s"], name=f"{name}/sigmoid")
    yield helper.make_node("Mul", [f"{name}.p", f"{name}.s"], [f"{name}.g"], name=f"{name}/mul")
    yield helper.make_node("Shape", [f"{name}.g"], [f"{name}.shape"], name=f"{name}/shape")
    yield helper.make_node("Reshape", [f"{name}.g", f"{name}.shape"], [f"{name}.f"], name=f"{name}/reshape")
    yield helper.make_node("Add", [source, f"{name}.f"], [f"x{number}"], name=f"{name}/add")


def network(nodes: int) -> ModelProto:
    """A network of about so many nodes."""
    weights: list[TensorProto] = []
    made = [
        node for number in range(nodes // 10) for node in block(number, f"x{number - 1}" if number else "x", weights)
    ]
    last = f"x{nodes // 10 - 1}"
    shape: list[Union[str, int, None]] = ["batch", 2, SIDE, SIDE]
    fed, returned = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", last))
    graph = helper.make_graph(made, "deep", [fed], [returned], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def steps(path: Path) -> Mapping[str, Callable[[], object]]:
    """Each step on the model of a file."""
    model = stored.read(path)
    exported = normalized(model)
    scales = dict.fromkeys(activations(exported), 0.01)
    recipe = QuantizationRecipe(CalibrationCache(Header.of(CalibrationAlgorithm.minmax), scales))
    layers = [node.name for node in quantizable(exported)]
    feeds = [{"x": np.random.default_rng(0).standard_normal((2, 2, SIDE, SIDE), dtype=np.float32)}]
    found: dict[str, Callable[[], object]] = {
        "read": lambda: stored.read(path),
        "export: normalized": lambda: normalized(model),
        "check_onnx": lambda: inspect(path, 17),
        "check FILE": lambda: judge(path),
        "activations": lambda: activations(model),
        "fold_static_shapes": lambda: fold_static_shapes(model),
        "fold_batch_normalization": lambda: fold_batch_normalization(model),
        "left_in_float": lambda: left_in_float(exported, scales, Placement.tensorrt),
        "Q/DQ for TensorRT": lambda: insert_qdq(exported, scales, Placement.tensorrt),
        "Q/DQ for ONNX Runtime": lambda: insert_qdq(exported, scales, Placement.onnxruntime),
        "prepared": lambda: prepared(exported, recipe),
        "to_fp16": lambda: to_fp16(exported),
        "multiplications": lambda: multiplications(exported),
        "float_nodes": lambda: float_nodes(exported, layers[: len(layers) // 2], ()),
        "printable": lambda: printable(exported),
        "ONNX Runtime: session": lambda: open_model(exported, Purpose.run),
        "onnx: checker": lambda: onnx.checker.check_model(str(path), full_check=True),
        "onnx: shape inference": lambda: onnx.shape_inference.infer_shapes(model, data_prop=True),
    }
    settings = Calibration(algorithm=CalibrationAlgorithm.minmax)
    if len(model.graph.node) <= QUICK:
        found["calibrate: 2 images"] = lambda: calibrate(path, iter(feeds), settings)
    return found


def measure(sizes: Sequence[int], wanted: str, limit: float) -> dict[str, dict[str, float]]:
    """Step -> nodes -> seconds; a step that took longer than `limit` is not asked about more nodes."""
    seconds: dict[str, dict[str, float]] = {}
    for nodes in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(network(nodes).SerializeToString())
            for name, work in steps(path).items():
                before = seconds.setdefault(name, {})
                if wanted not in name or any(taken > limit for taken in before.values()):
                    continue
                start = time.perf_counter()
                work()
                before[str(nodes)] = round(time.perf_counter() - start, 3)
                print(f"{nodes:>7,} {name:<26} {before[str(nodes)]:8.3f} s", flush=True)
    return {name: taken for name, taken in seconds.items() if taken}


def per_doubling(taken: Mapping[str, float]) -> float:
    """By how much the time grows where the nodes double, from the smallest to the largest size."""
    (first, least), *_, (last, most) = (*taken.items(), *taken.items())
    doublings = math.log2(int(last) / int(first)) if first != last else 0.0
    return round((most / max(least, 1e-3)) ** (1 / doublings), 2) if doublings else 0.0


def main() -> None:
    """Print a table, and write benchmarks/results/model_nodes.json with --write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of nodes")
    parser.add_argument("--step", default="", help="only steps whose name holds this")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which a step gets no larger model")
    parser.add_argument("--write", action="store_true", help="keep the figures")
    arguments = parser.parse_args()
    seconds = measure(arguments.sizes, arguments.step, arguments.limit)
    growth = {name: per_doubling(taken) for name, taken in seconds.items()}
    for name, taken in seconds.items():
        print(f"{name:<26}" + "".join(f"{value:10.3f}" for value in taken.values()) + f"   {growth[name]} per doubling")
    if arguments.write:
        write_result("model_nodes", {"seconds": seconds, "per_doubling": growth})


if __name__ == "__main__":
    main()
