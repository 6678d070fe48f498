"""`enginewright configure` runs a model of the user's once, so that a fault shows in seconds and not after hours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from enginewright.cli import main

pytestmark = pytest.mark.slow

OWN = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, classes)
    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))
class Pair(Net):
    def forward(self, x):
        return super().forward(x), x.mean((2, 3))
class Baked(Net):
    def forward(self, x):
        return super().forward(x).reshape(2, 5)
class Two(Net):
    def forward(self, x, scale):
        return super().forward(x) * scale
"""
OPTION = """
name: mine
_target_: own_dry.Net
arguments: {classes: 5}
code: own_dry.py
weights_from: random
inputs: {x: {shape: [batch, 3, 32, 32]}}
outputs: [logits]
"""


@pytest.fixture
def own(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_dry", raising=False)  # of another test's folder
    (project / "own_dry.py").write_text(OWN)
    (project / "conf" / "model" / "mine.yaml").write_text(OPTION)
    (project / "images").mkdir()
    return project


def configure(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "configure",
                "model=mine",
                "data=image_folder",
                "data.root=images",
                "data.preprocessing.resize=32",
                "data.preprocessing.size=[32,32]",
                *arguments,
            ]
        )
    return int(ended.value.code or 0)


REFUSED = [
    ("model._target_=own_dry.Nett", "model._target_ own_dry.Nett cannot be imported"),
    ("+model.arguments.widht=2", "refuses model.arguments"),
    ("model._target_=own_dry.Pair", "returns 2 tensors and model.outputs names 1 (logits)"),
    ("model._target_=own_dry.Baked", "its batch is fixed"),
    ("model._target_=own_dry.Two", "missing 1 required positional argument: 'scale'"),
    ("model.task=segmentation", "judges [N, classes, H, W]"),
    ("model.arguments.classes=1", "set model.task to what the model does"),
]


@pytest.mark.parametrize(("override", "says"), REFUSED, ids=[override for override, _ in REFUSED])
def test_what_the_model_itself_shows(own: Path, override: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (own / "params.yaml").read_bytes(), (own / "conf" / "selected.yaml").read_bytes()
    assert configure(override) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert says in said
    assert before == ((own / "params.yaml").read_bytes(), (own / "conf" / "selected.yaml").read_bytes())


def test_weights_of_another_model(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), "own.pt")
    assert configure("model.weights_from=file", "model.weights=own.pt") == 2
    assert "own.pt does not fit own_dry.Net" in capsys.readouterr().err


def test_a_model_that_runs_is_written_and_checked(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert configure() == 0
    with pytest.raises(SystemExit) as ended:
        main(["configure", "--check"])
    assert not ended.value.code
    assert capsys.readouterr().err == ""


def test_check_finds_a_model_that_was_changed_since(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert configure("model.weights_from=file", f"model.weights={save()}") == 0
    torch.save(nn.Linear(2, 2).state_dict(), "own.pt")
    with pytest.raises(SystemExit) as ended:
        main(["configure", "--check"])
    assert ended.value.code == 2
    assert "does not fit" in capsys.readouterr().err


def save() -> str:
    weights = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "fc.weight": (5, 4), "fc.bias": (5,)}
    torch.save({key: torch.zeros(shape) for key, shape in weights.items()}, "own.pt")
    return "own.pt"


def test_without_torch_it_says_what_was_not_tried(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    assert configure("model._target_=own_dry.Nett") == 0
    assert "torch is not installed here, so `export` is the first to run the model" in capsys.readouterr().err
