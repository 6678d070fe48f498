"""ONNX Runtime against the original: what is no difference, what is one, and whose fault it is."""

from dataclasses import replace
from typing import Optional

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from enginewright import config
from enginewright.errors import ModelError
from enginewright.importers.compare import Comparison, Judged, compare, require_equal
from enginewright.importers.metrics import metrics
from enginewright.importers.pytorch import to_onnx
from support.compared import compared, imported
from support.tiny_networks import (
    INTERFACE,
    BakedBatch,
    Logarithm,
    Noise,
    Tiny,
    Unstable,
    with_nan,
)


@pytest.fixture(scope="module")
def exported() -> bytes:
    return to_onnx(Tiny(), INTERFACE, config.Export())


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


def test_an_output_that_is_small_is_compared_by_its_own_size() -> None:
    """A fault in an output of thousandths does not hide behind one of hundreds."""

    class Scaled(Tiny):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = super().forward(x)
            return 1e3 * scores, self.scale * scores  # type: ignore[return-value]

    interface = config.Model(**{**vars(INTERFACE), "outputs": ["large", "small"]})
    exported = to_onnx(Scaled(1e-3), interface, config.Export())
    assert compared(Scaled(1.1e-3), exported, interface).largest > 0.01


def test_the_comparison_takes_the_images_that_there_are() -> None:
    model, images = Logarithm(), np.random.default_rng(0).uniform(0.1, 1, (3, 1, 8, 8)).astype(np.float32)
    exported = to_onnx(model, INTERFACE, config.Export())
    comparison = compared(model, exported, INTERFACE, samples={"pixels": images})
    assert set(comparison.differences) == {"batch 1", "batch 2", "batch 7"}
    assert comparison.largest < 1e-5
    with pytest.raises(ModelError, match="NaN or infinity on random input"):
        compared(model, exported, INTERFACE)


def test_float64_judges_where_float32_itself_is_unstable() -> None:
    model = Unstable()
    exported = to_onnx(model, INTERFACE, config.Export())
    unstable = compared(model, exported, INTERFACE, tolerance=1e-6)
    assert unstable.largest > 1e-6
    assert unstable.float64, "PyTorch in float64 was asked"
    require_equal(unstable, imported(model, exported, INTERFACE), 1e-6)
    figures = metrics(onnx.load_model_from_string(exported), unstable)
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
    comparison = Comparison({"batch 2": 5e-4}, {"batch 2": Judged(pytorch, onnxruntime)})
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
    comparison = Comparison({"batch 1": 1e-6, "batch 2": 3e-4, "batch 7": 2e-6})
    require_equal(comparison, imported(Tiny(), exported, INTERFACE), 3e-4)
    with pytest.raises(ModelError, match=r"by 3\.0e-04 of the largest output at batch 2"):
        require_equal(comparison, imported(Tiny(), exported, INTERFACE), 1e-4)


def test_comparison_sees_another_model(exported: bytes) -> None:
    other = Tiny()
    with torch.no_grad():
        other.head.bias.add_(1)
    difference = compared(other, exported, INTERFACE).differences["batch 2"]
    images = np.random.default_rng([0, 2]).standard_normal((2, 1, 8, 8), dtype=np.float32)
    with torch.inference_mode():  # the model has been put into evaluation mode
        largest = other(torch.from_numpy(images)).abs().max().item()
    assert difference == pytest.approx(1 / largest, rel=1e-4)


def test_a_model_without_an_original_is_run_at_every_batch(exported: bytes) -> None:
    found = imported(Tiny(), exported, INTERFACE)
    alone = replace(found, reference=None)
    comparison = compare(alone, alone.model, seed=0)
    assert dict(comparison.differences) == {}
    assert metrics(alone.model, comparison)["max_relative_difference"] == {}
    require_equal(comparison, alone, 0.0)


@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python integer:torch.jit.TracerWarning")
def test_its_baked_batch_is_named_too() -> None:
    exported = to_onnx(BakedBatch(), INTERFACE, config.Export())
    alone = replace(imported(Tiny(), exported, INTERFACE), reference=None)
    with pytest.raises(ModelError, match="the ONNX of tiny does not take batch 1, as a batch of 2 is baked into it"):
        compare(alone, alone.model, seed=0)
