"""Which converter to FP16 is right, on the same graphs: ours, two that are widely used, and Model Optimizer's AutoCast.

    PYTHONPATH=.:tests python -m benchmarks.fp16_converters [converter ...] [--fuzz 300]

The table of docs/decisions/0019-fp16-conversion.md. AutoCast is tried if `modelopt` is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

import onnx
from onnx import ModelProto

from enginewright import manifest
from enginewright.config import Placement
from enginewright.graph.fp16 import to_fp16
from enginewright.graph.qdq import insert_qdq
from support.fuzz import sample
from support.half_graphs import HALF_GRAPHS, feeds, half_graph
from support.half_judge import faults, opset, products, scales
from support.small_models import SMALL_MODELS, batches, exported

RESULTS = Path(__file__).parent / "results" / "fp16_converters.json"
COMMAND = "PYTHONPATH=.:tests python -m benchmarks.fp16_converters"
QDQ = ("QuantizeLinear", "DequantizeLinear")
BLOCKED = ("Pow", "ReduceSum", "ReduceL2", "ReduceSumSquare", "Sqrt", "Exp", "Log", *QDQ)
Case = tuple[str, str, ModelProto, dict[str, Any], float]  # kind, name, model, feeds, least SQNR in dB


def common(model: ModelProto) -> ModelProto:
    """onnxconverter-common as it was used until now."""
    from onnxconverter_common.float16 import convert_float_to_float16

    half: ModelProto = convert_float_to_float16(model, keep_io_types=True, min_positive_val=0.0, max_finite_val=65504.0)
    return half


def common_with_blocks(model: ModelProto) -> ModelProto:
    """onnxconverter-common with its smallest value, and what we know to break left out."""
    from onnxconverter_common.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{index}"
    casts = [node.name for node in model.graph.node if node.op_type == "Cast" and node.attribute[0].i == 1]
    blocked = [*DEFAULT_OP_BLOCK_LIST, *BLOCKED]
    limits = {"min_positive_val": 5.96e-8, "max_finite_val": 65504.0}
    lists = {"op_block_list": blocked, "node_block_list": casts}
    half: ModelProto = convert_float_to_float16(model, keep_io_types=True, **lists, **limits)
    return half


def of_onnxruntime(model: ModelProto) -> ModelProto:
    """ONNX Runtime's, which its transformer optimizer uses."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return _sorted(convert_float_to_float16(model, keep_io_types=True))


def of_onnxruntime_with_blocks(model: ModelProto) -> ModelProto:
    """ONNX Runtime's, with the same nodes left out and every initializer in FP16."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{index}"
    casts = [node.name for node in model.graph.node if node.op_type == "Cast" and node.attribute[0].i == 1]
    blocked = [*DEFAULT_OP_BLOCK_LIST, *BLOCKED]
    lists = {"op_block_list": blocked, "node_block_list": casts}
    return _sorted(convert_float_to_float16(model, keep_io_types=True, force_fp16_initializers=True, **lists))


def _sorted(model: ModelProto) -> ModelProto:
    """In the order that ONNX asks for; ONNX Runtime's converter leaves its Casts at the end."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    OnnxModel.graph_topological_sort(model.graph)
    return model


def autocast(model: ModelProto) -> ModelProto:
    """Model Optimizer's AutoCast: which nodes stay in FP32 is decided by running the model on ONNX Runtime."""
    from modelopt.onnx.autocast import convert_to_mixed_precision

    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        half: ModelProto = convert_to_mixed_precision(str(path), keep_io_types=True, opset=opset(model))
    return half


CONVERTERS: dict[str, tuple[str, Callable[[ModelProto], ModelProto]]] = {
    "ours": ("onnx", to_fp16),
    "onnxconverter-common": ("onnxconverter-common", common),
    "onnxconverter-common with block lists": ("onnxconverter-common", common_with_blocks),
    "onnxruntime.transformers": ("onnxruntime", of_onnxruntime),
    "onnxruntime.transformers with block lists": ("onnxruntime", of_onnxruntime_with_blocks),
    "AutoCast": ("nvidia-modelopt", autocast),
}


def cases(fuzz: int) -> Iterator[Case]:
    """Small models, graphs of one difficulty each, and the fuzz."""
    for name in SMALL_MODELS:
        yield "models", name, exported(name), dict(batches(name)[0]), 50.0
    for name in SMALL_MODELS:
        model, images = exported(name), dict(batches(name)[0])
        quantized = insert_qdq(model, scales(model, images).scales, Placement.tensorrt)
        yield "models with Q/DQ", name, quantized, images, 25.0
    for name in HALF_GRAPHS:
        model = half_graph(name)
        yield "graphs", name, model, feeds(model), 40.0
    for seed in range(fuzz):
        drawn = sample(seed)
        yield "fuzz", str(seed), drawn.model, drawn.feeds, 40.0


def judge(convert: Callable[[ModelProto], ModelProto], case: Case) -> list[str]:
    """What is wrong with a converter's answer to one case."""
    _, _, model, fed, least_db = case
    copy = ModelProto()
    copy.CopyFrom(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            half = convert(copy)
    except Exception as fault:  # noqa: BLE001 (of whatever library: a finding)
        return [f"it crashes: {type(fault).__name__}: {' '.join(str(fault).split())[:100]}"]
    found = faults(model, half, fed, least_db)
    if case[0].startswith("models") and not found:
        computed, total = products(half)
        found += [f"{computed} of {total} products in FP16"] if computed < total else []
    return found


def apart(convert: Callable[[ModelProto], ModelProto], case: Case) -> list[str]:
    """`judge` in a process of its own: ONNX Runtime ends with some of the models that converters write."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=lambda: there.send(judge(convert, case)))
    process.start()
    there.close()
    try:
        found: list[str] = here.recv()
    except EOFError:
        found = ["the process ends with it"]
    process.join()
    return found


def main() -> None:
    """Print a row for each converter; what each breaks goes to benchmarks/results/fp16_converters.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("converters", nargs="*", choices=[[], *CONVERTERS], help="all, if none is named")
    parser.add_argument("--fuzz", type=int, default=300, help="random graphs")
    chosen = parser.parse_args()
    everything = list(cases(chosen.fuzz))
    total = Counter(case[0] for case in everything)
    rows = json.loads(RESULTS.read_text())["converters"] if RESULTS.exists() else {}
    for name in chosen.converters or CONVERTERS:
        package, convert = CONVERTERS[name]
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            print(f"{name}: {package} is not installed")
            continue
        found = {case[:2]: apart(convert, case) for case in everything}
        right = Counter(kind for (kind, _), wrong in found.items() if not wrong)
        row = {kind: f"{right[kind]} of {total[kind]}" for kind in total}
        print(f"| {name} | {version} | {' | '.join(row.values())} |", flush=True)
        wrong = {f"{kind}: {case}": "; ".join(what) for (kind, case), what in found.items() if what}
        rows[name] = {"version": version, **row, "wrong": wrong}
        manifest.write_json(RESULTS, {"command": COMMAND, "converters": rows})


if __name__ == "__main__":
    main()
