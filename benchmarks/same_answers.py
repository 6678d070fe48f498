"""Whether two versions of the library calibrate and quantize alike, byte for byte.

    python -m benchmarks.same_answers make FOLDER [--models EARLIER]
    python -m benchmarks.same_answers compare EARLIER FOLDER

`make` runs in the checkout whose library is asked: of twelve small models, and of nine of them as traced, it calibrates
by each algorithm, measures the bias correction, and quantizes all layers and a mixture. It keeps the sha256 of
calib.cache, of bias_correction.json, of ONNX Runtime's engine and of its answers, and of what TensorRT 8.6 and 11 would
be given. `--models` takes the ONNX files and images that an earlier call left: another exporter then changes nothing.
`compare` names what differs, and exits 1 if something does. Needs the tests' folder: run from the repository's root.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from graph.test_bias import depthwise

from enginewright.calibration.mixture import float_nodes
from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Placement, Precision, PrecisionMode
from enginewright.graph.qdq import quantizable
from enginewright.interface import BATCH, AxisRange
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from enginewright.runtimes.onnxruntime.session import open_session
from enginewright.runtimes.tensorrt.build_plan import make_plan, read_source
from support.networks import images, residual_network
from support.small_models import SMALL_MODELS, batches, exported, with_shape_arithmetic
from support.tensorrt_stand_in.builder import Record, stand_in

Feeds = dict[str, npt.NDArray[np.float32]]
SETTINGS = Build()
AXES = {BATCH: AxisRange(1, 4, 8)}
TENSORRT = (("8.6.0", PrecisionMode.implicit), ("8.6.0", PrecisionMode.auto), ("11.4.0", PrecisionMode.explicit))
TRACED = "_traced"


def subjects() -> Iterator[tuple[str, onnx.ModelProto, list[Feeds]]]:
    """Name, model and calibration batches."""
    yield "residual", residual_network(), [{"input": images(8, seed)} for seed in range(3)]
    random = np.random.default_rng(6)
    fed = [{"input": random.normal(size=(16, 4, 6, 6)).astype(np.float32)} for _ in range(3)]
    yield "depthwise", depthwise(), fed
    yield "depthwise_bn", depthwise(normalized=True), fed
    for name in SMALL_MODELS:
        yield name, exported(name), list(batches(name))
        yield name + TRACED, with_shape_arithmetic(name), list(batches(name))


def earlier(folder: Path) -> Iterator[tuple[str, onnx.ModelProto, list[Feeds]]]:
    """The same, as an earlier call left them."""
    for path in sorted(folder.glob("*.onnx")):
        with np.load(path.with_suffix(".npz")) as stored:
            fed = [{"input": stored[f"arr_{number}"]} for number in range(len(stored.files))]
        yield path.stem, onnx.load(path), fed


def digest(content: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(content).hexdigest()


def quantized(path: Path, fed: Sequence[Feeds], recipe: QuantizationRecipe, precision: Precision) -> dict[str, Any]:
    """What becomes of a model and a recipe."""
    model = onnx.load(path)
    layers = [node.name for node in quantizable(model) if node.name]
    kept = float_nodes(model, layers[:1]) if precision is Precision.int8_mixed else ()
    built = RUNTIME.build(path, BuildJob(precision, SETTINGS, recipe, kept, axes=AXES))
    session = open_session(built.engine_bytes)
    answers = [answer for feeds in fed for answer in session.run(None, feeds)]
    found: dict[str, Any] = {
        "engine": digest(built.engine_bytes),
        "left": dict(built.left_in_float),
        "warnings": list(built.warnings),
        "outputs": digest(b"".join(answer.tobytes() for answer in answers)),
        "tensorrt Q/DQ": digest(
            quantize(model, recipe, Placement.tensorrt, kept).model.SerializeToString(deterministic=True)
        ),
    }
    for version, mode in TENSORRT:
        job = BuildJob(precision, SETTINGS, recipe, kept, axes=AXES)
        plan = make_plan(stand_in(version, Record()), read_source(path), job, mode)
        found[f"plan {version} {mode.name}"] = [
            digest(plan.model.SerializeToString(deterministic=True)),
            plan.mode.name,
            list(plan.flags),
            dict(plan.left_in_float),
            list(plan.constrained),
            sorted(plan.quantized_inputs),
            sorted(plan.quantizable),
            None if plan.scales is None else digest(plan.scales.to_bytes()),
        ]
    return found


def answers_of(path: Path, fed: Sequence[Feeds]) -> dict[str, Any]:
    """All that is compared, of one model."""
    correction = measure_bias_correction(path, fed)
    found: dict[str, Any] = {"model": digest(path.read_bytes()), "bias_correction.json": digest(correction.to_bytes())}
    precisions = (Precision.int8,) if path.stem.endswith(TRACED) else (Precision.int8, Precision.int8_mixed)
    for algorithm in CalibrationAlgorithm:
        scales = RUNTIME.calibrate(path, iter(fed), Calibration(algorithm=algorithm))
        found[f"{algorithm.name} calib.cache"] = digest(scales.to_bytes())
        for named, recipe in (("", QuantizationRecipe(scales)), (" corrected", QuantizationRecipe(scales, correction))):
            for precision in precisions:
                for what, value in quantized(path, fed, recipe, precision).items():
                    found[f"{algorithm.name}{named} {precision.name} {what}"] = value
    return found


def make(folder: Path, models: Optional[Path]) -> None:
    """Write models, images and answers.json."""
    folder.mkdir(parents=True, exist_ok=True)
    answers = {}
    for name, model, fed in earlier(models) if models else subjects():
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        np.savez(path.with_suffix(".npz"), *(feeds["input"] for feeds in fed))
        answers[name] = answers_of(path, fed)
        print(name, flush=True)
    (folder / "answers.json").write_text(json.dumps(answers, indent=1, sort_keys=True))


def compare(first: Path, second: Path) -> int:
    """Print what differs; how many do."""
    one, other = (json.loads((folder / "answers.json").read_text()) for folder in (first, second))
    compared = {(name, key) for answers in (one, other) for name in answers for key in answers[name]}
    differ = [
        (name, key) for name, key in sorted(compared) if one.get(name, {}).get(key) != other.get(name, {}).get(key)
    ]
    for name, key in differ:
        print(f"differs: {name}: {key}")
    print(f"{len(compared) - len(differ)} of {len(compared)} answers of {len(one)} models are equal")
    return len(differ)


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("folder", type=Path)
    making.add_argument("--models", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("first", type=Path)
    comparing.add_argument("second", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        return min(compare(arguments.first, arguments.second), 1)
    warnings.simplefilter("ignore")
    make(arguments.folder, arguments.models)
    return 0


if __name__ == "__main__":
    sys.exit(main())
