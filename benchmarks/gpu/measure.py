"""Throughput, build times, accuracy and memory of real networks on the GPU.

Run: python -m benchmarks.gpu.measure PART [BUDGET_SECONDS], PART in {resnet50, efficientnet, rest}.

`resnet50` and `efficientnet`: engines at three precisions, each against a bare enqueue loop, with copies, and rebuilt
with a warm timing cache. `rest`: memory over 100,000 inferences and 50 loads, both calibrators, ResNet-50 at 640
pixels. Needs the folder that make_models.py filled.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from benchmarks.gpu import resnet50
from benchmarks.gpu.common import Report, build, host_rss_mib, machine, settings, sqnr_db
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Calibration, CalibrationAlgorithm, ChannelOrder, Precision, PrecisionMode, Preprocessing
from enginewright.data.preprocessing import to_input
from enginewright.runtimes.base import LoadOptions
from enginewright.runtimes.tensorrt import RUNTIME, memory
from enginewright.runtimes.tensorrt.engine import TensorRTEngine, load_engine

MADE, WORK = Path(".gpu"), Path("/tmp/measure")
BATCHES = (1, 8, 32, 128, 256)
SECONDS = 0.7  # of each throughput; every pair is taken twice, interleaved
PREPROCESSING = {
    "resnet50": Preprocessing(
        resize=224, size=[224, 224], channels=ChannelOrder.rgb, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    ),
    "efficientnet_lite0": Preprocessing(
        resize=224, size=[224, 224], channels=ChannelOrder.rgb, scale=1.0, mean=[127.0] * 3, std=[128.0] * 3
    ),
}


class Network:
    """A model with its images and portable cache."""

    def __init__(self, name: str, size: int = 224) -> None:
        self.name, self.onnx = name, WORK / f"{name}_{size}.onnx"
        images = np.load(MADE / "images.npz")
        preprocessing = PREPROCESSING[name]
        self.calibration = to_input(images["calibration"], preprocessing)
        self.validation = to_input(images["validation"], preprocessing)
        if size != 224:
            self.validation = np.ascontiguousarray(
                np.pad(self.validation[:32], ((0, 0), (0, 0), (0, size - 224), (0, size - 224)), mode="wrap")
            )
        self.cache = CalibrationCache.read(MADE / f"{name}.cache")
        if not self.onnx.exists():
            WORK.mkdir(parents=True, exist_ok=True)
            if name == "resnet50":
                resnet50.write_onnx(self.onnx, dict(np.load(MADE / "resnet50.npz")), size)
            else:
                shutil.copy(MADE / f"{name}.onnx", self.onnx)

    def feeds(self, batch: int) -> dict[str, npt.NDArray[np.float32]]:
        """`batch` real images, repeated where there are fewer."""
        return {"input": np.ascontiguousarray(self.validation[np.arange(batch) % len(self.validation)])}


def open_engine(path: Path, **options: Any) -> TensorRTEngine:
    """Load as an application would."""
    import tensorrt as trt

    return load_engine(trt, path, RUNTIME.fingerprint(), LoadOptions(**options))


def rate(batch: int, step: Callable[[], None], finish: Callable[[], None], seconds: float = SECONDS) -> float:
    """Images per second of `step` over at least `seconds`; `finish` waits for the GPU and is inside of the time."""
    for _ in range(5):
        step()
    finish()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(10):
            step()
        done += 10
    finish()
    return batch * done / (time.perf_counter() - began)


def drain(outputs: Iterator[Any], batch: int, seconds: float = SECONDS) -> float:
    """Images per second of an endless pipeline."""
    for _ in range(8):
        next(outputs)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        next(outputs)
        done += 1
    elapsed = time.perf_counter() - began
    close = getattr(outputs, "close", None)
    if close:
        close()
    return batch * done / elapsed


def forever(feeds: list[Any]) -> Iterator[Any]:
    """The feeds over and over."""
    while True:
        yield from feeds


def on_device(engine: TensorRTEngine, feeds: dict[str, Any]) -> tuple[memory.DeviceBuffer, Any]:
    """The input as a CUDA array that stays on the GPU."""
    buffer = memory.DeviceBuffer(feeds["input"].nbytes)
    buffer.copy_from_host(feeds["input"])
    from enginewright.runtimes.tensorrt.interop import DeviceArray

    assert engine.interface.inputs[0].name == "input"
    return buffer, DeviceArray(buffer.address, feeds["input"].shape, feeds["input"].dtype)


def loops(engine: TensorRTEngine, network: Network, batch: int) -> dict[str, float]:
    """Our pipeline and a bare enqueue loop on the same engine, in turn; device buffers, then with copies."""
    feeds, cuda = network.feeds(batch), memory.driver()
    buffer, array = on_device(engine, feeds)
    said: dict[str, float] = {}
    program, stream = engine.bare_program(feeds)
    for turn in ("", "_again"):
        said["bare" + turn] = rate(batch, program.run, stream.synchronize)
        said["ours" + turn] = drain(engine.infer_many(forever([{"input": array}]), on_device=True), batch)
    pinned = [engine.pinned_inputs(batch) for _ in range(4)]
    for one in pinned:
        one["input"][...] = feeds["input"]
    for turn in ("", "_again"):
        said["with_copies" + turn] = drain(engine.infer_many(forever(pinned)), batch)
    upload = cuda.Stream()
    said["copy_in_only"] = rate(
        batch, lambda: cuda.memcpy_htod_async(buffer.address, pinned[0]["input"], upload), upload.synchronize, 0.3
    )
    said["from_pageable"] = drain(engine.infer_many(forever([feeds])), batch, 0.4)
    seconds = engine.device_seconds({"input": array}, 50 if batch > 8 else 300)
    said["device_ms_median"] = float(np.median(seconds)) * 1e3
    latency = []
    for _ in range(60 if batch > 8 else 400):
        began = time.perf_counter()
        engine.infer(feeds)
        latency.append(time.perf_counter() - began)
    said["infer_ms_p50"], said["infer_ms_p99"] = (float(np.percentile(latency[10:], q)) * 1e3 for q in (50, 99))
    compute = max(said["bare"], said["bare_again"])
    said["ours_over_bare"] = (said["ours"] + said["ours_again"]) / (said["bare"] + said["bare_again"])
    said["copies_over_slower"] = max(said["with_copies"], said["with_copies_again"]) / min(
        compute, said["copy_in_only"]
    )
    buffer.free()
    return {name: round(value, 4) for name, value in said.items()}


def curve(path: Path, network: Network, largest: int) -> dict[str, Any]:
    """All batch sizes of one engine. A fresh load for each, so that no buffer of another is left."""
    said: dict[str, Any] = {}
    for batch in (batch for batch in BATCHES if batch <= largest):
        with open_engine(path) as engine:
            said[str(batch)] = loops(engine, network, batch)
            said["state"] = engine.state()
        line = said[str(batch)]
        print(
            f"     {network.name} {path.parent.name} b{batch}: "
            + " ".join(f"{name}={value:,.4g}" for name, value in line.items()),
            flush=True,
        )
    return said


def outputs(path: Path, network: Network) -> npt.NDArray[np.float32]:
    """Logits of the validation images."""
    with open_engine(path) as engine:
        found: npt.NDArray[np.float32] = engine.infer({"input": network.validation})[engine.interface.outputs[0].name]
    return found


def against(reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> dict[str, float]:
    """Agreement of the first choice, and SQNR."""
    return {
        "agreement": float(np.mean(reference.argmax(1) == other.argmax(1))),
        "sqnr_db": sqnr_db(reference, other),
        "images": len(reference),
    }


def gpu_state() -> str:
    """Clocks, temperature and power as they are."""
    query = "name,clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active"
    return subprocess.run(
        ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    ).stdout.strip()


def precisions(report: Report, name: str, largest: int) -> None:
    """Cold builds and curves in the order of importance; accuracy; warm rebuilds."""
    network = Network(name)
    engines: dict[str, Path] = {}
    said: dict[str, dict[str, Any]] = {}
    plans: list[tuple[str, Precision, PrecisionMode, float]] = [
        ("fp16", Precision.fp16, PrecisionMode.implicit, 110),
        ("int8", Precision.int8, PrecisionMode.implicit, 230),
        ("fp32", Precision.fp32, PrecisionMode.implicit, 45),
        # Last, with the implicit one's timings: its cold time is not the question here.
        ("int8_explicit", Precision.int8, PrecisionMode.explicit, 60),
    ]

    def make(
        key: str, precision: Precision, mode: PrecisionMode, suffix: str = "", timing: Optional[str] = None
    ) -> dict[str, Any]:
        changed = settings(
            largest, precision_mode=mode, timing_cache=str(WORK / "timing" / (timing or f"{name}_{key}"))
        )
        recipe = QuantizationRecipe(network.cache) if precision is Precision.int8 else None
        engines[key + suffix], built = build(network.onnx, precision, WORK / f"{name}_{key}{suffix}", changed, recipe)
        said[key + suffix] = built
        return built

    def build_and_measure(
        key: str, precision: Precision, mode: PrecisionMode, needs: float, timing: Optional[str] = None
    ) -> None:
        report.step(f"{name} build {key}", partial(make, key, precision, mode, timing=timing), needs)
        if key in engines:
            report.step(f"{name} curve {key}", partial(curve, engines[key], network, largest), 25)

    def accuracy() -> dict[str, Any]:
        reference = outputs(engines["fp32"], network)
        return {key: against(reference, outputs(path, network)) for key, path in engines.items() if key != "fp32"}

    for key, precision, mode, needs in plans[:3]:
        build_and_measure(key, precision, mode, needs)
    report.step(f"{name} gpu after", gpu_state)
    report.step(f"{name} accuracy", accuracy)
    for key, precision, mode, needs in plans[:3]:
        if key in engines:
            report.step(f"{name} warm {key}", partial(make, key, precision, mode, "_warm"), needs * 0.3)
    ratios = {
        key: round(said[f"{key}_warm"]["build_seconds"] / said[key]["build_seconds"], 3)
        for key in said
        if f"{key}_warm" in said
    }
    cold, warm = (sum(said[key + suffix]["build_seconds"] for key in ratios) for suffix in ("", "_warm"))
    report.step(
        f"{name} warm over cold",
        lambda: {**ratios, "cold_seconds": cold, "warm_seconds": warm, "all": round(warm / max(cold, 1e-9), 3)},
    )
    build_and_measure(*plans[3], timing=f"{name}_int8")
    report.step(f"{name} accuracy explicit", accuracy)


def steady(path: Path, network: Network, counts: tuple[int, ...] = (100, 100_000)) -> dict[str, Any]:
    """Device memory (of the whole GPU) and host memory after so many inferences; pipelined ones are part of it."""
    said: dict[str, Any] = {}
    with memory.primary_context(), open_engine(path) as engine:
        feeds, done = network.feeds(1), 0
        for out in engine.infer_many(feeds for _ in range(50)):
            assert out
        for count in counts:
            while done < count:
                engine.infer(feeds)
                done += 1
            said[f"after_{count}"] = {"gpu_free_bytes": memory.memory_info()[0], "rss_mib": host_rss_mib()}
    first, last = said[f"after_{counts[0]}"], said[f"after_{counts[-1]}"]
    said["gpu_bytes_grown"] = first["gpu_free_bytes"] - last["gpu_free_bytes"]
    said["rss_mib_grown"] = round(last["rss_mib"] - first["rss_mib"], 2)
    return said


def cycles(path: Path, network: Network, count: int = 50) -> dict[str, Any]:
    """Device and host memory after each of `count` load, infer, unload cycles."""
    free, rss = [], []
    with memory.primary_context():
        for _ in range(count):
            with open_engine(path) as engine:
                engine.infer(network.feeds(4))
            free.append(memory.memory_info()[0])
            rss.append(host_rss_mib())
    grown = {
        f"from_{start}": {"gpu_bytes": free[start] - free[-1], "rss_mib": round(rss[-1] - rss[start], 2)}
        for start in (0, 4, 9)
    }
    return {"grown": grown, "rss_mib": rss[::7], "gpu_free_bytes": free[::7], "ours_not_freed": memory.allocated()}


def calibrators(network: Network, fp32: Path, portable: Path) -> dict[str, Any]:
    """TensorRT's own calibrator beside the portable one, on the same model and images."""
    began = time.monotonic()
    batches = [{"input": network.calibration[start : start + 16]} for start in range(0, len(network.calibration), 16)]
    own = RUNTIME.calibrate(network.onnx, batches, Calibration(algorithm=CalibrationAlgorithm.entropy, batch_size=16))
    seconds = round(time.monotonic() - began, 1)
    shared = sorted(set(own.scales) & set(network.cache.scales))
    ratios = np.array(
        [own.scales[tensor] / network.cache.scales[tensor] for tensor in shared if network.cache.scales[tensor] > 0]
    )
    changed = settings(128, timing_cache=str(WORK / "timing" / f"{network.name}_int8"))
    path, built = build(
        network.onnx, Precision.int8, WORK / f"{network.name}_own_cache", changed, QuantizationRecipe(own)
    )
    reference = outputs(fp32, network)
    return {
        "seconds_tensorrt_calibrator": seconds,
        "tensors": {"tensorrt": len(own.scales), "portable": len(network.cache.scales), "shared": len(shared)},
        "scale_ratio_percentiles_5_50_95": [round(float(value), 3) for value in np.percentile(ratios, [5, 50, 95])],
        "tensorrt": {**against(reference, outputs(path, network)), "quantized": built["quantized"]},
        "portable": against(reference, outputs(portable, network)),
    }


def rest(report: Report) -> None:
    """On the engines of the part `resnet50`, built here where that did not run; then 640 pixels, and TensorRT's own
    calibrator.
    """
    network, engines = Network("resnet50"), {}

    def need(key: str, precision: Precision) -> Path:
        path = WORK / f"resnet50_{key}" / RUNTIME.engine_file
        if not path.exists():
            recipe = QuantizationRecipe(network.cache) if precision is Precision.int8 else None
            changed = settings(256, timing_cache=str(WORK / "timing" / f"resnet50_{key}"))
            build(network.onnx, precision, path.parent, changed, recipe)
        engines[key] = path
        return path

    report.step("engines", lambda: [str(need("int8", Precision.int8)), str(need("fp32", Precision.fp32))])
    report.step("memory inferences", lambda: steady(engines["int8"], network), 60)
    report.step("memory cycles", lambda: cycles(engines["int8"], network), 40)

    big = Network("resnet50", 640)

    def at_640(key: str, precision: Precision) -> dict[str, Any]:
        recipe = QuantizationRecipe(big.cache) if precision is Precision.int8 else None
        changed = settings(8, timing_cache=str(WORK / "timing" / f"resnet50_640_{key}"))
        path, built = build(big.onnx, precision, WORK / f"resnet50_640_{key}", changed, recipe)
        return {**built, **curve(path, big, 8)}

    for key, precision, seconds in (
        ("int8", Precision.int8, 110),
        ("fp16", Precision.fp16, 70),
        ("fp32", Precision.fp32, 40),
    ):
        report.step(f"resnet50 640 {key}", partial(at_640, key, precision), seconds)
    report.step("calibrators", lambda: calibrators(network, engines["fp32"], engines["int8"]), 80)


def main(part: str, budget: float) -> int:
    """Run one part."""
    report = Report(f"measure_{part}", budget)
    report.step("machine", lambda: {**machine(), "gpu": gpu_state()})
    if part == "resnet50":
        precisions(report, "resnet50", 256)
    elif part == "efficientnet":
        precisions(report, "efficientnet_lite0", 128)
    else:
        rest(report)
    print("measure", part, "failed:", report.failed() or "nothing", flush=True)
    return 1 if report.failed() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 570))
