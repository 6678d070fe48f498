"""Several inputs and outputs of any type, and axes by name, through the importer `pytorch`."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import pytest
import torch
from torch import nn

from enginewright.config import Export, Input, Model
from enginewright.errors import ModelError
from enginewright.feeds import Feeds
from enginewright.importers.compare import Comparison, compare, require_equal
from enginewright.importers.normalize import normalized
from enginewright.importers.pytorch import traced
from enginewright.interface import Axes, AxisRange, Interface, batches

HEIGHT_WIDTH = {**batches(1, 2, 8), "height": AxisRange(8, 16, 24), "width": AxisRange(12, 16, 40)}
IMAGES = {"images": Input(["batch", 1, "height", "width"])}
SCALAR = {"x": Input(["batch", 4])}
Pair = namedtuple("Pair", "scores features")


@dataclass
class Answer:
    """As transformers' models return it."""

    scores: torch.Tensor
    loss: Optional[torch.Tensor] = None
    hidden: Optional[tuple[torch.Tensor, ...]] = None


class Returning(nn.Module):
    """Two tensors, put together as a test wants it."""

    def __init__(self, made: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.one, self.two, self.made = nn.Linear(4, 3), nn.Linear(4, 5), made

    def forward(self, x: torch.Tensor) -> Any:
        return self.made(self.one(x), self.two(x))


class Convolved(nn.Module):
    """A map of the image's size, one of half, and the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.down = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 3, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        same = self.conv(images).relu()
        return same, self.down(same), same.mean((2, 3)), self.down(same).flatten(2)


class Positions(nn.Module):
    """A position for each of 16 x 16 places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.positions = nn.Conv2d(1, 3, 1), nn.Parameter(torch.randn(1, 3, 16, 16))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = (self.conv(images) + self.positions).mean((2, 3))
        return mean


class BakedHeight(Convolved):
    """A height as a Python number."""

    def forward(self, images: torch.Tensor) -> Any:
        return self.conv(images)[:, :, : int(images.shape[2]) // 2].flatten(2).sum(2)


class FixedBatch(nn.Module):
    """Written for one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        head: torch.Tensor = self.head(x.view(1, 4))
        return head


class Text(nn.Module):
    """Token ids and a mask, as encoders take them."""

    def __init__(self, mask: torch.dtype = torch.int64) -> None:
        super().__init__()
        self.embed, self.head, self.mask = nn.Embedding(2, 8), nn.Linear(8, 3), mask

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        assert attention_mask.dtype is self.mask
        weights = attention_mask.float().unsqueeze(2) + 0.5
        head: torch.Tensor = self.head((self.embed(input_ids.long()) * weights).mean(1))
        return head


class Typed(nn.Module):
    """Takes one input of any type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.head, self.taken = nn.Linear(4, 3), dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype is self.taken
        head: torch.Tensor = self.head(x.float())
        return head


def exported(
    network: nn.Module,
    inputs: dict[str, Input],
    outputs: list[str],
    axes: Axes,
    samples: Optional[Feeds] = None,
) -> tuple[Interface, Comparison]:
    """What the ONNX says, and how far it is from PyTorch."""
    torch.manual_seed(0)
    model = Model(name="net", code="net.py", inputs=inputs, outputs=outputs, task="outputs")
    imported = traced(network, model, Export(), axes=axes)
    made = normalized(imported.model)
    found = compare(imported, made, seed=0, axes=axes, samples=samples)
    require_equal(found, imported, 1e-4)
    interface = Interface.from_onnx(made)
    assert interface == imported.interface
    return interface, found


@pytest.mark.parametrize(
    ("made", "names"),
    [
        pytest.param(lambda one, two: (one, two), {"a": 3, "b": 5}, id="tuple"),
        pytest.param(lambda one, two: [one, two], {"a": 3, "b": 5}, id="list"),
        pytest.param(lambda one, two: {"one": one, "two": two}, {"a": 3, "b": 5}, id="dictionary by its order"),
        pytest.param(lambda one, two: {"b": one, "a": two}, {"a": 5, "b": 3}, id="dictionary by its keys"),
        pytest.param(lambda one, two: OrderedDict(a=one, c=one, b=two), {"b": 5, "a": 3}, id="some of its keys"),
        pytest.param(Pair, {"features": 5, "scores": 3}, id="named tuple"),
        pytest.param(lambda one, two: Answer(one, hidden=(two, one)), {"scores": 3, "hidden_0": 5}, id="dataclass"),
        pytest.param(lambda one, two: (one, (two, one)), {"a": 3, "b": 5, "c": 3}, id="nested tuple"),
        pytest.param(lambda one, two: (one, None, two), {"a": 3, "b": 5}, id="nothing in between"),
        pytest.param(lambda one, _: {"out": one}, {"logits": 3}, id="dictionary of one"),
    ],
)
def test_what_forward_returns_is_named_in_order(
    made: Callable[[torch.Tensor, torch.Tensor], Any], names: dict[str, int]
) -> None:
    interface, found = exported(Returning(made), SCALAR, list(names), batches(1, 4, 8))
    assert {spec.name: spec.shape for spec in interface.outputs} == {
        name: ("batch", size) for name, size in names.items()
    }
    assert list(found.differences) == ["batch 1", "batch 2", "batch 7"]


@pytest.mark.parametrize(
    ("made", "outputs", "sentence"),
    [
        pytest.param(
            lambda one, two: {"a": one, "b": two},
            ["c"],
            "net (net.py) returns 2 tensors (a, b) and model.outputs names 1 (c); name every one in the order in which"
            " forward returns them, or some by their keys",
            id="too few names",
        ),
        pytest.param(
            lambda one, _: one,
            ["a", "b"],
            "net (net.py) returns 1 tensor and model.outputs names 2 (a, b); name every one",
            id="too many names",
        ),
        pytest.param(
            lambda one, _: {"a": one, "what": "text"},
            ["a"],
            "net (net.py) returns a str and must return a tensor, or tensors in tuples, lists, dictionaries or"
            " dataclasses; wrap the model so that it returns a",
            id="no tensor",
        ),
        pytest.param(lambda *_: None, ["a"], "net (net.py) returns a NoneType and must return a tensor", id="nothing"),
    ],
)
def test_what_cannot_be_named_is_one_sentence(
    made: Callable[[torch.Tensor, torch.Tensor], Any], outputs: list[str], sentence: str
) -> None:
    with pytest.raises(ModelError) as fault:
        exported(Returning(made), SCALAR, outputs, batches(1, 4, 8))
    assert str(fault.value).startswith(sentence)


def test_the_axes_of_outputs_are_named_by_what_they_follow() -> None:
    interface, found = exported(Convolved(), IMAGES, ["same", "half", "mean", "places"], HEIGHT_WIDTH)
    assert [spec.shape for spec in interface.inputs] == [("batch", 1, "height", "width")]
    assert {spec.name: spec.shape for spec in interface.outputs} == {
        "same": ("batch", 3, "height", "width"),
        "half": ("batch", 2, "half_2", "half_3"),
        "mean": ("batch", 3),
        "places": ("batch", 2, "places_2"),
    }
    assert list(found.differences) == [
        *("batch 1", "batch 2", "batch 7"),
        *("height 8", "height 24", "width 12", "width 40"),
        *("height 8, width 12", "height 24, width 40"),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "int32", "bool", "uint8"])
def test_an_input_of_any_type(dtype: str) -> None:
    network = Typed(getattr(torch, dtype))
    interface, _ = exported(network, {"x": Input(["batch", 4], dtype)}, ["scores"], batches(1, 4, 8))
    assert interface.inputs[0].dtype == np.dtype(dtype)


@pytest.mark.parametrize(("mask", "dtype"), [(torch.int64, "int64"), (torch.bool, "bool"), (torch.int32, "int32")])
def test_integers_are_drawn_from_the_samples_or_are_zeros_and_ones(mask: torch.dtype, dtype: str) -> None:
    """An embedding of two rows takes no other."""
    inputs = {
        "input_ids": Input(["batch", "tokens"], "int64"),
        "attention_mask": Input(["batch", "tokens"], dtype),
    }
    axes = {**batches(1, 2, 8), "tokens": AxisRange(4, 8, 20)}
    interface, found = exported(Text(mask), inputs, ["logits"], axes)
    assert [spec.shape for spec in interface.inputs] == [("batch", "tokens")] * 2
    samples = {"input_ids": np.ones((3, 6), np.int64), "attention_mask": np.ones((3, 6), dtype)}
    _, found = exported(Text(mask), inputs, ["logits"], axes, samples)
    assert list(found.differences) == ["batch 1", "batch 2", "batch 7", "tokens 4", "tokens 8", "tokens 20"]


def test_inputs_in_another_order_than_forwards_are_refused() -> None:
    """Each would get the other's values, and no shape says so."""
    inputs = {name: Input(["batch", "tokens"], "int64") for name in ("attention_mask", "input_ids")}
    with pytest.raises(ModelError) as fault:
        exported(Text(), inputs, ["logits"], {**batches(1, 2, 8), "tokens": AxisRange(4, 8, 20)})
    assert str(fault.value) == (
        "model.inputs names attention_mask, input_ids and forward of net (net.py) takes input_ids, attention_mask;"
        " write"
        " the inputs in forward's order and leave none out in between, or wrap the model"
    )


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("network", "inputs", "sentence"),
    [
        pytest.param(
            Positions,
            IMAGES,
            "net (net.py) runs with height 16 and not with height 8, which axes.height allows: The size of tensor a (8)"
            " must match",
            id="position embeddings",
        ),
        pytest.param(
            BakedHeight,
            IMAGES,
            "PyTorch and ONNX Runtime differ on net by",
            id="height as a number",
        ),
        pytest.param(
            FixedBatch,
            SCALAR,
            "net (net.py) runs on a batch of 1 and not on one of 2: shape '[1, 4]' is invalid for input of size 8; its"
            " batch is fixed: replace that size in `forward` by -1 or `x.flatten(1)`",
            id="batch of one",
        ),
        pytest.param(
            Text,
            {"x": Input(["batch", 4], "int64"), "y": Input(["batch", 5], "int64")},
            "net (net.py) cannot run on the inputs x int64 [2, 4], y int64 [2, 5]: The size of tensor a (4) must match"
            " the size of tensor b (5) at non-singleton dimension 1; model.inputs must be what the model takes",
            id="shapes that do not fit",
        ),
        pytest.param(
            Text,
            {"x": Input(["batch", 4], "int64")},
            "net (net.py) cannot run on a int64 input [2, 4]: Text.forward() missing 1 required positional argument",
            id="an input too few",
        ),
    ],
)
def test_a_size_that_is_baked_in_is_named(
    network: Callable[[], nn.Module], inputs: dict[str, Input], sentence: str
) -> None:
    axes = HEIGHT_WIDTH if inputs is IMAGES else batches(1, 4, 8)
    with pytest.raises(ModelError) as fault:
        exported(network(), inputs, ["scores"], axes)
    assert str(fault.value).startswith(sentence)
    if sentence.endswith("differ on net by"):
        assert "output at height" in str(fault.value)
        assert "on sizes that are computed as Python numbers or on random numbers" in str(fault.value)
