"""INT8 with layers left in FP16, on the GPU: whether the engine does what layers.yaml says, and what it costs.

Run: python -m benchmarks.gpu.mixed [BUDGET_SECONDS]. Needs the folder that make_models.py filled from a project in
which `search_mixed` ran.

efficientnet_lite0 at FP16, INT8 with and without bias correction, and two mixtures, both corrected:
layers/efficientnet_lite0.yaml (pinned) and .gpu/efficientnet_lite0.layers.yaml (searched), by per-layer constraints
(implicit) and by Q/DQ nodes left out (explicit). Precision of every convolution and matrix product by the engine
inspector, throughput in turns, distance from the FP32 of ONNX Runtime. `_obliged`: the layers that the mixture leaves
in INT8 are constrained too. All builds share a timing cache: how long they take is not the question here.
"""

from __future__ import annotations

import contextlib
import sys
import unittest.mock
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx

from benchmarks.gpu.common import Report, build, give_timings, machine, settings
from benchmarks.gpu.measure import (
    MADE,
    WORK,
    Network,
    against,
    drain,
    forever,
    gpu_state,
    on_device,
    open_engine,
    outputs,
)
from enginewright.calibration.correction import BiasCorrection
from enginewright.calibration.mixture import Mixture
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import QUANTIZED, Precision, PrecisionMode
from enginewright.graph.qdq import quantizable
from enginewright.runtimes.tensorrt import builder, layers
from enginewright.runtimes.tensorrt.constraints import keep_in_half

NAME, LARGEST = "efficientnet_lite0", 128
BATCHES, TURNS = (128, 1, 8), 3
LAYERS, PINNED = MADE / f"{NAME}.layers.yaml", Path("layers") / f"{NAME}.yaml"
ENGINES: dict[
    str, tuple[PrecisionMode, Optional[Path]]
] = {  # the mixture, None: INT8 throughout; the most needed first
    "fp16": (PrecisionMode.implicit, None),
    "int8_corrected": (PrecisionMode.implicit, None),
    "pinned": (PrecisionMode.implicit, PINNED),
    "layers": (PrecisionMode.implicit, LAYERS),
    "pinned_explicit": (PrecisionMode.explicit, PINNED),
    "int8": (PrecisionMode.implicit, None),
    "pinned_obliged": (PrecisionMode.implicit, PINNED),
    "layers_explicit": (PrecisionMode.explicit, LAYERS),
    "layers_obliged": (PrecisionMode.implicit, LAYERS),
}
NEEDED, RATES_SECONDS = 6, 80.0  # engines that are built whatever the budget; what the others must leave for the rates


@contextlib.contextmanager
def obliged(names: Collection[str]) -> Iterator[None]:
    """Within, the builder must compute in INT8 which of these layers it need not compute in FP16."""

    def both(trt: Any, network: Any, config: Any, nodes: Collection[str]) -> list[str]:
        for layer in (network.get_layer(index) for index in range(network.num_layers)):
            if layer.name in names and layer.name not in nodes:
                layer.precision = trt.DataType.INT8
        return keep_in_half(trt, network, config, nodes)

    with unittest.mock.patch.object(builder, "keep_in_half", both):
        yield


def make(key: str, network: Network) -> dict[str, Any]:
    """Build one engine; of the mixed ones also which layers run otherwise than the YAML says."""
    mode, chosen_in = ENGINES[key]
    precision = Precision.fp16 if key == "fp16" else Precision.int8_mixed if chosen_in else Precision.int8
    model = onnx.load(str(network.onnx))
    mixture = Mixture.read(chosen_in).resolved(model, str(chosen_in)) if chosen_in else Mixture(())
    timing = str(WORK / "timing" / f"{NAME}_mixed")
    correction = None if key == "int8" else BiasCorrection.read(MADE / f"{NAME}.bias_correction.json")
    recipe = QuantizationRecipe(network.cache, correction) if precision in QUANTIZED else None
    names = [node.name for node in quantizable(model)]
    chosen_settings = settings(LARGEST, precision_mode=mode, timing_cache=timing)
    with obliged(names) if key.endswith("_obliged") else contextlib.nullcontext():
        path, said = build(
            network.onnx, precision, WORK / f"{NAME}_{key}", chosen_settings, recipe, mixture.nodes(model)
        )
    if precision not in QUANTIZED:
        return said
    found = layers.from_inspector(path.with_name("layers.json").read_text())
    in_int8, chosen = set(layers.running_in("INT8", names, found)), set(mixture.names)
    return {
        **said,
        "layers_in_yaml": len(chosen),
        "in_int8_though_chosen_for_fp16": sorted(chosen & in_int8),
        "in_float_though_not_chosen": sorted(set(names) - chosen - in_int8),
        "equals_yaml": in_int8 == set(names) - chosen,
    }


def rates(network: Network, batch: int) -> dict[str, dict[str, list[float]]]:
    """Images/s of every engine with images on the device, and with copies; in turns, so that the GPU's temperature
    falls on all alike.
    """
    said: dict[str, dict[str, list[float]]] = {}
    for _ in range(TURNS):
        for key in ENGINES:
            path = WORK / f"{NAME}_{key}" / "engine.trt"
            if not path.exists():
                continue
            with open_engine(path) as engine:
                buffer, array = on_device(engine, network.feeds(batch))
                pinned = [engine.pinned_inputs(batch) for _ in range(3)]
                for one in pinned:
                    one["input"][...] = network.feeds(batch)["input"]
                own = said.setdefault(key, {"device": [], "with_copies": []})
                own["device"].append(
                    round(drain(engine.infer_many(forever([{"input": array}]), on_device=True), batch, 0.5), 1)
                )
                own["with_copies"].append(round(drain(engine.infer_many(forever(pinned)), batch, 0.5), 1))
                buffer.free()
    return said


def layer_times(network: Network) -> dict[str, Any]:
    """Of each engine its layers at the largest batch, in the engine's order: milliseconds and precision."""
    said: dict[str, Any] = {}
    for key in ENGINES:
        path = WORK / f"{NAME}_{key}" / "engine.trt"
        if path.exists():
            with open_engine(path) as engine:
                times = engine.layer_times(network.feeds(LARGEST), 20)
            said[key] = [[layer.name[:120], round(layer.milliseconds, 5), layer.precision] for layer in times]
    return said


def distance(network: Network) -> dict[str, Any]:
    """Agreement with FP32 and SQNR on the validation photographs."""
    reference = np.load(MADE / f"{NAME}_fp32.npz")["logits"]
    paths = {key: WORK / f"{NAME}_{key}" / "engine.trt" for key in ENGINES}
    return {key: against(reference, outputs(path, network)) for key, path in paths.items() if path.exists()}


def main(budget: float) -> int:
    """Everything, the engines first."""
    report = Report("mixed", budget)
    report.step("machine", lambda: {**machine(), "gpu": gpu_state()})
    for path in (PINNED, LAYERS):
        report.step(path.name, path.read_text)
    network = Network(NAME)
    for place, key in enumerate(ENGINES):
        report.step(f"build {key}", partial(make, key, network), 50 + RATES_SECONDS if place >= NEEDED else 0)
    report.step("distance from FP32", partial(distance, network))
    report.step("layers", partial(layer_times, network))
    for batch in BATCHES:
        report.step(f"rates at batch {batch}", partial(rates, network, batch), 20)
    give_timings(WORK / "timing")
    print("mixed failed:", report.failed() or "nothing", flush=True)
    return 1 if report.failed() else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 570))
