"""Time of each node of an ONNX Runtime session by its own profiler, in the form that TensorRT's layer profile has too."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginewright.runtimes.base import Array, LayerTime

if TYPE_CHECKING:
    import onnxruntime

# Operators that compute in integers whatever type their output has.
INTEGER_OPERATORS = ("QLinear", "ConvInteger", "MatMulInteger", "QGemm", "DynamicQuantize")
PRECISIONS = {"int8": "INT8", "uint8": "INT8", "float16": "FP16", "float": "FP32", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}


def layer_times(model_path: Path, options: onnxruntime.SessionOptions, feeds: Mapping[str, Array], runs: int) -> list[LayerTime]:
    """Run `feeds` `runs` times in a session of its own with profiling on, after one run that is not counted.

    Args:
        model_path: the engine's ONNX file.
        options: those of the engine's session; profiling is on only while the session here is made.
        feeds: input name -> array, at most the engine's largest batch.
        runs: how many times are averaged.

    Returns:
        Nodes of the optimized graph in the order of execution; times are wall-clock of the kernel, per whole batch.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
        finally:
            options.enable_profiling = False  # a session keeps what it was made with; the next one made with these options is not profiled
        for _ in range(runs + 1):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _summed(events, runs)


def _summed(events: list[dict[str, Any]], runs: int) -> list[LayerTime]:
    """Mean time of each node's kernel; the first run is left out, as it allocates."""
    seen: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            seen.setdefault(str(event["name"])[: -len("_kernel_time")], []).append(event)
    layers = []
    for name, of_node in seen.items():
        counted = of_node[-runs * max(1, len(of_node) // (runs + 1)) :]
        milliseconds = sum(float(event["dur"]) for event in counted) / 1000 / runs
        layers.append(LayerTime(name, milliseconds, _precision(counted[-1].get("args", {})), (name,)))
    return layers


def _precision(arguments: Mapping[str, Any]) -> str:
    """INT8 for integer kernels, else the type of the first input that has one."""
    if str(arguments.get("op_name", "")).startswith(INTEGER_OPERATORS):
        return "INT8"
    for side in ("input_type_shape", "output_type_shape"):
        for typed in arguments.get(side, []):
            for kind in typed:
                if kind in PRECISIONS:
                    return PRECISIONS[kind]
    return ""
