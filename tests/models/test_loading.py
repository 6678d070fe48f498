"""A user's model: what loads, and one sentence for each thing that can be wrong with it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from enginewright import manifest
from enginewright.config import Model
from enginewright.errors import ModelError, StaleArtifact
from enginewright.models.loading import load_model
from enginewright.models.resnet import ResNet
from support.project import PATHS

OWN = """
from torch import nn
class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(4, classes)
number = 3
def text(): return "no module"
def broken(): raise ZeroDivisionError("in the factory")
def missing(): return {}["classes"]
def leaves(): raise SystemExit(3)
"""


def resnet(**changes: Any) -> Model:
    return Model(arguments={"in_channels": 1, "classes": 10}, **{"weights": "weights.pt", **changes})


def own(name: str = "Net", **changes: Any) -> Model:
    """A model of the user's, in a module whose name no other test has imported."""
    return Model(
        _target_=f"{Path.cwd().name}_model.{name}",
        **{"arguments": {"classes": 2}, "code": f"{Path.cwd().name}_model.py", "weights": "own.pt", **changes},
    )


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder, whose name the module of the user's model takes up."""
    folder = tmp_path / f"p{abs(hash(tmp_path))}"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    (folder / f"{folder.name}_model.py").write_text(OWN)
    torch.save({"fc.weight": torch.ones(2, 4), "fc.bias": torch.zeros(2)}, "own.pt")
    torch.save(ResNet(1, 10).state_dict(), "weights.pt")
    return folder


def test_a_model_of_ones_own_loads_in_eval_mode(mine: Path) -> None:
    network = load_model(own(), PATHS)
    assert not network.training
    assert torch.equal(network.state_dict()["fc.weight"], torch.ones(2, 4))


def truncate() -> Model:
    Path("weights.pt").write_bytes(Path("weights.pt").read_bytes()[:5000])
    return resnet()


def empty() -> Model:
    Path("weights.pt").write_bytes(b"")
    return resnet()


def whole_module() -> Model:
    torch.save(nn.Linear(1, 1), "weights.pt")
    return resnet()


def a_list() -> Model:
    torch.save([1, 2], "weights.pt")
    return resnet()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        pytest.param(
            lambda: resnet(weights="gone.pt"), r"the weights gone\.pt do not exist; set model\.weights", id="missing"
        ),
        pytest.param(truncate, r"weights\.pt is damaged: it begins as a zip", id="truncated"),
        pytest.param(empty, r"weights\.pt is empty", id="empty"),
        pytest.param(
            whole_module, r"holds more than tensors.*torch\.save\(model\.state_dict\(\), path\)", id="a pickled module"
        ),
        pytest.param(a_list, "holds a list that is not a state dict", id="a list"),
        pytest.param(
            lambda: resnet(weights="own.pt"),
            r"own\.pt does not fit .*lacks stem\.0\.weight.*has unknown fc\.weight, fc\.bias",
            id="other keys",
        ),
        pytest.param(
            lambda: own(arguments={"classes": 5}),
            r"fc\.weight is \[2, 4\] in the file and \[5, 4\] .*: fc has 2 outputs there, classes perhaps",
            id="other shapes",
        ),
        pytest.param(
            lambda: Model(_target_="no_such_module.Net"),
            r"no_such_module\.Net cannot be imported .*give package\.module\.factory",
            id="no module",
        ),
        pytest.param(lambda: own("Nets"), "Nets cannot be imported", id="no such name"),
        pytest.param(lambda: own("number"), "is a int, not a class or function", id="not callable"),
        pytest.param(
            lambda: own("text", arguments={}), r"returned a str; it must return a torch\.nn\.Module", id="no nn.Module"
        ),
        pytest.param(lambda: own(arguments={"clases": 2}), r"refuses model\.arguments .*clases", id="wrong argument"),
        pytest.param(
            lambda: own(code="own.pt"),
            r"model\.code is own\.pt, and .* lives in .*_model\.py",
            id="another code file",
        ),
    ],
)
def test_what_is_refused(mine: Path, model: Callable[[], Model], text: str) -> None:
    made = model()
    with pytest.raises(ModelError, match=text) as fault:
        load_model(made, PATHS)
    assert "\n" not in str(fault.value)


FAULTS = [
    ("broken", "ZeroDivisionError: in the factory"),
    ("missing", "KeyError: 'classes'"),
    ("leaves", "SystemExit: 3"),
]


@pytest.mark.parametrize(("factory", "says"), FAULTS, ids=[factory for factory, _ in FAULTS])
def test_a_fault_inside_the_factory_is_told_with_its_place(mine: Path, factory: str, says: str) -> None:
    with pytest.raises(ModelError, match=re.escape(says)) as fault:
        load_model(own(factory, arguments={}), PATHS)
    assert re.search(r"_model\.py, line \d+\)$", str(fault.value))
    assert fault.value.__cause__ is not None


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # PyTorch's, of what people still save
    QUANTIZED = torch.quantize_per_tensor(torch.ones(2, 4), 0.1, 0, torch.qint8)
NUMBERS = [
    pytest.param(torch.ones(2, 4, dtype=torch.int8), "int8 numbers, and the model has float32 there", id="integers"),
    pytest.param(torch.ones(2, 4, dtype=torch.complex64), "complex64 numbers", id="complex"),
    pytest.param(QUANTIZED, "a tensor that is quantized", id="quantized"),
    pytest.param(torch.ones(2, 4).to_sparse(), "a tensor that is sparse", id="sparse"),
    pytest.param(torch.ones(2, 4, device="meta"), "a tensor that is on the device meta", id="meta"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of quantized tensors
@pytest.mark.parametrize(("weight", "says"), NUMBERS)
def test_numbers_that_would_be_taken_for_others_are_refused(mine: Path, weight: torch.Tensor, says: str) -> None:
    torch.save({"fc.weight": weight, "fc.bias": torch.zeros(2)}, "own.pt")
    with pytest.raises(ModelError, match=re.escape(f"fc.weight holds {says}")):
        load_model(own(), PATHS)


def test_weights_of_the_pipeline_with_a_flipped_byte(mine: Path) -> None:
    path = PATHS.reference_weights
    path.parent.mkdir(parents=True)
    torch.save(ResNet(1, 10).state_dict(), path)
    manifest.seal(path, "train_reference", [])
    model = Model(arguments={"in_channels": 1, "classes": 10})
    load_model(model, PATHS)
    whole = bytearray(path.read_bytes())
    whole[9000] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StaleArtifact, match=r"weights\.pt cannot be used: its bytes differ"):
        load_model(model, PATHS)
