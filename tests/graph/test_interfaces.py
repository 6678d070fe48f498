"""Several inputs and outputs, of any type and of shapes that vary: INT8 and FP16 compute what the float model does, and
what is no float32 stays as it is.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import onnx
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn import functional

from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Placement, Precision
from enginewright.graph import stored
from enginewright.importers.normalize import normalized
from enginewright.interface import batches
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.session import Purpose, open_session
from support.reference import simulated, sqnr_db, without_pairs

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
LEAST = torch.finfo(torch.float32).min
BATCH, TOKENS, IMAGE = {0: "batch"}, {0: "batch", 1: "tokens"}, {0: "batch", 2: "height", 3: "width"}
random = np.random.default_rng(11)


def normal(*shape: int) -> Array:
    return random.standard_normal(shape).astype(np.float32)


def words(*shape: int) -> Array:
    return random.integers(0, 50, shape).astype(np.int64)


def kept(tokens: int, kind: npt.DTypeLike = np.int64) -> Array:
    """The second of two sentences ends in padding."""
    return (np.arange(tokens) < np.array([[tokens], [tokens - 3]])).astype(kind)


class Tied(nn.Module):
    """The table of an embedding is the weight of the last layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(50, 32), nn.Linear(32, 32)

    def forward(self, ids: Tensor) -> Any:
        return functional.linear(torch.relu(self.inner(self.words(ids))), self.words.weight)


class Attention(nn.Module):
    """Over words or vectors, hidden by `hides`."""

    def __init__(self, hides: str) -> None:
        super().__init__()
        self.words, self.places, self.hides = nn.Embedding(50, 32), nn.Embedding(64, 32), hides
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 5)

    def forward(self, ids: Tensor, mask: Optional[Tensor] = None) -> Any:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        q, k, v = self.qkv(x).chunk(3, -1)
        if mask is None:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif self.hides == "product":
            y = (q @ k.transpose(1, 2) / 6 + (1.0 - mask[:, None].float()) * LEAST).softmax(-1) @ v
        else:
            y = (q @ k.transpose(1, 2) / 6).masked_fill(mask[:, None] == 0, -torch.inf).softmax(-1) @ v
        return self.out(y)


class Pixels(nn.Module):
    """Two convolutions and a Linear: bytes are normalized inside, halves are widened."""

    def __init__(self, bytes_: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1), nn.Linear(16, 5)
        self.bytes = bytes_

    def forward(self, x: Tensor) -> Any:
        y = (x.float() - 127) / 64 if self.bytes else x.float()
        y = self.head(torch.relu(self.second(torch.relu(self.first(y)))).mean((2, 3)))
        return y if self.bytes else y.half()


class Several(nn.Module):
    """Outputs inside the network, and of other types than float."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Any:
        early = torch.relu(self.first(x))
        late = self.second(early)
        logits = self.head(late.mean((2, 3)))
        return early, late, logits, logits.argmax(1), logits > 0


class Joined(nn.Module):
    """An image, and a mask, a vector or a number beside it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first = kind, nn.Conv2d(4 if kind == "mask" else 3, 16, 3, 2, 1)
        self.vector, self.second = nn.Linear(4, 32), nn.Conv2d(16, 16, 3, 2, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, other: Tensor) -> Any:
        if self.kind == "mask":
            y = torch.relu(self.first(torch.cat([x * other, other], 1)))
        elif self.kind == "vector":
            scale, shift = self.vector(other)[:, :, None, None].chunk(2, 1)
            y = torch.relu(self.first(x) * scale + shift)
        else:
            y = torch.relu(self.first(x)) / other
        return self.head(torch.relu(self.second(y)).mean((2, 3)))


class Numbers(nn.Module):
    """Integers as numbers, and as one of ten choices."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.choice, self.out = nn.Linear(8, 32), nn.Linear(10, 32), nn.Linear(32, 5)

    def forward(self, numbers: Tensor, choice: Tensor) -> Any:
        chosen = functional.one_hot(choice, 10).float()
        return self.out(torch.relu(self.number(numbers.float() / 10) + self.choice(chosen)))


@dataclass
class Kind:
    """A network, the dynamic axes of its inputs, and batches that differ in shape."""

    network: nn.Module
    axes: Sequence[Mapping[int, str]]
    batches: Sequence[Sequence[Array]]


def of_tokens(*lengths: int, mask: Optional[npt.DTypeLike] = None) -> list[list[Array]]:
    return [[words(2, n)] if mask is None else [words(2, n), kept(n, mask)] for n in lengths]


def kind(name: str) -> Kind:
    torch.manual_seed(0)
    sizes = ((32, 32), (48, 32), (32, 40))
    kinds = {
        "tied embedding": lambda: Kind(Tied(), [TOKENS], of_tokens(7, 12, 9)),
        "causal": lambda: Kind(Attention("causal"), [TOKENS], of_tokens(7, 12, 9)),
        "mask of BERT": lambda: Kind(Attention("product"), [TOKENS] * 2, of_tokens(7, 12, 9, mask=np.int64)),
        "boolean mask": lambda: Kind(Attention("choice"), [TOKENS] * 2, of_tokens(7, 12, 9, mask=np.bool_)),
        "int32 mask": lambda: Kind(Attention("choice"), [TOKENS] * 2, of_tokens(7, 12, 9, mask=np.int32)),
        "bytes": lambda: Kind(
            Pixels(True), [IMAGE], [[random.integers(0, 256, (2, 3, *size)).astype(np.uint8)] for size in sizes]
        ),
        "halves": lambda: Kind(Pixels(False), [IMAGE], [[normal(2, 3, *size).astype(np.float16)] for size in sizes]),
        "several outputs": lambda: Kind(Several(), [IMAGE], [[normal(2, 3, *size)] for size in sizes]),
        "image and mask": lambda: Kind(
            Joined("mask"),
            [IMAGE] * 2,
            [[normal(2, 3, *size), (normal(2, 1, *size) > 0).astype(np.float32)] for size in sizes],
        ),
        "image and vector": lambda: Kind(
            Joined("vector"), [IMAGE, BATCH], [[normal(2, 3, *size), normal(2, 4)] for size in sizes]
        ),
        "image and a number": lambda: Kind(
            Joined("number"), [IMAGE, {}], [[normal(2, 3, *size), np.array(2.0, np.float32)] for size in sizes]
        ),
        "integers": lambda: Kind(
            Numbers(), [BATCH] * 2, [[words(n, 8), random.integers(0, 10, n).astype(np.int64)] for n in (4, 7)]
        ),
    }
    return kinds[name]()


KINDS = (
    *("tied embedding", "causal", "mask of BERT", "boolean mask", "int32 mask", "bytes", "halves"),
    *("several outputs", "image and mask", "image and vector", "image and a number", "integers"),
)


@dataclass(frozen=True)
class Made:
    """A kind as a file, its feeds, and its scales."""

    path: Path
    model: onnx.ModelProto
    feeds: Sequence[Feeds]
    recipe: QuantizationRecipe

    def worst(self, graph: onnx.ModelProto, answered: Sequence[Mapping[str, Array]]) -> float:
        """The least decibels of all float outputs of all batches."""
        names = [value.name for value in graph.graph.output]
        pairs = [
            (exact[name], got[name])
            for feeds, got in zip(self.feeds, answered)
            for exact in [simulated(self.model, feeds)]
            for name in names
            if exact[name].dtype.kind == "f"
        ]
        return min(sqnr_db(exact, got.astype(np.float64)) for exact, got in pairs)


@lru_cache(maxsize=2)
def made(name: str) -> Made:
    subject = kind(name)
    examples = [[torch.from_numpy(array) for array in batch] for batch in subject.batches]
    answer = subject.network.eval()(*examples[0])
    inputs = [f"in{number}" for number in range(len(examples[0]))]
    outputs = [f"out{number}" for number in range(len(answer) if isinstance(answer, tuple) else 1)]
    path = Path(tempfile.mkdtemp()) / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            subject.network,
            tuple(examples[0]),
            path,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={**dict(zip(inputs, subject.axes)), **dict.fromkeys(outputs, BATCH)},
            opset_version=17,
            dynamo=False,
        )
    stored.write(normalized(onnx.load(path)), path)
    feeds = [dict(zip(inputs, batch)) for batch in subject.batches]
    cache = RUNTIME.calibrate(path, iter(feeds), Calibration(algorithm=CalibrationAlgorithm.minmax))
    return Made(path, onnx.load(path), feeds, QuantizationRecipe(cache))


def answers(engine: bytes, feeds: Sequence[Feeds], purpose: Purpose = Purpose.run) -> list[dict[str, Array]]:
    session = open_session(engine, purpose)
    names = [value.name for value in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(batch)))) for batch in feeds]


@pytest.mark.parametrize("placement", Placement, ids=lambda placement: placement.name)
@pytest.mark.parametrize("name", KINDS)
def test_int8_means_the_float_model_and_engines_compute_it(name: str, placement: Placement) -> None:
    subject = made(name)
    quantized, left = quantize(subject.model, subject.recipe, placement)
    onnx.checker.check_model(quantized, full_check=True)
    assert not left
    stripped = without_pairs(quantized)
    assert subject.worst(quantized, [simulated(stripped, feeds) for feeds in subject.feeds]) >= 28
    expected = subject.worst(quantized, [simulated(quantized, feeds) for feeds in subject.feeds])
    assert expected > 25
    purpose = Purpose.simulate if placement is Placement.tensorrt else Purpose.run
    ran = answers(quantized.SerializeToString(), subject.feeds, purpose)
    assert subject.worst(quantized, ran) >= min(expected, 60) - 3


@pytest.mark.parametrize("name", KINDS)
def test_fp16_keeps_the_types_of_inputs_and_outputs(name: str) -> None:
    subject = made(name)
    job = BuildJob(Precision.fp16, Build(), axes=batches(1, 2, 8))
    engine = RUNTIME.build(subject.path, job).engine_bytes
    graph, built = subject.model.graph, onnx.load_model_from_string(engine).graph
    for before, after in ((graph.input, built.input), (graph.output, built.output)):
        assert [(value.name, value.type.tensor_type.elem_type) for value in before] == [
            (value.name, value.type.tensor_type.elem_type) for value in after
        ]
    assert subject.worst(subject.model, answers(engine, subject.feeds)) >= 40
