"""The models of the public bug reports, written again: what each case of expected.csv is tried on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from enginewright.config import CalibrationAlgorithm, Export, Input, Model
from enginewright.importers.pytorch import to_onnx

Array = np.ndarray[Any, np.dtype[Any]]
BATCH, BATCHES = 8, 4
NAMES = {
    "line_separator": "a\u2028b",
    "vertical_tab": "a\x0bb",
    "next_line": "a\x85b",
    "newline": "a\nb: 3f800000",
    "colon": "a: 3f800000",
    "slashes": "/\u00fc/x:0",
}
POOLS: Mapping[str, Mapping[str, Any]] = {
    "stride": {"kernel_size": 3, "stride": 2},
    "stride_ceil": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    "even_ceil": {"kernel_size": 2, "ceil_mode": True},
    "padded_ceil": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
}


@dataclass(frozen=True)
class Subject:
    """A model, and how it is calibrated."""

    model: ModelProto
    shape: tuple[int, ...]  # of one image
    algorithm: CalibrationAlgorithm = CalibrationAlgorithm.minmax
    corrects: bool = False
    batches: list[dict[str, Array]] = field(default_factory=list)

    def feeds(self) -> list[dict[str, Array]]:
        """Calibration batches: standard normal unless the case says otherwise."""
        if self.batches:
            return self.batches
        random = np.random.default_rng(1)
        shape = (BATCH, *self.shape)
        return [{"input": random.standard_normal(shape).astype(np.float32)} for _ in range(BATCHES)]


def exported(module: nn.Module, shape: Sequence[int]) -> ModelProto:
    """What the stage export writes, with weights of a fixed seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interface = Model(inputs={"input": Input(["batch", *shape])}, outputs=["logits"], name="case", code="case.py")
        return onnx.load_model_from_string(to_onnx(module.eval(), interface, Export()))


class Skip(nn.Module):
    """conv(x) + x * constant, the constant under a name of the caller's."""

    def __init__(self, name: str, *shape: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(192, 10)
        self.name = name
        self.register_parameter(name, nn.Parameter(torch.full(shape, 3.0)))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc((self.conv(x) + x * getattr(self, self.name)).flatten(1))
        return result


class Attention(nn.Module):
    """PyTorch's own attention, then a mean over the tokens."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.out = inner, nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = (
            self.inner(x, x, x, need_weights=False)[0]
            if isinstance(self.inner, nn.MultiheadAttention)
            else self.inner(x)
        )
        result: Tensor = self.out(y.mean(1))
        return result


class Products(nn.Module):
    """Scaled dot products of three projections, masked in one of several ways."""

    def __init__(self, mask: str = "") -> None:
        super().__init__()
        self.qkv, self.mask = nn.Linear(16, 48), mask

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.mask == "finite":
            hidden = torch.full((6, 6), -1e4).triu(1)
            y: Tensor = (q @ k.transpose(1, 2) / 4 + hidden).softmax(-1) @ v
            return y
        return F.scaled_dot_product_attention(q, k, v, is_causal=self.mask == "causal")


class Casting(nn.Module):
    """A Linear around something that PyTorch exports with a Cast to float inside."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.fc, self.out = kind, nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        if self.kind == "std":
            y = y / (y.std(-1, keepdim=True) + 0.1)
        elif self.kind == "one_hot":
            largest = F.one_hot(
                x.mean(-1).argmax(-1), 6
            ).float()  # from the input itself, so that rounding cannot move it
            y = y + largest.unsqueeze(-1)
        else:
            y = y * (x > 0.25).float()
        result: Tensor = self.out(y.mean(1))
        return result


class Pool(nn.Module):
    """An average pooling between two convolutions."""

    def __init__(self, **pool: Any) -> None:
        super().__init__()
        self.first, self.pool, self.second = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.AvgPool2d(**pool),
            nn.Conv2d(8, 10, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.pool(F.relu(self.first(x)))).mean((2, 3))
        return result


class Renormalized(nn.Module):
    """Weights that sum up to 1 are normalized once more: their sum is 1, give or take a rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        p = y.softmax(1)
        result: Tensor = self.fc((y * (p / p.sum(1, keepdim=True))).mean((2, 3)))
        return result


class Stored(nn.Module):
    """A product with a stored vector, a batch of matrices, or a matrix on the left."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        shape = {"vector": (16,), "matrices": (5, 16, 3), "left": (8, 8)}[form]
        self.stored, self.fc = nn.Parameter(torch.randn(*shape) / 3), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "left":
            y: Tensor = self.fc(F.gelu(self.stored @ x).mean(1))
            return y
        product: Tensor = F.relu(self.fc(x)) @ self.stored
        return product


class Query(nn.Module):
    """A learned query that is expanded over the batch, then projected."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.out = nn.Parameter(torch.randn(1, 2, 16)), nn.Linear(32, 10)
        self.asked, self.keys = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q = self.asked(self.query.expand(x.shape[0], -1, -1))
        weights = (q @ self.keys(x).transpose(1, 2) / 4).softmax(-1)
        result: Tensor = self.out((weights @ x).flatten(1))
        return result


class Tokens(nn.Module):
    """A Linear over pixels that became rows: a Gemm of as many rows as there are pixels in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mixed, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 16), nn.Linear(16, 10)
        with torch.no_grad():
            self.mixed.weight += 0.05

    def forward(self, x: Tensor) -> Tensor:
        rows = F.relu(self.conv(x)).permute(0, 2, 3, 1).reshape(-1, 16)
        result: Tensor = self.fc(F.relu(self.mixed(rows)).reshape(x.shape[0], -1, 16).mean(1))
        return result


class ChannelsLast(nn.Module):
    """What the simplification moves transposes through: a Softmax, a ConvNeXt block, and a division by the largest."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first, self.last = kind, nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 1)
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.gain = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = y.permute(0, 2, 3, 1)
        if self.kind == "Nhwc":
            z = z.softmax(-1)
        elif self.kind == "Pointwise":
            z = z + self.gain * self.narrow(F.gelu(self.wide(self.norm(z))))
        else:
            z = (z / z.abs().amax(-1, keepdim=True)).clamp(min=0)
        result: Tensor = self.last(z.permute(0, 3, 1, 2)).mean((2, 3))
        return result


class Share(nn.Module):
    """Each channel's share of its pixel's sum, with an epsilon that FP16 rounds to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3)
        nn.init.constant_(self.first.bias, -0.5)  # type: ignore[arg-type]  # a Conv2d has a bias unless told otherwise

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        result: Tensor = self.second(y / (y.sum(1, keepdim=True) + 1e-8)).mean((2, 3))
        return result


def subject(case: str, part: str) -> Subject:
    """The model of a row of expected.csv."""
    torch.manual_seed(0)
    return CASES[case](part)


def of_graph(
    nodes: Sequence[NodeProto],
    weights: Mapping[str, Array],
    *,
    outputs: Mapping[str, Sequence[Any]],
    ir_version: int = 8,
) -> ModelProto:
    """From input [n, 3, 8, 8]."""
    fed = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])]
    returned = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "case", fed, returned, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version)


def conv(name: str, source: str, result: str, sizes: tuple[int, int], weights: dict[str, Array]) -> NodeProto:
    """3 x 3 from sizes[0] to sizes[1] channels; its weight and bias go into `weights`."""
    random = np.random.default_rng(len(weights))
    weights[f"{name}_W"] = (random.standard_normal((sizes[1], sizes[0], 3, 3)) * 0.2).astype(np.float32)
    weights[f"{name}_B"] = random.standard_normal(sizes[1]).astype(np.float32)
    return helper.make_node(
        "Conv", [source, f"{name}_W", f"{name}_B"], [result], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )


def two_convolutions(between: str = "c", ir_version: int = 8) -> ModelProto:
    """conv - relu - conv, with any name for the tensor between."""
    weights: dict[str, Array] = {}
    nodes = [
        conv("c1", "input", between, (3, 8), weights),
        helper.make_node("Relu", [between], ["r"], name="relu"),
        conv("c2", "r", "o", (8, 4), weights),
    ]
    return of_graph(nodes, weights, outputs={"o": ["n", 4, 8, 8]}, ir_version=ir_version)


def listed_weights(ir_version: int) -> ModelProto:
    """Weights that are inputs too."""
    model = two_convolutions(ir_version=ir_version)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model


def behind_constant() -> ModelProto:
    """The input behind an Identity, a weight in a Constant node that stands right before its layer."""
    weights: dict[str, Array] = {}
    nodes = [helper.make_node("Identity", ["input"], ["x"], name="same"), conv("c1", "x", "c", (3, 8), weights)]
    stored = numpy_helper.from_array(weights.pop("c1_W"))
    nodes.insert(1, helper.make_node("Constant", [], ["c1_W"], name="stored", value=stored))
    weights["c1_W"] = np.zeros(0, np.float32)  # so that the next layer's weights differ from the first one's
    nodes += [helper.make_node("Relu", ["c"], ["r"], name="relu"), conv("c2", "r", "o", (8, 4), weights)]
    weights.pop("c1_W")
    return of_graph(nodes, weights, outputs={"o": ["n", 4, 8, 8]})


def input_returned() -> ModelProto:
    """The input is an output too."""
    weights: dict[str, Array] = {}
    return of_graph(
        [conv("c1", "input", "o", (3, 8), weights)], weights, outputs={"o": ["n", 8, 8, 8], "input": ["n", 3, 8, 8]}
    )


def transposes() -> ModelProto:
    """Two transposes around a Softmax, which ONNX Runtime's optimizer removes and with them a tensor's name."""
    weights: dict[str, Array] = {}
    nodes = [
        conv("c1", "input", "c", (3, 8), weights),
        helper.make_node("Transpose", ["c"], ["t1"], name="T1", perm=[0, 1, 3, 2]),
        helper.make_node("Softmax", ["t1"], ["s"], name="S", axis=1),
        helper.make_node("Transpose", ["s"], ["t2"], name="T2", perm=[0, 1, 3, 2]),
        conv("c2", "t2", "o", (8, 4), weights),
    ]
    return of_graph(nodes, weights, outputs={"o": ["n", 4, 8, 8]})


def narrow_first_batch() -> Subject:
    """A mean over the image, whose first batch spans 1 to 1.01 and whose second is 50."""
    weights = {"w": np.random.default_rng(0).standard_normal((4, 1, 1, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["m"], name="mean", axes=[1, 2, 3]),
        helper.make_node("Conv", ["m", "w"], ["o"], name="c"),
    ]
    first = np.ones((8, 3, 8, 8), np.float32) * np.linspace(1, 1.01, 8, dtype=np.float32)[:, None, None, None]
    batches = [{"input": first}, {"input": np.full_like(first, 50)}]
    model = of_graph(nodes, weights, outputs={"o": ["n", 4, 1, 1]})
    return Subject(model, (3, 8, 8), CalibrationAlgorithm.percentile, batches=batches)


def attention(part: str) -> Subject:
    """The models of case 02, over six tokens of sixteen."""
    inner: dict[str, Callable[[], nn.Module]] = {
        "MultiheadAttention": lambda: Attention(nn.MultiheadAttention(16, 4, batch_first=True)),
        "TransformerEncoderLayer": lambda: Attention(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)),
        "scaled_dot_product": lambda: Attention(Products()),
    }
    made = inner.get(part, lambda: Casting(part))()
    return Subject(exported(made, (6, 16)), (6, 16))


def named(part: str) -> Subject:
    """The models of case 01."""
    shape = (3, 1, 1) if part == "scale_of_a_channel" else ()
    name = {"scale_of_a_channel": "input_scale", "free_name": "gain"}.get(part, part)
    return Subject(exported(Skip(name, *shape), (3, 8, 8)), (3, 8, 8))


def pooled(part: str) -> Subject:
    """The models of case 04, on maps that the windows do not divide."""
    kind, _, size = part.rpartition("_")
    side = (9 if size == "small" else 27) + (POOLS[kind]["kernel_size"] == 3 and "padding" not in POOLS[kind])
    return Subject(exported(Pool(**POOLS[kind]), (3, side, side)), (3, side, side))


def nearly_constant(part: str) -> Subject:
    """The models of case 05."""
    if part == "narrow_first_batch":
        return narrow_first_batch()
    algorithm = CalibrationAlgorithm[part.rpartition("_")[2]]
    return Subject(exported(Renormalized(), (3, 8, 8)), (3, 8, 8), algorithm)


def oddly_named(part: str) -> Subject:
    """The models of case 23."""
    return Subject(input_returned() if part == "input_is_output" else two_convolutions(NAMES[part]), (3, 8, 8))


def moved(part: str) -> Subject:
    """The models of case 26."""
    return Subject(transposes() if part == "transposes" else exported(ChannelsLast(part), (3, 8, 8)), (3, 8, 8))


def stored(part: str) -> Subject:
    """The models of cases 07 and 08."""
    shape = {"vector": (5, 16), "matrices": (5, 4, 16), "left": (8, 16)}[part]
    return Subject(exported(Stored(part), shape), shape)


def masked(part: str) -> Subject:
    """The models of case 03."""
    made = Attention(Products("causal" if part == "causal" else "finite"))
    return Subject(exported(made, (6, 16)), (6, 16))


def tokens(part: str) -> Subject:
    """The models of case 20."""
    return Subject(exported(Tokens(), (3, 8, 8)), (3, 8, 8), corrects=part != "correction_off")


CASES: Mapping[str, Callable[[str], Subject]] = {
    "01": named,
    "02": attention,
    "03": masked,
    "04": pooled,
    "05": nearly_constant,
    "06": lambda part: Subject(listed_weights(int(part.rpartition("_")[2])), (3, 8, 8)),
    "07": stored,
    "08": stored,
    "09": lambda _: Subject(exported(Query(), (6, 16)), (6, 16)),
    "11": lambda _: Subject(behind_constant(), (3, 8, 8)),
    "20": tokens,
    "23": oddly_named,
    "26": moved,
    "27": lambda _: Subject(exported(Share(), (3, 8, 8)), (3, 8, 8)),
}
