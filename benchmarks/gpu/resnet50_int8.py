"""ResNet-50 in INT8 in every way that TensorRT 8.6 has, beside FP16: builds cold and warm, speeds, distance from FP32.

Run: python -m benchmarks.gpu.resnet50_int8 PART [BUDGET_SECONDS], PART in {engines, ways, large}, each in a process of
its own.

`engines`: FP16 and INT8 with inputs of their own type, one profile up to batch 1,024, built without a timing cache
unless .gpu/timing has one; rates with one and two contexts. `ways`: what `engines` built, built once more from its
timing cache; explicit INT8; both of TensorRT's calibrators beside the portable cache. `large`: 640 pixels. Needs the
folder that make_models.py filled.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np

from benchmarks.gpu.common import OUT, Chosen, Report, build, give_timings, machine, settings, take_timings
from benchmarks.gpu.measure import MADE, WORK, Network, against, curve, drain, forever, gpu_state, open_engine
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Calibration, CalibrationAlgorithm, InputType, Precision, PrecisionMode
from enginewright.feeds import as_input
from enginewright.interface import batches
from enginewright.runtimes.tensorrt import RUNTIME, memory
from enginewright.runtimes.tensorrt.engine import TensorRTEngine
from enginewright.runtimes.tensorrt.interop import DeviceArray

AXES = batches(1, 256, 1024)
RATES = WORK / "rates.json"  # the number of contexts that was faster, by engine
PRECISIONS = {"fp16": Precision.fp16, "int8": Precision.int8}


def build_settings(key: str, **changed: Any) -> Chosen:
    """Native inputs, one profile for every batch, a timing cache for each precision."""
    values: dict[str, Any] = {
        "input_type": InputType.native,
        "timing_cache": str(WORK / "timing" / f"resnet50_{key}"),
    }
    return settings(256, AXES, **{**values, **changed})


def engine_path(name: str) -> Path:
    """Where the engine `name` lies."""
    return WORK / f"resnet50_{name}" / RUNTIME.engine_file


def make(
    name: str, network: Network, key: str, cache: Optional[CalibrationCache] = None, **changed: Any
) -> dict[str, Any]:
    """Build, seal, and say how it went."""
    recipe = QuantizationRecipe(cache or network.cache) if PRECISIONS[key] is Precision.int8 else None
    return build(network.onnx, PRECISIONS[key], engine_path(name).parent, build_settings(key, **changed), recipe)[1]


def rates(name: str, network: Network, batch: int = 256, contexts: int = 1, seconds: float = 1.5) -> dict[str, Any]:
    """Images/s with images on the device, and with copies from and to pinned memory; two turns each."""
    said: dict[str, Any] = {}
    with open_engine(engine_path(name), contexts=contexts, depth=2 + contexts) as engine:
        images = as_input(network.feeds(batch)["input"], engine.interface.inputs[0])
        pinned = [engine.pinned_inputs(batch) for _ in range(2 + contexts)]
        for one in pinned:
            one["input"][...] = images
        buffer = memory.DeviceBuffer(images.nbytes)
        buffer.copy_from_host(images)
        array = {"input": DeviceArray(buffer.address, images.shape, images.dtype)}
        for turn in ("", "_again"):
            said["device" + turn] = round(drain(engine.infer_many(forever([array]), on_device=True), batch, seconds), 1)
            said["with_copies" + turn] = round(drain(engine.infer_many(forever(pinned)), batch, seconds), 1)
        said["state"] = engine.state()
        buffer.free()
    return {**said, "gpu": gpu_state()}


def logits(name: str, network: Network) -> Any:
    """Outputs for the 96 validation images."""
    with open_engine(engine_path(name)) as engine:
        return logits_of(engine, network)


def logits_of(engine: TensorRTEngine, network: Network) -> Any:
    """Of an open engine."""
    return engine.infer({"input": as_input(network.validation, engine.interface.inputs[0])})[
        engine.interface.outputs[0].name
    ]


def engines(report: Report, network: Network) -> None:
    """Cold builds; INT8 with a float32 input where TensorRT does not take int8."""
    report.step("builds start from earlier timings", lambda: take_timings(WORK / "timing"))
    report.step("build fp16", partial(make, "fp16", network, "fp16"))
    if report.step("build int8", partial(make, "int8", network, "int8")) is None:
        report.step(
            "build int8 with float32 input", partial(make, "int8", network, "int8", input_type=InputType.float32)
        )
    fastest: dict[str, dict[str, float]] = {}
    for name in ("int8", "fp16"):
        for contexts in (1, 2):
            said = report.step(f"rates {name} contexts {contexts}", partial(rates, name, network, contexts=contexts))
            rate = max(said["with_copies"], said["with_copies_again"]) if said else 0.0
            if rate > fastest.get(name, {}).get("with_copies", 0.0):
                fastest[name] = {"contexts": contexts, "with_copies": rate}
    RATES.write_text(json.dumps(fastest))
    reference = np.load(MADE / "resnet50_fp32.npz")["logits"]
    report.step(
        "distance from FP32", lambda: {name: against(reference, logits(name, network)) for name in ("fp16", "int8")}
    )
    give_timings(WORK / "timing")


def own_calibrator(network: Network, algorithm: CalibrationAlgorithm) -> CalibrationCache:
    """TensorRT's calibrator over the same 96 images as the portable one, in batches of 16."""
    batches = [{"input": network.calibration[start : start + 16]} for start in range(0, len(network.calibration), 16)]
    return RUNTIME.calibrate(network.onnx, batches, Calibration(algorithm=algorithm, batch_size=16))


def compared(network: Network, algorithm: CalibrationAlgorithm) -> dict[str, Any]:
    """TensorRT's scales beside the portable ones, and the engine that they give."""
    began = time.monotonic()
    own = own_calibrator(network, algorithm)
    seconds = round(time.monotonic() - began, 1)
    own.write(OUT / f"resnet50_tensorrt_{algorithm.name}.cache")
    shared = sorted(set(own.scales) & set(network.cache.scales))
    ratios = [
        own.scales[tensor] / network.cache.scales[tensor] for tensor in shared if network.cache.scales[tensor] > 0
    ]
    name = f"int8_own_{algorithm.name}"
    built = make(name, network, "int8", own)
    return {
        "seconds_calibrating": seconds,
        "tensors": {"tensorrt": len(own.scales), "portable": len(network.cache.scales), "shared": len(shared)},
        "scale_ratio_percentiles_5_50_95": [round(float(value), 3) for value in np.percentile(ratios, [5, 50, 95])],
        "scale_of_input": {"tensorrt": own.scales.get("input"), "portable": network.cache.scales.get("input")},
        "quantized": [built["quantized"], built["quantizable"]],
        "build_seconds": built["build_seconds"],
        **against(np.load(MADE / "resnet50_fp32.npz")["logits"], logits(name, network)),
    }


def ways(report: Report, network: Network) -> None:
    """In a process that has built nothing: what is fast here, the timing cache's file made fast."""
    reference = np.load(MADE / "resnet50_fp32.npz")["logits"]
    report.step("warm int8, fresh process", partial(make, "int8_warm", network, "int8"), 40)
    report.step("warm fp16, fresh process", partial(make, "fp16_warm", network, "fp16"), 30)
    report.step(
        "build int8 explicit",
        partial(make, "int8_explicit", network, "int8", precision_mode=PrecisionMode.explicit),
        60,
    )
    for name in ("int8_explicit", "int8"):
        report.step(f"rates {name}", partial(rates, name, network, seconds=1.0), 10)
    report.step("distance explicit", lambda: against(reference, logits("int8_explicit", network)), 5)
    for algorithm in (CalibrationAlgorithm.entropy, CalibrationAlgorithm.minmax):
        report.step(f"TensorRT's {algorithm.name} calibrator", partial(compared, network, algorithm), 60)


def large(report: Report) -> None:
    """640 x 640 pixels, batch 1 and 8."""
    network = Network("resnet50", 640)
    for key, precision, seconds in (
        ("int8", Precision.int8, 110),
        ("fp16", Precision.fp16, 70),
        ("fp32", Precision.fp32, 40),
    ):

        def measured(key: str = key, precision: Precision = precision) -> dict[str, Any]:
            recipe = QuantizationRecipe(network.cache) if precision is Precision.int8 else None
            changed = settings(8, timing_cache=str(WORK / "timing" / f"resnet50_640_{key}"))
            path, built = build(network.onnx, precision, WORK / f"resnet50_640_{key}", changed, recipe)
            return {**built, **curve(path, network, 8)}

        report.step(f"640 {key}", measured, seconds)


def main(part: str, budget: float) -> int:
    """Run one part."""
    report = Report(f"resnet50_int8_{part}", budget)
    report.step("machine", lambda: {**machine(), "gpu": gpu_state()})
    if part == "large":
        large(report)
    else:
        {"engines": engines, "ways": ways}[part](report, Network("resnet50"))
    print("resnet50_int8", part, "failed:", report.failed() or "nothing", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 570))
