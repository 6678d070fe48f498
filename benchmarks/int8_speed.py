"""INT8 and FP16 against FP32 on this CPU: python benchmarks/int8_speed.py [ENGINES NAME]

With a folder such as artifacts/engines: the engines that a `dvc repro` built there, the mixed one among them, into
results/NAME.json. Without: those that the pipeline would build of two models through ONNX Runtime. Side by side in one
process: in every round each precision runs once, so that what else the machine does falls on all alike. The figure is
the median over rounds of FP32's time / the precision's time, with quartiles.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pandas as pd
import torch

from enginewright import manifest
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Export, Input, Model, Precision
from enginewright.importers.pytorch import to_onnx
from enginewright.models.efficientnet_lite0 import efficientnet_lite0, packaged_weights
from enginewright.models.resnet import ResNet
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine
from enginewright.target import cpu_name, has_int8_dot_product, instruction_sets

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 8)
ROUNDS = 60


def models() -> Iterator[tuple[str, torch.nn.Module, list[int]]]:
    """The two models that the project brings. Speed does not depend on the weights, so the ResNet keeps its random
    ones.
    """
    torch.manual_seed(0)
    yield "resnet_reference", ResNet(1, 10), [1, 28, 28]
    network = efficientnet_lite0()
    network.load_state_dict(torch.load(packaged_weights(), map_location="cpu", weights_only=True))
    yield "efficientnet_lite0", network, [3, 224, 224]


def engines(network: torch.nn.Module, shape: list[int], folder: Path) -> dict[Precision, tuple[OnnxRuntimeEngine, str]]:
    """Every precision, loaded as an application loads it, with the share of layers that run in INT8."""
    onnx_model = folder / "model.onnx"
    onnx_model.write_bytes(
        to_onnx(network.eval(), Model(inputs={"input": Input(["batch", *shape])}, outputs=["logits"]), Export())
    )
    noise = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    settings = Calibration(algorithm=CalibrationAlgorithm.minmax)
    recipe = QuantizationRecipe(RUNTIME.calibrate(onnx_model, [{"input": noise}], settings))
    loaded = {}
    for precision in (Precision.fp32, Precision.fp16, Precision.int8):
        built = RUNTIME.build(onnx_model, BuildJob(precision, Build(), recipe if precision is Precision.int8 else None))
        path = folder / f"{precision.name}.onnx"
        path.write_bytes(built.engine_bytes)
        manifest.seal(path, "benchmark", [onnx_model], RUNTIME.fingerprint(), built.settings)
        loaded[precision] = (RUNTIME.load(path), f"{built.quantized}/{built.quantizable}")
    return loaded


def of_pipeline(folder: Path) -> dict[Precision, tuple[OnnxRuntimeEngine, str]]:
    """The engines that `dvc repro` built, with the share of layers that run in INT8."""
    paths = {precision: folder / precision.name / RUNTIME.engine_file for precision in Precision}
    return {
        precision: (RUNTIME.load(path), f"{manifest.read(path).settings['int8_share']:.0%}")
        for precision, path in paths.items()
    }


def compare(
    loaded: Mapping[Precision, tuple[OnnxRuntimeEngine, str]], batch: int, shape: list[int]
) -> Iterator[dict[str, Any]]:
    """Median milliseconds of each precision, and its speed relative to FP32."""
    feeds = {"input": np.random.default_rng(1).normal(size=(batch, *shape)).astype(np.float32)}
    for engine, _ in loaded.values():
        engine.device_seconds(feeds, 5)
    seconds = pd.DataFrame(
        [
            {precision: engine.device_seconds(feeds, 1)[0] for precision, (engine, _) in loaded.items()}
            for _ in range(ROUNDS)
        ]
    )
    for precision, (_, share) in loaded.items():
        low, ratio, high = (seconds[Precision.fp32] / seconds[precision]).quantile([0.25, 0.5, 0.75])
        yield {
            "batch": batch,
            "precision": precision.name,
            "int8_layers": share,
            "median_ms": round(1000 * seconds[precision].median(), 3),
            "speed": round(ratio, 2),
            "low": round(low, 2),
            "high": round(high, 2),
        }


def main(folder: Optional[Path] = None, name: str = "int8_speed") -> None:
    """Measure, write benchmarks/results/<name>.json and print the table."""
    rows = []
    if folder is not None:
        loaded = of_pipeline(folder)
        shape = [int(axis or 0) for axis in loaded[Precision.fp32][0].interface.inputs[0].shape[1:]]
        rows += [row for batch in BATCHES for row in compare(loaded, batch, shape)]
    else:
        for model, network, shape in models():
            with tempfile.TemporaryDirectory() as temporary:
                loaded = engines(network, shape, Path(temporary))
                rows += [{"model": model, **row} for batch in BATCHES for row in compare(loaded, batch, shape)]
    machine = {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "instruction_sets": list(instruction_sets()),
        "int8_dot_product": has_int8_dot_product(instruction_sets()),
        "onnxruntime": RUNTIME.fingerprint().runtime_version,
        "rounds": ROUNDS,
    }
    manifest.write_json(RESULTS / f"{name}.json", {"machine": machine, "rows": rows})
    print(
        f"{machine['cpu']}: {', '.join(instruction_sets())}; ONNX Runtime {machine['onnxruntime']}; speed against FP32,"
        f" median of {ROUNDS} rounds"
    )
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 1 else main()
