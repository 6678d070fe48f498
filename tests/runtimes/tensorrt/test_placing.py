"""Choices of placement for transformers: what gets Q/DQ nodes and what does not, with answers that stay near."""

from __future__ import annotations

import unittest.mock
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from runtimes.tensorrt.networks import resnet

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Precision, PrecisionMode
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.tensorrt import placing
from enginewright.runtimes.tensorrt.build_plan import BuildPlan, make_plan, read_source
from enginewright.runtimes.tensorrt.placing import Placing, residual_sums
from support.tensorrt_stand_in.builder import Record, stand_in

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.session import open_session
from support.small_models import batches, exported


@pytest.fixture(scope="module", params=["vit", "multihead_attention"])
def transformer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, CalibrationCache]:
    path = tmp_path_factory.mktemp("placing") / "model.onnx"
    onnx.save(exported(request.param), path)
    return (
        request.param,
        path,
        RUNTIME.calibrate(path, batches(request.param), Calibration(algorithm=CalibrationAlgorithm.minmax)),
    )


def planned(version: str, path: Path, cache: CalibrationCache, mode: PrecisionMode) -> BuildPlan:
    job = BuildJob(Precision.int8, Build(), QuantizationRecipe(cache))
    return make_plan(stand_in(version, Record()), read_source(path), job, mode)


def plan(path: Path, cache: CalibrationCache, chosen: Placing) -> BuildPlan:
    with unittest.mock.patch.object(placing, "CHOSEN", chosen):
        return planned("8.6.0", path, cache, PrecisionMode.auto)


def sqnr(model: onnx.ModelProto, path: Path, name: str) -> float:
    (feeds,) = batches(name, 1, seed=5)
    exact, rounded = (
        open_session(one.SerializeToString()).run(None, feeds)[0].astype(np.float64) for one in (onnx.load(path), model)
    )
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - rounded) ** 2)))


def pairs(found: BuildPlan) -> int:
    return Counter(node.op_type for node in found.model.graph.node)["QuantizeLinear"]


def test_attention_is_explicit_by_default_and_quantizes_the_inputs_of_products(
    transformer: tuple[str, Path, CalibrationCache],
) -> None:
    name, path, cache = transformer
    found = plan(path, cache, Placing())
    assert found.mode is PrecisionMode.explicit
    assert found.chosen.startswith("attention: ")
    assert found.quantized_inputs == set(found.quantizable)
    assert sqnr(found.model, path, name) > 18


def test_products_of_attention_can_stay_in_float(transformer: tuple[str, Path, CalibrationCache]) -> None:
    name, path, cache = transformer
    found, plain = plan(path, cache, Placing(products_in_float=True)), plan(path, cache, Placing())
    assert len(found.left_in_float) == 4
    assert set(found.left_in_float) == set(found.quantizable) - found.quantized_inputs
    assert pairs(found) < pairs(plain)
    assert sqnr(found.model, path, name) > 18


def test_residual_sums_can_have_pairs_in_front(transformer: tuple[str, Path, CalibrationCache]) -> None:
    name, path, cache = transformer
    sums = residual_sums(onnx.load(path))
    assert len(sums) == {"vit": 4, "multihead_attention": 3}[name]
    found, plain = plan(path, cache, Placing(sums_in_int8=True)), plan(path, cache, Placing())
    onnx.checker.check_model(found.model, full_check=True)
    makers = {node.output[0]: node.op_type for node in found.model.graph.node}
    by_name = {node.name: node for node in found.model.graph.node}
    assert all(makers[tensor] == "DequantizeLinear" for node in sums for tensor in by_name[node].input)
    assert pairs(found) == pairs(plain) + len({tensor for node in sums for tensor in onnx_inputs(path, node)})
    assert sqnr(found.model, path, name) > 15


def onnx_inputs(path: Path, name: str) -> list[str]:
    return next(list(node.input) for node in onnx.load(path).graph.node if node.name == name)


def test_convolutional_networks_know_none_of_it(tmp_path: Path) -> None:
    network = resnet((1,), 4, 8, 10)
    onnx.save(network, tmp_path / "model.onnx")
    cache = CalibrationCache(
        Header.minmax,
        {tensor: 0.03 for node in network.graph.node for tensor in (*node.input, *node.output)},
    )
    everything = Placing(products_in_float=True, sums_in_int8=True)
    with unittest.mock.patch.object(placing, "CHOSEN", everything):
        found = planned("11.4.0", tmp_path / "model.onnx", cache, PrecisionMode.explicit)
    with unittest.mock.patch.object(placing, "CHOSEN", Placing()):
        plain = planned("11.4.0", tmp_path / "model.onnx", cache, PrecisionMode.explicit)
    assert found.model == plain.model
    assert found.left_in_float == {}
