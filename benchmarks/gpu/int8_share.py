"""How much of ViT-B/16, of a U-Net with ConvTranspose and of ResNet-50 really runs in INT8, by each way that there is,
and at what speed beside FP16.

Where ONNX Runtime and PyTorch are, once: python -m benchmarks.gpu.int8_share prepare
On the GPU machine: python -m benchmarks.gpu.int8_share MODEL [WAY,WAY,...] [SECONDS]

MODEL is vit, unet or resnet50; without ways all of WAYS[MODEL], in that order, as long as SECONDS last. `prepare`
fills .gpu/int8_share with scales, FP32's answers and the few numbers that are fitted (under 2 MiB): the weights come
from a seed on both sides. Batch 8, optimization level 2, all builds of a model share a timing cache. Each way is
measured in turns with the FP16 engine, in one process. $OUT/int8_share.json and $OUT/int8_share_raw.tar.gz (the
inspector's layers, and what the build log says of Myelin) are whole after every way, and hold what earlier calls on
the same machine found.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tarfile
import unittest.mock
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.gpu import resnet50, share_models
from benchmarks.gpu.common import OUT, Chosen, Report, machine, settings, sqnr_db
from enginewright import manifest
from enginewright.benchmark.int8_speed import slower
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Precision, PrecisionMode
from enginewright.runtimes.base import BuildJob, BuiltEngine
from enginewright.runtimes.int8 import Int8Share, refusal
from enginewright.runtimes.tensorrt import RUNTIME, build_plan as precision, builder, configuration, parser, placing
from enginewright.runtimes.tensorrt.log import BuildLog
from enginewright.runtimes.tensorrt.mode import features, recommended

Array = npt.NDArray[Any]
MADE, WORK = Path(".gpu/int8_share"), Path("/tmp/int8_share")
BATCH, TURNS, TURN_SECONDS, CALIBRATION, VALIDATION = 8, 3, 0.4, 16, 16
SIZES = {"vit": 224, "unet": 128, "resnet50": 224}
LINES = 4000  # of a build's log that are kept
LAST: deque[str] = deque(maxlen=60)  # lines of a build's log, whatever they are about
MYELIN = re.compile(r"foreignnode|myelin", re.IGNORECASE)
INT8_KERNEL = re.compile(rb"[\w.]{0,60}(?:i8i8|imma|int8|s8s8)[\w.]{0,80}")
HALF_KERNEL = re.compile(rb"[\w.]{0,60}(?:f16f16|hmma|h16816|fp16)[\w.]{0,80}")


@dataclass(frozen=True)
class Way:
    """How an engine is asked for."""

    precision: Precision
    mode: PrecisionMode
    placing: placing.Placing = placing.DEFAULT
    half_norms: bool = False  # LayerNormalization and residual sums obliged to FP16
    misjudged: bool = False  # auto, as if the graph spoke for implicit: what a fallback looks like
    half: tuple[str, ...] = ()  # operators kept in FP16
    level: int = 2  # builder_optimization_level


PLAIN = placing.Placing()
ALL = {
    "fp16": Way(Precision.fp16, PrecisionMode.implicit),
    "explicit": Way(Precision.int8, PrecisionMode.explicit, PLAIN),
    "implicit": Way(Precision.int8, PrecisionMode.implicit),
    "products": Way(Precision.int8, PrecisionMode.explicit, placing.Placing(products_in_float=True)),
    "sums": Way(Precision.int8, PrecisionMode.explicit, placing.Placing(sums_in_int8=True)),
    "half_norms": Way(Precision.int8, PrecisionMode.explicit, PLAIN, half_norms=True),
    "fallback": Way(Precision.int8, PrecisionMode.auto, PLAIN, misjudged=True),
    "auto": Way(Precision.int8, PrecisionMode.auto, PLAIN),
    "half_transposed": Way(Precision.int8, PrecisionMode.explicit, PLAIN, half=("ConvTranspose",)),
    "half_transposed_implicit": Way(Precision.int8, PrecisionMode.implicit, PLAIN, half=("ConvTranspose",)),
    "half_rest": Way(Precision.int8, PrecisionMode.explicit, PLAIN, half=("Conv",)),
    "explicit_level_3": Way(Precision.int8, PrecisionMode.explicit, PLAIN, level=3),
}
WAYS = {
    "vit": ("fp16", "explicit", "products", "sums", "half_norms", "implicit"),
    "unet": ("fp16", "explicit", "implicit", "auto", "half_transposed", "half_transposed_implicit"),
    "resnet50": ("fp16", "implicit", "explicit"),
}


def write_model(name: str, path: Path) -> None:
    """The ONNX, the same bytes wherever NumPy draws it."""
    if name == "resnet50":
        resnet50.write_onnx(path, dict(np.load(MADE / "resnet50.npz")), SIZES[name])
    elif name == "vit":
        share_models.vit(path)
    else:
        share_models.unet(path)


def validation(name: str) -> Array:
    """Images that scales were not taken from."""
    return share_models.images(VALIDATION, SIZES[name], seed=2)


def prepare() -> None:
    """Scales and FP32's answers, from ONNX Runtime."""
    from enginewright.config import Calibration, CalibrationAlgorithm
    from enginewright.runtimes import runtime_named
    from enginewright.runtimes.onnxruntime.session import open_session

    MADE.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        images = share_models.images(CALIBRATION, size, seed=1)
        if name == "resnet50":
            np.savez_compressed(MADE / "resnet50.npz", **resnet50.fit(images))  # type: ignore[arg-type]
        path = WORK / f"{name}.onnx"
        write_model(name, path)
        batches = ({"input": images[start : start + 4]} for start in range(0, CALIBRATION, 4))
        chosen = Calibration(algorithm=CalibrationAlgorithm.entropy, batch_size=4)
        runtime_named("onnxruntime").calibrate(path, batches, chosen).write(MADE / f"{name}.cache")
        session = open_session(str(path))
        answers = np.concatenate([session.run(None, {"input": image[None]})[0] for image in validation(name)])
        np.savez_compressed(
            MADE / f"{name}_fp32.npz", answers=answers.astype(np.float16 if answers.size > 1e6 else np.float32)
        )
        print(name, manifest.sha256(path)[:12], answers.shape, f"spread {answers.std():.3f}", flush=True)


@contextlib.contextmanager
def asked(way: Way, log: list[str]) -> Iterator[None]:
    """Within, a build does what the way says, is not refused, and what the log says of Myelin is kept."""
    add, parse, configure = BuildLog.add, parser.parse, configuration.configure

    def listen(self: BuildLog, severity: str, message: str) -> None:
        if MYELIN.search(message) and len(log) < LINES:
            log.append(f"{severity}: {message[:1000]}")
        LAST.append(f"{severity}: {message[:400]}")
        add(self, severity, message)

    def parsed(session: Any, model: onnx.ModelProto, source: Path) -> Any:
        network = parse(session, model, source)
        if way.half_norms:
            oblige(session.trt, network, placing.residual_sums(onnx.load(str(source))))
        return network

    def configured(trt: Any, config: Any, *settings: Any) -> dict[str, Any]:
        if way.half_norms:
            config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
        return configure(trt, config, *settings)

    patch = unittest.mock.patch.object
    with contextlib.ExitStack() as held:
        held.enter_context(patch(BuildLog, "add", listen))
        held.enter_context(patch(builder, "parse", parsed))
        held.enter_context(patch(builder, "configure", configured))
        held.enter_context(patch(placing, "CHOSEN", way.placing))
        if way.misjudged:
            held.enter_context(patch(precision, "recommended", lambda _: (PrecisionMode.implicit, "told so")))
        else:
            held.enter_context(
                patch(Int8Share, "none", False)
            )  # an engine that would be refused is measured all the same
        yield


def oblige(trt: Any, network: Any, sums: Sequence[str]) -> None:
    """FP16 for normalization (which 8.6 computes in FP32 unless told) and residual sums."""
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        normalizes = layer.type == trt.LayerType.NORMALIZATION
        if normalizes or layer.name in sums:
            layer.precision = trt.DataType.HALF
            layer.set_output_type(0, trt.DataType.HALF)
        if normalizes:
            layer.__class__ = trt.INormalizationLayer
            layer.compute_precision = trt.DataType.HALF


def build_settings(name: str, way: Way) -> Chosen:
    """Batch 8 throughout, level 2."""
    timing = str(WORK / "timing" / name)
    return settings(BATCH, precision_mode=way.mode, optimization_level=way.level, timing_cache=timing)


def make(name: str, key: str) -> dict[str, Any]:
    """Build one engine; what it says of itself."""
    way, model, folder = ALL[key], WORK / f"{name}.onnx", WORK / f"{name}_{key}"
    if not model.exists():
        write_model(name, model)
    recipe = None
    if way.precision is Precision.int8:
        recipe = QuantizationRecipe(CalibrationCache.read(MADE / f"{name}.cache"))
    chosen, log = build_settings(name, way), list[str]()
    folder.mkdir(parents=True, exist_ok=True)
    half = [node.name for node in onnx.load(str(model)).graph.node if node.op_type in way.half]
    try:
        with asked(way, log):
            built = RUNTIME.build(model, BuildJob(way.precision, chosen.build, recipe, half, chosen.axes))
    finally:
        (folder / "myelin.log").write_text("\n".join(log))
        (folder / "end.log").write_text("\n".join(LAST))
    for file, content in built.files.items():
        (folder / file).write_bytes(content)
    path = folder / RUNTIME.engine_file
    path.write_bytes(built.engine_bytes)
    manifest.seal(path, "int8_share", [model], RUNTIME.fingerprint(), dict(built.settings))
    return said(built, key)


def said(built: BuiltEngine, key: str) -> dict[str, Any]:
    """Shares, findings and warnings.

    And kernels by the names that the plan holds, as the inspector says nothing of what is inside a fused node.
    """
    share = Int8Share(**built.int8) if built.int8 else None
    none = share is not None and share.asked and not share.layers["int8"] and not share.layers["unknown"]
    warned = Counter(re.sub(r"[\w./]*/[\w./]+", "*", text) for text in built.warnings)
    return {
        "mode": built.settings["precision_mode"],
        "engine_mib": round(len(built.engine_bytes) / 2**20, 1),
        "layers": dict(built.layers),
        "quantized": [built.quantized, built.quantizable],
        "int8": dict(built.int8),
        "findings": list(built.findings),
        "would_be_refused": refusal(share, "TensorRT", "...") if share is not None and none else "",
        "warnings": [f"{text[:200]} (x {count})" for text, count in warned.most_common(12)],
        "int8_kernels": kernels(INT8_KERNEL, built.engine_bytes),
        "half_kernels": kernels(HALF_KERNEL, built.engine_bytes),
        "way": key,
    }


def kernels(pattern: re.Pattern[bytes], plan: bytes) -> dict[str, int]:
    """Names of kernels in a plan, the most frequent first."""
    return dict(Counter(found.decode("ascii", "replace") for found in pattern.findall(plan)).most_common(8))


def measure(name: str, key: str) -> dict[str, Any]:
    """Images/s on the device in turns with FP16, and the distance from FP32."""
    from benchmarks.gpu.measure import drain, forever, gpu_state, on_device, open_engine

    images = validation(name)
    feeds, reference = {"input": images[:BATCH]}, np.load(MADE / f"{name}_fp32.npz")["answers"].astype(np.float32)
    paths = {which: WORK / f"{name}_{which}" / RUNTIME.engine_file for which in dict.fromkeys(("fp16", key))}
    rates: dict[str, list[float]] = {which: [] for which in paths}
    answers: dict[str, Array] = {}
    for _ in range(TURNS):
        for which, path in paths.items():
            with open_engine(path) as engine:
                buffer, array = on_device(engine, feeds)
                rates[which].append(
                    round(drain(engine.infer_many(forever([{"input": array}]), on_device=True), BATCH, TURN_SECONDS), 1)
                )
                buffer.free()
                if which not in answers:
                    pieces = [
                        engine.infer({"input": images[start : start + BATCH]}) for start in range(0, VALIDATION, BATCH)
                    ]
                    answers[which] = np.concatenate([piece[engine.interface.outputs[0].name] for piece in pieces])
    best = {which: float(np.median(found)) for which, found in rates.items()}
    finding = slower("int8", best[key], best["fp16"], "images/s", f"batch {BATCH}, on the device")
    return {
        "images_per_s": rates,
        "findings": [finding] if finding else [],
        "to_fp16": round(best[key] / best["fp16"], 3),
        "sqnr_db": {which: sqnr_db(reference, found) for which, found in answers.items()},
        "gpu": gpu_state(),
    }


def keep(report: Report) -> None:
    """Bring the results of all calls so far, and the raw files, into $OUT."""
    kept = WORK / "results" / report.path.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(report.path, kept)
    for other in kept.parent.glob("int8_share_*.json"):
        if other.name != report.path.name:
            shutil.copy(other, OUT / other.name)
    with tarfile.open(OUT / "int8_share_raw.tar.gz", "w:gz") as archive:
        for raw in sorted([*WORK.glob("*/layers.json"), *WORK.glob("*/myelin.log"), *WORK.glob("*/end.log")]):
            archive.add(raw, arcname=f"{raw.parent.name}/{raw.name}")


def main(name: str, ways: Sequence[str], budget: float) -> int:
    """Each way: build, then measure beside FP16."""
    report = Report(f"int8_share_{name}", budget)
    earlier = WORK / "results" / report.path.name
    if earlier.exists():
        report.results.update(_read(earlier))
    report.step("machine", machine)
    path = WORK / f"{name}.onnx"
    report.step(f"{name} model", lambda: None if path.exists() else write_model(name, path))
    model = onnx.load(str(path))
    report.step(
        f"{name} auto",
        lambda: [recommended(model)[0].name, recommended(model)[1], {"attention": len(features(model).attention)}],
    )
    for key in ways:
        built = report.step(f"{name} {key} build", partial(make, name, key), 25)
        found = report.step(f"{name} {key} speed", partial(measure, name, key), 8) if built else None
        for finding in [*(built or {}).get("findings", ()), *(found or {}).get("findings", ())]:
            print(f"     FINDING {name} {key}: {finding}", flush=True)
        keep(report)
    return 1 if report.failed() else 0


def _read(path: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(path.read_text())
    return found


def chosen_ways(name: str, wanted: Optional[str]) -> list[str]:
    """The ways by name, FP16 first, as the others are measured beside it."""
    ways = list(WAYS[name]) if not wanted or wanted == "all" else wanted.split(",")
    built = (WORK / f"{name}_fp16" / RUNTIME.engine_file).exists()
    return ways if built or "fp16" in ways else ["fp16", *ways]


if __name__ == "__main__":
    if sys.argv[1:2] == ["prepare"]:
        prepare()
    else:
        name, wanted, seconds = (*sys.argv[1:4], *(None,) * 3)[:3]
        assert name is not None
        sys.exit(main(name, chosen_ways(name, wanted), float(seconds or 560)))
