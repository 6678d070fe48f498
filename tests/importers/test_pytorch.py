"""Export of small modules, and what a user reads when a model cannot be exported."""

from typing import Optional

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import nn

from enginewright import config
from enginewright.errors import ModelError
from enginewright.importers.compare import Comparison, Judged, require_equal
from enginewright.importers.metrics import metrics
from enginewright.importers.pytorch import to_onnx, traced
from enginewright.tasks import get_task
from support.compared import compared, imported

INTERFACE = config.Model(
    name="tiny", code="tiny.py", weights="tiny.pt", input_name="pixels", output_name="scores", input_shape=[1, 8, 8]
)


class Tiny(nn.Module):
    """Conv, BatchNorm that changes its input, Relu, Linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            self.norm.weight.uniform_(0.5, 2)
            self.norm.bias.uniform_(-1, 1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(features)
        return scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.features(x).mean((2, 3)))


class BakedBatch(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.features(x).view(int(x.shape[0]), 4, -1).mean(2))


class RepeatedRows(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).repeat(2, 1)


class TwoOutputs(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = super().forward(x)
        return scores, scores.softmax(1)  # type: ignore[return-value]


class Noise(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.rand(3)


class NoOnnxForm(Tiny):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bessel: torch.Tensor = torch.special.bessel_j0(super().forward(x))
        return bessel


def with_nan() -> nn.Module:
    model = Tiny()
    with torch.no_grad():
        model.head.weight[1, 2] = float("nan")
    return model


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
    figures = metrics(exported, comparison)
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

    interface = config.Model(name="tiny", input_shape=[8, 8, 1])
    model = ChannelsLast()
    assert compared(model, to_onnx(model, interface, config.Export()), interface).largest < 1e-5


@pytest.mark.parametrize(
    ("model", "text"),
    [
        pytest.param(TwoOutputs, r"tiny \(tiny.py\) returns a tuple and must return one tensor", id="two outputs"),
        pytest.param(RepeatedRows, r"returns \[4, 3\] for a batch of 2", id="output without the batch"),
        pytest.param(
            lambda: nn.Linear(5, 3),
            r"cannot run on a float32 input \[2, 1, 8, 8\]: .*model.input_shape must be",
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


@pytest.mark.parametrize(
    ("images", "where"),
    [
        pytest.param(None, "random input in PyTorch itself; look at tiny.py and tiny.pt", id="random"),
        pytest.param(
            np.ones((3, 1, 8, 8), np.float32),
            "images of the data set in PyTorch itself; look at tiny.py and tiny.pt and at data.preprocessing",
            id="images",
        ),
    ],
)
def test_nan_in_pytorch_itself_is_one_sentence(images: Optional[npt.NDArray[np.float32]], where: str) -> None:
    model = with_nan()
    exported = to_onnx(model, INTERFACE, config.Export())
    samples = None if images is None else {"pixels": images}
    with pytest.raises(ModelError, match=f"returns NaN or infinity on {where}"):
        compared(model, exported, INTERFACE, samples=samples)


def test_several_outputs_are_exported_for_the_task_that_judges_them_all() -> None:
    interface = config.Model(**{**vars(INTERFACE), "task": "outputs"})
    model = TwoOutputs()
    exported = to_onnx(model, interface, config.Export())
    assert [value.name for value in onnx.load_model_from_string(exported).graph.output] == ["scores", "scores_2"]
    assert compared(model, exported, interface).largest < 1e-5


def test_an_output_that_is_small_is_compared_by_its_own_size() -> None:
    """A fault in an output of thousandths does not hide behind one of hundreds."""

    class Scaled(Tiny):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = super().forward(x)
            return 1e3 * scores, self.scale * scores  # type: ignore[return-value]

    interface = config.Model(**{**vars(INTERFACE), "task": "outputs"})
    exported = to_onnx(Scaled(1e-3), interface, config.Export())
    assert compared(Scaled(1.1e-3), exported, interface).largest > 0.01


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


class CachedAnchors(Tiny):
    """As YOLO heads do: a grid made in `forward` once for each shape, and kept."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.features(x)
        if getattr(self, "shape", None) != features.shape[2:]:
            self.shape = features.shape[2:]
            self.anchors = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij"))
        return self.scores((features * self.anchors.sum(0)).mean((2, 3)))


@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean:torch.jit.TracerWarning")
def test_what_a_model_caches_in_forward_can_be_traced() -> None:
    model = CachedAnchors()
    assert compared(model, to_onnx(model, INTERFACE, config.Export()), INTERFACE).largest < 1e-5


class Logarithm(Tiny):
    """Right on images, which are positive, and NaN on normal noise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.log())


def test_the_comparison_takes_the_images_that_there_are() -> None:
    model, images = Logarithm(), np.random.default_rng(0).uniform(0.1, 1, (3, 1, 8, 8)).astype(np.float32)
    exported = to_onnx(model, INTERFACE, config.Export())
    comparison = compared(model, exported, INTERFACE, samples={"pixels": images})
    assert set(comparison.differences) == {1, 2, 7}
    assert comparison.largest < 1e-5
    with pytest.raises(ModelError, match="NaN or infinity on random input"):
        compared(model, exported, INTERFACE)


class Unstable(Tiny):
    """The difference of two large numbers that nearly cancel, summed in an order that each library chooses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = self.features(x) + 3000.0
        return self.scores(large.mean((2, 3)) - 3000.0)


def test_float64_judges_where_float32_itself_is_unstable() -> None:
    model = Unstable()
    exported = to_onnx(model, INTERFACE, config.Export())
    unstable = compared(model, exported, INTERFACE, tolerance=1e-6)
    assert unstable.largest > 1e-6
    assert unstable.float64, "PyTorch in float64 was asked"
    require_equal(unstable, imported(model, exported, INTERFACE), 1e-6)
    figures = metrics(exported, unstable)
    assert set(figures["pytorch_from_float64"]) == set(figures["onnxruntime_from_float64"])
    other = Unstable()
    with torch.no_grad():
        other.head.bias.add_(0.05)
    with pytest.raises(
        ModelError, match=r"PyTorch in float32 is itself .* from float64 and ONNX Runtime .*: the model is unst"
    ):
        require_equal(compared(other, exported, INTERFACE, tolerance=1e-6), imported(other, exported, INTERFACE), 1e-6)


def test_random_numbers_are_no_instability() -> None:
    model = Noise()
    assert not compared(model, to_onnx(model, INTERFACE, config.Export()), INTERFACE, tolerance=1e-6).float64


@pytest.mark.parametrize(
    ("pytorch", "onnxruntime", "explained"),
    [
        pytest.param(2e-4, 3e-4, True, id="as wrong as PyTorch"),
        pytest.param(2e-4, 9e-4, False, id="more wrong"),
        pytest.param(1e-5, 2e-5, False, id="float32 is stable"),
        pytest.param(0.1, 0.1, False, id="float32 says nothing"),
    ],
)
def test_what_instability_explains(pytorch: float, onnxruntime: float, explained: bool) -> None:
    comparison = Comparison({2: 5e-4}, {2: Judged(pytorch, onnxruntime)})
    assert (comparison.excess(1e-4) is None) is explained


@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python integer:torch.jit.TracerWarning")
def test_a_baked_batch_is_named() -> None:
    model = BakedBatch()
    exported = to_onnx(model, INTERFACE, config.Export())
    with pytest.raises(
        ModelError, match=r"the ONNX of tiny does not take batch 1, as a batch of 2 is baked into it; .*x.flatten\(1\)"
    ):
        compared(model, exported, INTERFACE)


def test_what_differs_run_to_run_is_over_the_tolerance() -> None:
    model = Noise()
    exported = to_onnx(model, INTERFACE, config.Export())
    comparison = compared(model, exported, INTERFACE)
    with pytest.raises(
        ModelError, match=r"differ on tiny by .* of the largest output at batch \d, over export.tolerance = 1.0e-04"
    ):
        require_equal(comparison, imported(Tiny(), exported, INTERFACE), 1e-4)


def test_tolerance_is_held_at_the_worst_batch(exported: bytes) -> None:
    comparison = Comparison({1: 1e-6, 2: 3e-4, 7: 2e-6})
    require_equal(comparison, imported(Tiny(), exported, INTERFACE), 3e-4)
    with pytest.raises(ModelError, match=r"by 3\.0e-04 of the largest output at batch 2"):
        require_equal(comparison, imported(Tiny(), exported, INTERFACE), 1e-4)


def test_comparison_sees_another_model(exported: bytes) -> None:
    other = Tiny()
    with torch.no_grad():
        other.head.bias.add_(1)
    difference = compared(other, exported, INTERFACE).differences[2]
    images = np.random.default_rng([0, 2]).standard_normal((2, 1, 8, 8), dtype=np.float32)
    with torch.inference_mode():  # the model has been put into evaluation mode
        largest = other(torch.from_numpy(images)).abs().max().item()
    assert difference == pytest.approx(1 / largest, rel=1e-4)
