"""The two exporters on the same networks: equal answers, equal bytes from anywhere, and what each refuses."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import onnx
import pytest
import torch
from torch import nn

from enginewright import config
from enginewright.config import Exporter
from enginewright.errors import ModelError
from enginewright.importers.compare import compare
from enginewright.importers.normalize import normalized
from enginewright.importers.pytorch import to_onnx, traced
from enginewright.interface import Axes, AxisRange
from support.project import ROOT

DYNAMO = config.Export(exporter=Exporter.dynamo)
AXES = {"batch": AxisRange(1, 4, 16), "height": AxisRange(16, 24, 32), "width": AxisRange(16, 24, 32)}
IMAGES = config.Model(
    inputs={"images": config.Input(["batch", 3, "height", "width"])},
    outputs=["classes", "pixels"],
    name="two heads",
    code="own.py",
)


class TwoHeads(nn.Module):
    """A class for the image and one for each pixel, at half the resolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.classes, self.pixels = nn.Linear(8, 5), nn.Conv2d(8, 2, 1)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.body(images)
        return {"classes": self.classes(features.mean((2, 3))), "pixels": self.pixels(features)}


class FixedHeight(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count: int = images.shape[2]
        weights = torch.ones(24 if count == 24 else 1)
        return images * weights[:, None] if len(weights) > 1 else images


def export(
    network: nn.Module, settings: config.Export = DYNAMO, model: config.Model = IMAGES, axes: Optional[Axes] = None
) -> onnx.ModelProto:
    return onnx.load_model_from_string(to_onnx(network.eval(), model, settings, axes=AXES if axes is None else axes))


def shapes(model: onnx.ModelProto) -> dict[str, list[object]]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


@pytest.mark.parametrize("exporter", Exporter, ids=lambda exporter: exporter.name)
@pytest.mark.parametrize("opset", [17, 18, 20])
def test_both_exporters_give_the_same_interface_and_answers(exporter: Exporter, opset: int) -> None:
    settings = config.Export(exporter=exporter, opset_version=opset)
    imported = traced(TwoHeads().eval(), IMAGES, settings, axes=AXES)
    model = normalized(imported.model)
    assert shapes(model) == {
        "images": ["batch", 3, "height", "width"],
        "classes": ["batch", 5],
        "pixels": ["batch", 2, "pixels_2", "pixels_3"],
    }
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]
    assert compare(imported, model, seed=0, axes=AXES).largest < 1e-5


def test_an_axis_of_one_size_is_fixed_for_dynamo() -> None:
    axes = {**AXES, "height": AxisRange(24, 24, 24)}
    assert shapes(export(TwoHeads(), axes=axes))["images"] == ["batch", 3, "height", "width"]


def test_a_branch_on_a_size_is_found_by_the_comparison() -> None:
    """The exporter does not say that it has fixed the height to that of the example."""
    model = config.Model(inputs=IMAGES.inputs, outputs=["out"], name="fixed", code="own.py")
    settings = config.Export(exporter=Exporter.dynamo, opset_version=18)
    imported = traced(FixedHeight().eval(), model, settings, axes=AXES)
    with pytest.raises(ModelError, match="height 16") as fault:
        compare(imported, normalized(imported.model), seed=0, axes=AXES)
    assert "\n" not in str(fault.value)


def test_what_the_version_converter_cannot_bring_down_is_refused() -> None:
    with pytest.raises(ModelError, match=r"what export\.exporter dynamo wrote from opset 18 to 13.*set export\.opset"):
        export(TwoHeads(), config.Export(exporter=Exporter.dynamo, opset_version=13))


PROGRAM = """
import hashlib, sys
from own import make
from enginewright import config
from enginewright.importers.pytorch import to_onnx
model = config.Model(inputs={"x": config.Input(["batch", 3, 8, 8])}, outputs=["y"])
exported = to_onnx(make(), model, config.Export(exporter=config.Exporter.dynamo))
print(hashlib.sha256(exported).hexdigest(), b".py" in exported, b"own" in exported)
"""
OWN = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        y = torch.cond(x.sum() > 0, lambda y: torch.sin(y), lambda y: torch.cos(y), (x,))
        return torch.relu(self.conv(y)).flatten(1).softmax(1)
def make():
    torch.manual_seed(0)
    return Net().eval()
"""


@pytest.mark.slow
def test_dynamo_writes_equal_bytes_in_every_process_and_folder(tmp_path: Path) -> None:
    said = []
    for folder, comment in ((tmp_path / "one", ""), (tmp_path / "two" / "deeper", "# moves every line\n\n")):
        folder.mkdir(parents=True)
        (folder / "own.py").write_text(comment + OWN)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
        command = [sys.executable, "-c", PROGRAM]
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        said.append(run.stdout.split())
    assert said[0] == said[1]
    assert said[0][1:] == ["False", "False"]
    assert len(said[0][0]) == len(hashlib.sha256().hexdigest())


# --- operators of the user's own


@torch.library.custom_op("enginewright_tests::swish", mutates_args=())
def swish(x: torch.Tensor, beta: float) -> torch.Tensor:
    return x * torch.sigmoid(beta * x)


@swish.register_fake
def _(x: torch.Tensor, beta: float) -> torch.Tensor:
    return torch.empty_like(x)


class Swish(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.ops.enginewright_tests.swish(images, 1.5)
        return found


def test_a_symbolic_that_the_user_registers_is_used_by_the_torchscript_exporter() -> None:
    from torch.onnx import (  # type: ignore[attr-defined]  # public, and documented
        register_custom_op_symbolic,
        unregister_custom_op_symbolic,
    )

    def symbolic(graph, x, beta):  # type: ignore[no-untyped-def]
        return graph.op("tests::Swish", x, beta_f=1.5)

    model = config.Model(inputs=IMAGES.inputs, outputs=["out"])
    register_custom_op_symbolic("enginewright_tests::swish", symbolic, 17)
    try:
        found = traced(Swish(), model, config.Export(), axes=AXES).model
    finally:
        unregister_custom_op_symbolic("enginewright_tests::swish", 17)
    (node,) = found.graph.node
    assert (node.domain, node.op_type, node.attribute[0].name) == ("tests", "Swish", "beta")


@pytest.mark.parametrize(
    ("exporter", "says"),
    [
        (Exporter.torchscript, r"swish .*has no ONNX form at opset 17"),
        (Exporter.dynamo, r"swish has no ONNX form .*or set export\.exporter=torchscript"),
    ],
    ids=["torchscript", "dynamo"],
)
def test_an_operator_without_a_symbolic_is_refused(exporter: Exporter, says: str) -> None:
    model = config.Model(inputs=IMAGES.inputs, outputs=["out"], name="swish")
    with pytest.raises(ModelError, match=says):
        traced(Swish(), model, config.Export(exporter=exporter), axes=AXES)


class Asserts(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2] == 224, "Input height (24) doesn't match model (224)"
        return images


def test_an_assertion_of_the_model_is_told_with_its_place() -> None:
    model = config.Model(inputs=IMAGES.inputs, outputs=["out"], name="asserts")
    with pytest.raises(ModelError, match=r"cannot run .*: AssertionError: Input height .*test_exporters\.py, line \d+"):
        traced(Asserts(), model, config.Export(), axes=AXES)
