"""The operator own.ops::Squash, y = x / (1 + |x|): a model with it, a library and a Python twin for ONNX Runtime."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginewright import manifest
from enginewright.plugins import Plugin, Plugins

HERE = Path(__file__).parent
TWIN = HERE / "squash.py"
DOMAIN, OPERATOR = "own.ops", "Squash"


@lru_cache(maxsize=1)
def library() -> Path:
    """libsquash.so for ONNX Runtime, compiled. Skips the test where no compiler is."""
    return _compiled("libsquash.so", HERE / "squash.cpp")


@lru_cache(maxsize=1)
def creators() -> Path:
    """A library that exports what TensorRT's registry asks for, and has no plugin. Skips as `library`."""
    source = Path(mkdtemp()) / "creators.cpp"
    source.write_text('extern "C" void* const* getPluginCreators(int& count) { count = 0; return nullptr; }\n')
    return _compiled("libops.so", source)


def _compiled(name: str, source: Path) -> Path:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip(f"no C++ compiler (g++) to compile {source.name} with")
    made = Path(mkdtemp()) / name
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", made, source], check=True)
    return made


def twin() -> Path:
    """squash.py. Skips the test where onnxruntime-extensions is not installed."""
    if importlib.util.find_spec("onnxruntime_extensions") is None:
        pytest.skip("onnxruntime-extensions is not installed; pip install 'enginewright[plugins]'")
    return TWIN


def plugins(kind: str) -> Plugins:
    """Of one kind, "onnxruntime" or "python"."""
    path = library() if kind == "onnxruntime" else twin()
    return Plugins((Plugin(kind, path, manifest.sha256(path)),))


def model(domain: str = DOMAIN) -> ModelProto:
    """Input [batch, 1, 8, 8]: Conv, Squash, Conv, Relu, ReduceMean, Gemm to logits [batch, 5]; the exporter states no
    type for what Squash gives.
    """
    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(generator.normal(0, 0.5, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node(OPERATOR, ["a"], ["s"], name="squash", domain=domain),
        helper.make_node("Conv", ["s", "w2", "b2"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("ReduceMean", ["r"], ["m"], name="mean", axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["m", "w3", "b3"], ["logits"], name="head", transB=1),
    ]
    weights = [weight("w1", 6, 1, 3, 3), weight("b1", 6), weight("w2", 6, 6, 3, 3), weight("b2", 6)]
    weights += [weight("w3", 5, 6), weight("b3", 5)]
    graph = helper.make_graph(
        nodes,
        "squashed",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(made)
    return made


def images(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal numbers, [rows, 1, 8, 8]."""
    return {"input": np.random.default_rng(seed).standard_normal((rows, 1, 8, 8)).astype(np.float32)}
