"""A model without its large weights is the same model: its bytes, its values, its answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, CalibrationAlgorithm, Precision
from enginewright.errors import ModelError
from enginewright.graph import stored
from enginewright.graph.activations import activations
from enginewright.graph.external import is_stored
from enginewright.importers.normalize import normalized
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime.builder import build
from enginewright.runtimes.onnxruntime.session import Purpose, open_model
from support.networks import images, residual_network

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of 65 bytes stay in their file."""
    monkeypatch.setattr(stored, "LARGE", 64)


def saved(model: ModelProto, folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return folder / "model.onnx"


def full() -> ModelProto:
    """A network with something in each field before and behind the weights."""
    model = residual_network()
    model.doc_string, model.graph.doc_string, model.producer_name = "made", "by hand", "maker"
    helper.set_model_props(model, {"license": "MIT"})
    model.graph.initializer[0].doc_string = "a weight with a field behind its values"
    model.graph.initializer.append(helper.make_tensor("listed", TensorProto.FLOAT, [40], [0.5] * 40))
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)
    return model


@pytest.mark.usefixtures("small_is_large")
def test_what_is_read_and_written_again_is_the_same_file(tmp_path: Path) -> None:
    path = saved(full(), tmp_path)
    model = stored.read(path)
    assert any(map(is_stored, model.graph.initializer))
    assert not any(tensor.raw_data[64:] for tensor in model.graph.initializer)
    stored.write(model, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes() == stored.serialized(model)
    assert stored.size(model) == path.stat().st_size


@pytest.mark.usefixtures("small_is_large")
def test_weights_in_another_file_become_part_of_the_one(tmp_path: Path) -> None:
    model = full()
    onnx.save_model(model, tmp_path / "outside.onnx", save_as_external_data=True, location="w.bin", size_threshold=64)
    assert stored.serialized(stored.read(tmp_path / "outside.onnx")) == full().SerializeToString(deterministic=True)


DTYPES = [*("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT64", "INT32", "INT16", "INT8", "UINT8", "BOOL", "INT4")]


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("name", DTYPES)
def test_values_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    kind = TensorProto.DataType.Value(name)
    values = np.arange(400).reshape(20, 20) % 2
    tensor = numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(kind)), "w")
    assert tensor.data_type == kind
    graph = helper.make_graph([], "one", [], [], [tensor])
    (read,) = stored.read(saved(helper.make_model(graph), tmp_path)).graph.initializer
    assert is_stored(read)
    assert np.array_equal(stored.array(read), numpy_helper.to_array(tensor))
    assert stored.inline(read) == tensor


def test_new_large_values_go_to_a_file_that_ends_with_its_scratch() -> None:
    values = np.arange(stored.LARGE, dtype=np.float32).reshape(2, -1)
    assert not is_stored(stored.tensor_of(values[:1, :4], "small"))
    with stored.scratch():
        tensors = [stored.tensor_of(values + number, f"large {number}") for number in range(2)]
        assert all(np.array_equal(stored.array(tensor), values + number) for number, tensor in enumerate(tensors))
        (path,) = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
        assert Path(path).is_file()
    assert not Path(path).exists()


@pytest.mark.usefixtures("small_is_large")
def test_no_file_can_claim_that_its_weights_were_stored_here(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(256))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", str(secret)), ("offset", "0"), ("length", "256"), ("checksum", "0" * 40)):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "folder").mkdir()
    path = saved(helper.make_model(helper.make_graph([], "g", [], [], [tensor])), tmp_path / "folder")
    with pytest.raises(ModelError, match=r"the weight 'w' lies in .*secret, an absolute path, which is never read"):
        stored.read(path)


@pytest.mark.usefixtures("small_is_large")
def test_a_file_that_is_cut_anywhere_is_no_model_or_a_shorter_one(tmp_path: Path) -> None:
    content = full().SerializeToString(deterministic=True)
    path = tmp_path / "model.onnx"
    for length in range(65, len(content), 37):
        path.write_bytes(content[:length])
        try:
            expected = ModelProto.FromString(content[:length])
        except DecodeError:
            with pytest.raises(DecodeError):
                stored.read(path)
        else:
            assert stored.serialized(stored.read(path)) == expected.SerializeToString(deterministic=True)


def answers(model: ModelProto) -> Array:
    session = open_model(model, Purpose.literal)
    (found,) = session.run(None, {session.get_inputs()[0].name: images()})
    return np.asarray(found)


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links on this file system"])
def test_a_session_maps_the_weights(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    model = stored.read(saved(residual_network(), tmp_path))
    assert np.array_equal(answers(model), answers(residual_network()))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.fp16, Precision.int8])
def test_an_engine_is_the_same_file_wherever_weights_lie(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = []
    for large in (stored.LARGE, 64):
        monkeypatch.setattr(stored, "LARGE", large)
        path = tmp_path / "model.onnx"
        stored.write(normalized(stored.read(saved(residual_network(), tmp_path))), tmp_path / "normalized.onnx")
        os.replace(tmp_path / "normalized.onnx", path)
        scales = dict.fromkeys(activations(stored.read(path)), 0.01)
        recipe = QuantizationRecipe(CalibrationCache(Header.of(CalibrationAlgorithm.minmax), scales))
        engines.append(build(path, BuildJob(precision, Build(), recipe), "1").engine_bytes)
    assert engines[0] == engines[1]
