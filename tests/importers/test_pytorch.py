"""Export of small modules, and what a user reads when a model cannot be exported."""

import onnx
import pytest
import torch
from torch import nn

from enginewright import config
from enginewright.errors import ModelError
from enginewright.importers.metrics import metrics
from enginewright.importers.pytorch import to_onnx, traced
from enginewright.tasks import get_task
from support.compared import compared
from support.tiny_networks import INTERFACE, CachedAnchors, NoOnnxForm, RepeatedRows, Tiny, TwoOutputs


@pytest.fixture(scope="module")
def exported() -> bytes:
    return to_onnx(Tiny(), INTERFACE, config.Export())


def test_interface_is_as_configured(exported: bytes) -> None:
    model = onnx.load_model_from_string(exported)
    onnx.checker.check_model(model, full_check=True)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert axes == {"pixels": ["batch", 1, 8, 8], "scores": ["batch", 3]}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
def test_every_opset_is_written_as_asked_fused_and_equal_to_pytorch(opset: int) -> None:
    model = Tiny()
    exported = to_onnx(model, INTERFACE, config.Export(opset_version=opset))
    comparison = compared(model, exported, INTERFACE)
    figures = metrics(onnx.load_model_from_string(exported), comparison)
    assert figures["opset_version"] == opset
    assert set(figures["max_relative_difference"]) == {"batch_1", "batch_2", "batch_7"}
    assert 0 < comparison.largest < 1e-5
    assert "BatchNormalization" not in {node.op_type for node in onnx.load_model_from_string(exported).graph.node}
    # 4 x 1 x 3 x 3 weights and 4 biases of the fused convolution, 3 x 4 weights and 3 biases of the head; axes of
    # ReduceMean besides
    assert 55 <= figures["parameters"] <= 57


def test_a_model_in_training_mode_is_exported_for_inference(exported: bytes) -> None:
    model = Tiny()
    model.train()
    assert to_onnx(model, INTERFACE, config.Export()) == exported


def test_bytes_are_equal_and_name_no_source_file(exported: bytes) -> None:
    assert to_onnx(Tiny(), INTERFACE, config.Export()) == exported
    assert __file__.encode() not in exported
    assert b".py" not in exported


def test_equal_weights_reach_their_layers_without_identity_nodes() -> None:
    """Fresh BatchNorms give equal biases, of which the exporter stores one."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    with torch.no_grad():
        model[0].bias.zero_()  # type: ignore[operator]
        model[3].bias.zero_()  # type: ignore[operator]
    exported = to_onnx(model, INTERFACE, config.Export())
    graph = onnx.load_model_from_string(exported).graph
    assert [node.op_type for node in graph.node] == ["Conv", "Relu", "Conv", "Flatten", "Gemm"]
    stored = {tensor.name for tensor in graph.initializer}
    assert stored == {"/0/Conv.weight", "/0/Conv.bias", "/3/Conv.weight", "6.weight", "6.bias"}
    assert all(set(node.input[1:]) <= stored for node in graph.node)
    assert compared(model, exported, INTERFACE).largest < 1e-5


def test_padding_is_part_of_the_convolution_behind_it() -> None:
    """As TensorFlow pads, on two sides alone: the exporter writes shape arithmetic and a Pad."""

    class Padded(Tiny):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded: torch.Tensor = super().forward(nn.functional.pad(x, (0, 1, 0, 1)))
            return padded

    exported = to_onnx(Padded(), INTERFACE, config.Export())
    (convolution,) = (
        node
        for node in onnx.load_model_from_string(exported).graph.node
        if node.op_type in ("Conv", "Pad", "Concat", "Slice")
    )
    assert next(list(attribute.ints) for attribute in convolution.attribute if attribute.name == "pads") == [0, 0, 1, 1]
    assert compared(Padded(), exported, INTERFACE).largest < 1e-5


def test_channels_last_models_keep_their_layout() -> None:
    class ChannelsLast(Tiny):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.permute(0, 3, 1, 2))

    interface = config.Model(name="tiny", inputs={"input": config.Input(["batch", 8, 8, 1])}, outputs=["logits"])
    model = ChannelsLast()
    assert compared(model, to_onnx(model, interface, config.Export()), interface).largest < 1e-5


@pytest.mark.parametrize(
    ("model", "text"),
    [
        pytest.param(
            TwoOutputs, r"tiny \(tiny.py\) returns 2 tensors and model.outputs names 1 \(scores\)", id="two outputs"
        ),
        pytest.param(RepeatedRows, r"returns \[4, 3\] for a batch of 2", id="output without the batch"),
        pytest.param(
            lambda: nn.Linear(5, 3),
            r"cannot run on a float32 input \[2, 1, 8, 8\]: .*model.inputs must be",
            id="wrong input shape",
        ),
        pytest.param(
            NoOnnxForm,
            r"tiny has no ONNX form at opset 17: .*bessel_j0.*; replace that operation in tiny.py$",
            id="operation without ONNX form",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2**24, device="meta")),
            r"holds 4.1 GiB of weights and one ONNX file takes 2 GiB",
            id="over 2 GiB",
        ),
    ],
)
def test_a_model_that_cannot_be_exported_is_one_sentence(model: type[Tiny], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        to_onnx(model(), INTERFACE, config.Export())


def test_several_outputs_are_exported_by_their_names() -> None:
    interface = config.Model(**{**vars(INTERFACE), "outputs": ["scores", "shares"]})
    model = TwoOutputs()
    exported = to_onnx(model, interface, config.Export())
    assert [value.name for value in onnx.load_model_from_string(exported).graph.output] == ["scores", "shares"]
    assert compared(model, exported, interface).largest < 1e-5


@pytest.mark.parametrize(
    ("task", "outputs", "refused"),
    [
        pytest.param("classification", 3, "", id="classes"),
        pytest.param(
            "classification",
            1,
            "is [N, 1], and model.task classification judges [N, classes], two classes at least",
            id="one value",
        ),
        pytest.param(
            "segmentation",
            3,
            "is [N, 3], and model.task segmentation judges [N, classes, H, W]",
            id="classes of images for pixels",
        ),
        pytest.param("outputs", 1, "", id="one value as a number"),
    ],
)
def test_what_the_task_does_not_judge_is_refused_before_anything_is_built(
    task: str, outputs: int, refused: str
) -> None:
    interface = config.Model(**{**vars(INTERFACE), "task": task})
    model = Tiny()
    model.head = nn.Linear(4, outputs)
    found = traced(model, interface, config.Export())
    if not refused:
        get_task(task).check(found.interface, "tiny (tiny.py)")
        return
    with pytest.raises(ModelError) as fault:
        get_task(task).check(found.interface, "tiny (tiny.py)")
    assert f"the output 'scores' of tiny (tiny.py) {refused}" in str(fault.value)
    assert "set model.task to what the model does (outputs, where" in str(fault.value)


@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean:torch.jit.TracerWarning")
def test_what_a_model_caches_in_forward_can_be_traced() -> None:
    model = CachedAnchors()
    assert compared(model, to_onnx(model, INTERFACE, config.Export()), INTERFACE).largest < 1e-5
