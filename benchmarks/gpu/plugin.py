"""A TensorRT plugin on a GPU: compiled here, built into engines of each precision, run, and refused once changed.

Run: python -m benchmarks.gpu.plugin. Needs nvcc, TensorRT 8.6 and a GPU; about 2 minutes. Writes $OUT/plugin.json.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from benchmarks.gpu.common import Report, machine, settings, sqnr_db
from enginewright import load, manifest
from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Precision, PrecisionMode
from enginewright.errors import EnginewrightError
from enginewright.plugins import NO_PLUGINS, Plugin, Plugins
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.tensorrt import RUNTIME

SOURCE = Path(__file__).parent / "plugin/squash.cu"
DOMAIN, OPERATOR = "own.ops", "Squash"
BATCH = 16
RANDOM = np.random.default_rng(0)


class Squash(OpRun):  # type: ignore[misc,unused-ignore]
    """What the plugin computes, in NumPy, for ONNX's reference evaluator."""

    op_domain = DOMAIN

    def _run(self, x: Any) -> tuple[Any, ...]:
        return (x / (1 + np.abs(x)),)


def network(path: Path) -> onnx.ModelProto:
    """Conv, Squash, Conv, Relu, pool, Gemm on [N, 3, 32, 32]."""

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = RANDOM.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node(OPERATOR, ["c1"], ["s"], name="squash", domain=DOMAIN),
        helper.make_node("Conv", ["s", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="fc", transB=1),
    ]
    weights = [weight("w1", 32, 3, 3, 3), weight("b1", 32), weight("w2", 32, 32, 3, 3), weight("b2", 32)]
    weights += [weight("w3", 10, 32), weight("b3", 10)]
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10]),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, ["N", 32, 32, 32]),
    ]
    graph = helper.make_graph(nodes, "squashed", values[:1], values[1:2], weights, value_info=values[2:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, str(path))
    return model


def computed(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """Every tensor, by the reference evaluator."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    named = [output for node in model.graph.node for output in node.output]
    del wide.graph.output[:]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in named)
    return {**dict(zip(named, ReferenceEvaluator(wide, new_ops=[Squash]).run(None, feeds))), **feeds}


def compiled(folder: Path) -> Plugins:
    """libsquash_trt.so, by nvcc for the GPU that is here."""
    path = folder / "libsquash_trt.so"
    command = ["nvcc", "-O2", "-shared", "-Xcompiler", "-fPIC", "-arch=native", "-o", str(path), str(SOURCE)]
    subprocess.run(command, check=True)
    return Plugins((Plugin("tensorrt", path, manifest.sha256(path)),))


class Measured:
    """The steps, on one network."""

    def __init__(self, work: Path) -> None:
        """Make the network, what it should answer, and the scales of its tensors."""
        self.work, self.path = work, work / "model.onnx"
        model = network(self.path)
        self.images = RANDOM.standard_normal((BATCH, 3, 32, 32)).astype(np.float32)
        found = computed(model, {"x": self.images})
        self.wanted = found["y"]
        scales = {name: float(np.float32(np.abs(values).max() / 127)) for name, values in found.items()}
        self.recipe = QuantizationRecipe(CalibrationCache(Header.entropy, scales))
        self.plugins = NO_PLUGINS

    def compile(self) -> dict[str, Any]:
        """The library."""
        self.plugins = compiled(self.work)
        (plugin,) = self.plugins.files
        return {"sha256": plugin.sha256, "bytes": plugin.path.stat().st_size}

    def engine(self, key: str, precision: Precision, mode: PrecisionMode, plugins: Optional[Plugins] = None) -> Path:
        """Build and seal an engine with its plugin beside it, as the stages do."""
        plugins, chosen = self.plugins if plugins is None else plugins, settings(BATCH, precision_mode=mode)
        recipe = self.recipe if precision is Precision.int8 else None
        job = BuildJob(precision, chosen.build, recipe, axes=chosen.axes, plugins=plugins)
        built = RUNTIME.build(self.path, job)
        engine = self.work / key / RUNTIME.engine_file
        engine.parent.mkdir(exist_ok=True)
        for name, content in built.files.items():
            engine.with_name(name).write_bytes(content)
        plugins.copy_beside(engine)
        engine.write_bytes(built.engine_bytes)
        said = {**built.settings, "layers": dict(built.layers), "left_in_float": dict(built.left_in_float)}
        manifest.seal(engine, "measure", [self.path], RUNTIME.fingerprint(), said, files=plugins.roles)
        return engine

    def run(self, key: str, precision: Precision, mode: PrecisionMode) -> dict[str, Any]:
        """Build it, and run it in a process of its own, which gets the plugin from beside the engine alone."""
        engine = self.engine(key, precision, mode)
        np.save(self.work / "images.npy", self.images)
        command = [sys.executable, "-m", "benchmarks.gpu.plugin", str(engine), str(self.work / "images.npy")]
        subprocess.run(command, check=True)
        answer = np.load(engine.with_name("answer.npy"))
        made = manifest.read(engine)
        return {
            "sqnr_db": sqnr_db(self.wanted, answer),
            "largest_difference": float(np.abs(self.wanted - answer).max()),
            "layers": made.settings["layers"],
            "files": {name: record.role for name, record in made.files.items()},
            "plan_holds_the_library": self.plugins.files[0].path.read_bytes()[:4096] in engine.read_bytes(),
        }

    def without(self) -> str:
        """What a build without the plugin says. In a process of its own: the registry of this one has it."""
        command = [sys.executable, "-m", "benchmarks.gpu.plugin", str(self.path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def refused(self, missing: bool) -> str:
        """What loading an engine says whose library was changed by one byte, or is missing."""
        library = self.work / "fp32" / self.plugins.files[0].path.name
        kept = library.read_bytes()
        try:
            if missing:
                library.unlink()
            else:
                library.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
            with load(library.with_name(RUNTIME.engine_file)):
                raise AssertionError("it was loaded")
        except EnginewrightError as fault:
            return f"{type(fault).__name__}: {fault}"
        finally:
            library.write_bytes(kept)


def infer(engine: Path, images: Path) -> None:
    """Answer in a process that knows the engine's folder alone."""
    with load(engine) as loaded:
        np.save(engine.with_name("answer.npy"), loaded.infer({"x": np.load(images)})["y"])


def refuse(model: Path) -> None:
    """Print what a build without the plugin raises."""
    chosen = settings(BATCH)
    try:
        RUNTIME.build(model, BuildJob(Precision.fp32, chosen.build, axes=chosen.axes))
    except EnginewrightError as fault:
        print(f"{type(fault).__name__}: {fault}")


def main() -> None:
    """Every step; one that fails is recorded and does not end the rest."""
    report, work = Report("plugin", 500), Path(tempfile.mkdtemp(prefix="plugin"))
    measured = Measured(work)
    report.step("machine", machine)
    report.step("without the plugin", measured.without)
    report.step("compile", measured.compile)
    for key, precision, mode in (
        ("fp32", Precision.fp32, PrecisionMode.implicit),
        ("fp16", Precision.fp16, PrecisionMode.implicit),
        ("int8_implicit", Precision.int8, PrecisionMode.implicit),
        ("int8_explicit", Precision.int8, PrecisionMode.explicit),
    ):
        report.step(key, partial(measured.run, key, precision, mode))
    report.step("changed", lambda: measured.refused(missing=False))
    report.step("missing", lambda: measured.refused(missing=True))
    shutil.rmtree(work)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        infer(Path(sys.argv[1]), Path(sys.argv[2]))
    elif len(sys.argv) == 2:
        refuse(Path(sys.argv[1]))
    else:
        main()
