"""Time of each layer by TensorRT's IProfiler, joined with what the engine inspector says of its precision and of the
ONNX nodes fused into it.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from enginewright.runtimes.base import LayerTime
from enginewright.runtimes.tensorrt.contexts import Program
from enginewright.runtimes.tensorrt.layers import Layer, from_inspector

LAYERS_FILE = "layers.json"  # the engine inspector's JSON, which the builder writes beside the engine


def profile_layers(trt: ModuleType, program: Program, stream: Any, runs: int, layers_file: Path) -> list[LayerTime]:
    """Run an inference `runs` times, after one run that is not counted.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        program: from `Worker.own_program`. Its context keeps the profiler.
        stream: a PyCUDA stream.
        runs: how many times are averaged.
        layers_file: the inspector's JSON; without it precisions and operations stay empty.

    Raises:
        RuntimeUnavailable: TensorRT refuses the inference.
    """
    totals: dict[str, float] = {}

    class Profiler(trt.IProfiler):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            totals[layer_name] = totals.get(layer_name, 0.0) + ms

    context = program.context
    context.profiler = profiler = Profiler()
    context.enqueue_emits_profile = False  # else every enqueue waits for the GPU
    for run in range(runs + 1):
        program.run()
        stream.synchronize()
        context.report_to_profiler()
        if run == 0:
            totals.clear()
    del profiler
    known = read_layers(layers_file)
    return [_layer_time(name, total / runs, known.get(name)) for name, total in totals.items()]


def read_layers(path: Path) -> dict[str, Layer]:
    """Layers of the inspector's JSON by name, empty if there is no file. Raises EnginewrightError if it is no inspector
    JSON.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    return {layer.name: layer for layer in from_inspector(text)}


def _layer_time(name: str, milliseconds: float, layer: Optional[Layer]) -> LayerTime:
    nodes = layer.nodes if layer and layer.nodes else tuple(part.strip() for part in name.split(" + "))
    return LayerTime(name, milliseconds, (layer.precision if layer else None) or "", nodes)
