"""Files as people give them to `enginewright check`, each made in a folder of its own."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT, HALF, BFLOAT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
Make = Callable[[Path], Path]
NODES = (
    helper.make_node("MatMul", ["x", "w"], ["m"], name="layer"),
    helper.make_node("Relu", ["m"], ["y"], name="end"),
)


def model(
    nodes: Sequence[NodeProto] = NODES,
    opset: int = 17,
    axes: Sequence[int | str | None] = ("batch", 4),
    weights: Sequence[TensorProto] | None = None,
    inputs: Sequence[Any] | None = None,
    **more: Any,
) -> ModelProto:
    """From x [batch, 4] to y."""
    if weights is None:
        weights = [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")]
    fed = inputs if inputs is not None else [helper.make_tensor_value_info("x", FLOAT, list(axes))]
    returned = helper.make_tensor_value_info("y", FLOAT, [axes[0], *["columns"] * (len(axes) - 1)])
    graph = helper.make_graph(list(nodes), "small", list(fed), [returned], list(weights))
    opsets = [
        helper.make_opsetid("", opset),
        helper.make_opsetid("com.acme", 1),
        helper.make_opsetid("com.microsoft", 1),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="maker", **more)


def saved(made: ModelProto) -> Make:
    """A model in one file."""

    def make(folder: Path) -> Path:
        (folder / "model.onnx").write_bytes(made.SerializeToString())
        return folder / "model.onnx"

    return make


def written(content: bytes) -> Make:
    """A file of these bytes."""

    def make(folder: Path) -> Path:
        (folder / "model.onnx").write_bytes(content)
        return folder / "model.onnx"

    return make


def archive(*names: str) -> Make:
    """A zip archive with these names in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as held:
        for name in names:
            held.writestr(name, b"\x80\x02.")
    return written(stream.getvalue())


def outside(location: str, prepare: Callable[[Path], None], size: int = 4) -> Make:
    """A model whose weight [size, size] is said to lie at `location`."""

    def make(folder: Path) -> Path:
        weight = TensorProto(name="w", data_type=FLOAT, dims=[4, size], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=location)
        prepare(folder)
        return saved(model(weights=[weight]))(folder)

    return make


def beside(folder: Path) -> None:
    """The weights in the model's folder."""
    (folder / "w.bin").write_bytes(np.eye(4, dtype=np.float32).tobytes())


def nothing(folder: Path) -> None:
    """No weights."""


def above(folder: Path) -> None:
    """The weights beside the model's folder, and a link to them in it."""
    (folder.parent / "secret.bin").write_bytes(np.eye(4, dtype=np.float32).tobytes())
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")


def short(folder: Path) -> None:
    """Half of the weights."""
    (folder / "w.bin").write_bytes(bytes(32))


def sparse(folder: Path) -> None:
    """3 GiB that take no room."""
    with (folder / "w.bin").open("wb") as stream:
        stream.truncate(3 * 2**30)


def cut_short(folder: Path) -> Path:
    """The first half of a model."""
    return written(model().SerializeToString()[:60])(folder)


def half(kind: int) -> ModelProto:
    """A model that stores its weight in half precision."""
    stored = helper.make_tensor("h", kind, [4, 4], np.eye(4, dtype=np.float32).reshape(-1))
    return model([helper.make_node("Cast", ["h"], ["w"], name="cast", to=FLOAT), *NODES], weights=[stored])


def scales() -> list[TensorProto]:
    """A scale and a zero point."""
    return [
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"),
        numpy_helper.from_array(np.array(0.1, np.float32), "s"),
        numpy_helper.from_array(np.array(128, np.uint8), "z"),
    ]


def pairs() -> ModelProto:
    """A model with Q/DQ nodes."""
    placed = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        helper.make_node("MatMul", ["d", "w"], ["m"], name="layer"),
        helper.make_node("Relu", ["m"], ["y"], name="end"),
    ]
    return model(placed, weights=scales())


def integers() -> ModelProto:
    """A model of integer operators, as ONNX Runtime's quantizer writes them."""
    stored = [*scales(), numpy_helper.from_array(np.eye(4, dtype=np.uint8), "i")]
    placed = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "i", "s", "z", "s", "z"], ["r"], name="layer"),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"], name="d"),
    ]
    return model(placed, weights=stored)


def dynamic() -> ModelProto:
    """A model of ONNX Runtime's dynamic quantization."""
    stored = [numpy_helper.from_array(np.eye(4, dtype=np.uint8), "i"), *scales()]
    placed = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "t", "p"], name="q"),
        helper.make_node("MatMulInteger", ["q", "i", "p", "z"], ["r"], name="layer"),
        helper.make_node("Cast", ["r"], ["f"], name="cast", to=FLOAT),
        helper.make_node("Mul", ["f", "t"], ["y"], name="end"),
    ]
    return model(placed, weights=stored)


def custom() -> ModelProto:
    """A model with an operator of a domain of its own."""
    return model([helper.make_node("Twist", ["x"], ["m"], name="twist", domain="com.acme"), NODES[1]])


def of_type(kind: Any, elem: int) -> ModelProto:
    """A model that takes no tensor, but a sequence or an optional one."""
    tensor = helper.make_tensor_type_proto(elem, ["batch", 4])
    fed = helper.make_value_info("x", kind(tensor))
    return model(
        [helper.make_node("SequenceAt", ["x", "i"], ["y"], name="at")],
        weights=[numpy_helper.from_array(np.array(0, np.int64), "i")],
        inputs=[fed],
    )


def text_input() -> ModelProto:
    """A model that takes text."""
    fed = helper.make_tensor_value_info("x", TensorProto.STRING, ["batch"])
    made = model(
        [helper.make_node("StringNormalizer", ["x"], ["y"], name="words")], weights=[], inputs=[fed], axes=["batch"]
    )
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    return made


def branch() -> ModelProto:
    """A model with an If."""

    def one(operator: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info("o", FLOAT, ["batch", 4])
        return helper.make_graph([helper.make_node(operator, ["x"], ["o"], name=operator)], operator, [], [result])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Cast", ["sum"], ["yes"], name="yes", to=TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["y"], name="choice", then_branch=one("Relu"), else_branch=one("Neg")),
    ]
    return model(nodes, weights=[])


def licensed() -> ModelProto:
    """A model whose metadata names a licence."""
    made = model()
    helper.set_model_props(made, {"license": "AGPL-3.0 License (https://ultralytics.com/license)"})
    return made


IMAGE = [helper.make_node("Relu", ["x"], ["y"], name="end")]
MAKES: dict[str, Make] = {
    "sound": saved(model()),
    "opset 9": saved(model(opset=9)),
    "opset 10": saved(model(opset=10)),
    "opset 11": saved(model(opset=11)),
    "opset 12": saved(model(opset=12)),
    "opset 13": saved(model(opset=13)),
    "opset 14": saved(model(opset=14)),
    "opset 15": saved(model(opset=15)),
    "opset 16": saved(model(opset=16)),
    "opset 18": saved(model(opset=18)),
    "opset 19": saved(model(opset=19)),
    "opset 20": saved(model(opset=20)),
    "opset 21": saved(model(opset=21)),
    "opset 26": saved(model(opset=26)),
    "fixed batch of 1": saved(model(axes=(1, 4))),
    "fixed batch of 8": saved(model(axes=(8, 4))),
    "unnamed batch": saved(model(axes=(None, 4))),
    "unnamed image axes, as Paddle writes them": saved(model(IMAGE, axes=(-1, 3, "?", "?"), weights=[])),
    "named dynamic axis": saved(model(IMAGE, axes=("batch", "tokens"), weights=[])),
    "no input": saved(model([helper.make_node("Relu", ["w"], ["y"], name="end")], axes=(4, 4), inputs=[])),
    "external": outside("w.bin", beside),
    "external, missing": outside("w.bin", nothing),
    "external, cut short": outside("w.bin", short),
    "external, out of the folder": outside("../secret.bin", above),
    "external, absolute": outside("/etc/hostname", nothing),
    "external, absolute on Windows": outside("C:\\w.bin", nothing),
    "external, a link": outside("link.bin", above),
    "external, no name": outside("", nothing),
    "external, the folder itself": outside(".", nothing),
    "external, 3 GiB": outside("w.bin", sparse, size=3 * 2**26),
    "float16 weights": saved(half(HALF)),
    "bfloat16 weights": saved(half(BFLOAT)),
    "Q/DQ": saved(pairs()),
    "QLinear": saved(integers()),
    "dynamic quantization": saved(dynamic()),
    "custom domain": saved(custom()),
    "a sequence for an input": saved(of_type(helper.make_sequence_type_proto, FLOAT)),
    "an optional for an input": saved(of_type(helper.make_optional_type_proto, FLOAT)),
    "text for an input": saved(text_input()),
    "control flow": saved(branch()),
    "empty": written(b""),
    "cut short": cut_short,
    "text": written(b"hello world\n"),
    "web page": written(b"<!DOCTYPE html><html></html>"),
    "Git LFS pointer": written(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"),
    "TensorRT plan": written(b"ftrt" + bytes(300)),
    "TensorRT-RTX engine": written(b"vtrt" + bytes(300)),
    "engine with a description": written((8).to_bytes(4, "little") + b'{"a": 1}ftrt' + bytes(40)),
    "TorchScript": archive("m/code/x.py", "m/constants.pkl", "m/data.pkl"),
    "checkpoint": archive("m/data.pkl", "m/data/0"),
    "torch.export": archive("m/archive_format"),
    "old checkpoint": written(b"\x80\x02}q\x00."),
    "safetensors": written((8).to_bytes(8, "little") + b'{"w": 0}'),
    "ORT format": written(b"\x10\0\0\0ORTM" + bytes(20)),
    "zipped": archive("m/model.onnx"),
    "gzip": written(b"\x1f\x8b" + bytes(20)),
    "noise": written(bytes(range(255, 0, -1))),
}
