"""Weights as people save them: what is loaded and what is said of it, and one sentence for each thing that is not."""

from __future__ import annotations

import argparse
import io
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from torch import nn

from enginewright.config import Model
from enginewright.errors import ModelError
from enginewright.models.weights import PREFIXES, read_weights

DOCUMENT = Path(__file__).parents[2] / "docs" / "weights.md"


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.norm(self.conv(x)).mean((2, 3)))
        return out


class Opens:
    """What a pickle may do when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("opened",)


STATE = Net().state_dict()
OTHER = {key: value + 1 for key, value in STATE.items()}


def prefixed(prefix: str, state: Any = STATE) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


def saved(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def written(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def an_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "weights")


def an_onnx(path: Path) -> None:
    from onnx import helper

    graph = helper.make_graph([], "g", [], [])
    path.write_bytes(helper.make_model(graph, producer_name="pytorch").SerializeToString())


def cut(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:3000])


def legacy(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


def no_counters(path: Path) -> None:
    torch.save({key: value for key, value in STATE.items() if not key.endswith("num_batches_tracked")}, path)


def nothing(path: Path) -> None:
    assert not path.exists()


def torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's, of what people still save
        torch.jit.save(torch.jit.script(Net()), path)


def dynamo(path: Path) -> None:
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 1, 8, 8),)), path)


class Case(NamedTuple):
    how: str  # as docs/weights.md says it
    save: Callable[[Path], None]
    says: str  # what is printed, or the sentence that refuses it
    loads: bool = True
    model: Mapping[str, Any] = MappingProxyType({})


CASES = [
    Case("a state dict", saved(STATE), ""),
    Case("a state dict of PyTorch before 1.6", legacy, ""),
    Case("half precision", saved({key: value.half() for key, value in STATE.items()}), ""),
    Case("bfloat16", saved({key: value.bfloat16() for key, value in STATE.items()}), ""),
    Case("safetensors", lambda path: safetensors.torch.save_file(STATE, path), ""),
    *(
        Case(f"under `{key}`", saved({key: STATE, "epoch": 3}), f"takes the state dict under '{key}'")
        for key in ("state_dict", "model", "model_state_dict", "net", "ema", "params")
    ),
    Case("under `model` and `state_dict`", saved({"model": {"state_dict": STATE}}), "under 'model.state_dict'"),
    Case("with an epoch beside the tensors", saved({**STATE, "epoch": 3}), ""),
    *(Case(f"with the prefix `{prefix}`", saved(prefixed(prefix)), f"removes '{prefix}' from") for prefix in PREFIXES),
    Case("compiled and parallel", saved(prefixed("module._orig_mod.")), "removes 'module._orig_mod.' from its keys"),
    Case(
        "Lightning's, with a loss beside the model",
        saved({"state_dict": {**prefixed("model."), "loss.weight": torch.ones(3)}}),
        "removes 'model.' from its keys and ignores loss.weight, outside that prefix",
    ),
    Case("without `num_batches_tracked`", no_counters, "starts 1 missing num_batches_tracked at 0"),
    Case("the same weights twice", saved({"model": STATE, "ema": STATE}), "takes the state dict under 'model'"),
    Case(
        "other weights under `ema`",
        saved({"model": STATE, "ema": OTHER}),
        "holds 2 state dicts that fit the model and differ; choose one with model.weights_key: 'model', 'ema'",
        loads=False,
    ),
    Case(
        "the same, with `weights_key: model`",
        saved({"model": STATE, "ema": OTHER}),
        "takes the state dict under 'model'",
        model={"weights_key": "model"},
    ),
    Case(
        "with a key that is not there",
        saved({"model": STATE}),
        "holds no state dict under model.weights_key 'modle'; did you mean 'model'?",
        loads=False,
        model={"weights_key": "modle"},
    ),
    Case(
        "`torch.save(model)`",
        saved(Net()),
        f"is a pickle that holds more than tensors ({__name__}.Net), and loading such a file runs whatever code it"
        " names; if you trust who wrote it, set model.trust_pickle=true, or keep the weights alone, where that code is:"
        " torch.save(model.state_dict(), path)",
        loads=False,
    ),
    Case("the same, with `trust_pickle: true`", saved(Net()), "", model={"trust_pickle": True}),
    Case(
        "a checkpoint with the arguments of the training",
        saved({"model": STATE, "args": argparse.Namespace(lr=1)}),
        "more than tensors (argparse.Namespace)",
        loads=False,
    ),
    Case("TorchScript", torchscript, "is a TorchScript archive, a compiled program; save its weights", loads=False),
    Case("`torch.export.save`", dynamo, "is a program of torch.export", loads=False),
    Case("part of a larger model", saved(prefixed("backbone.")), "every key begins with 'backbone.'", loads=False),
    Case("another model", saved({"a": torch.ones(1)}), "it lacks conv.weight, conv.bias, norm.weight and", False),
    Case("a list of tensors", saved([torch.ones(1)]), "holds a list that is not a state dict", loads=False),
    Case("an ONNX file", an_onnx, "is an ONNX model; set model.source=onnx and model.path=", loads=False),
    Case("Keras' HDF5", written(b"\x89HDF\r\n\x1a\n"), "is an HDF5 file, as Keras saves it", loads=False),
    Case("a TensorRT engine", written(b"ftrt" + bytes(90)), "is a TensorRT engine", loads=False),
    Case("a TensorFlow Lite model", written(bytes(4) + b"TFL3" + bytes(90)), "is a TensorFlow Lite model", loads=False),
    Case(
        "a Git LFS pointer",
        written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "is a Git LFS pointer, not the file itself; run `git lfs pull`",
        loads=False,
    ),
    Case("a page instead of a download", written(b"<!DOCTYPE html><html>"), "is an HTML page", loads=False),
    Case("compressed", written(b"\x1f\x8b" + bytes(90)), "is compressed by gzip; unpack it first", loads=False),
    Case("another zip", an_archive, "is a zip that PyTorch did not write", loads=False),
    Case("cut off", cut, "is damaged: it begins as a zip and does not end as one; copy it again", loads=False),
    Case("an empty file", written(b""), "is empty; copy it again", loads=False),
    Case("anything else", written(b"weights of a scale"), "is damaged or not a PyTorch file", loads=False),
    Case("a folder", lambda path: path.mkdir(), "is a folder; name the file in it", loads=False),
    Case("no file", nothing, "do not exist; set model.weights to a state dict", loads=False),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", CASES, ids=[case.how for case in CASES])
def test_a_way_to_save_weights(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.save(path := Path("weights.bin"))
    if not case.loads:
        with pytest.raises(ModelError) as fault:
            read_weights(path, Model(**case.model), STATE)
        assert case.says in str(fault.value)
        assert "\n" not in str(fault.value)
        return
    network = Net()
    network.load_state_dict(read_weights(path, Model(**case.model), network.state_dict()))
    said = capsys.readouterr().err
    assert case.says in said
    assert bool(case.says) == bool(said)
    if not case.model.get("trust_pickle"):
        assert torch.allclose(network.fc.weight, STATE["fc.weight"], atol=0.01)


@pytest.mark.parametrize("trusted", [False, True])
def test_code_of_a_pickle_runs_only_when_it_is_trusted(trusted: bool) -> None:
    torch.save({"model": STATE, "extra": Opens()}, path := Path("weights.bin"))
    if trusted:
        read_weights(path, Model(trust_pickle=True), STATE)
    else:
        with pytest.raises(ModelError, match="runs whatever code it names"):
            read_weights(path, Model(), STATE)
    assert Path("opened").exists() == trusted


class Fails:
    def __reduce__(self) -> tuple[Any, ...]:
        return divmod, (1, 0)


def test_a_trusted_pickle_whose_code_fails() -> None:
    torch.save({"model": STATE, "extra": Fails()}, path := Path("weights.bin"))
    with pytest.raises(ModelError, match=r"code that it names fails with ZeroDivisionError"):
        read_weights(path, Model(trust_pickle=True), STATE)


def test_a_trusted_pickle_whose_code_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    torch.save(Net(), stream)
    Path("weights.bin").write_bytes(stream.getvalue())
    monkeypatch.delattr(f"{__name__}.Net")
    with pytest.raises(ModelError, match=r"a pickle that needs code which is not here .*make that importable"):
        read_weights(Path("weights.bin"), Model(trust_pickle=True), STATE)


def test_the_same_model_under_two_prefixes_is_not_guessed() -> None:
    torch.save({**prefixed("model."), **prefixed("module.", OTHER)}, path := Path("weights.bin"))
    with pytest.raises(ModelError, match=r"under the prefixes 'module\.', 'model\.'; save one of them"):
        read_weights(path, Model(), STATE)


def test_the_document_lists_every_way() -> None:
    rows = [line.split("|")[1].strip() for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if "|" in line]
    assert [case.how for case in CASES] == rows[2:]
