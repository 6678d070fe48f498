"""The reference model for detection: what it answers, in both modes and as ONNX."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from enginewright import config
from enginewright.importers.pytorch import to_onnx
from enginewright.models.detector import Detector, Predictions
from support.compared import compared

SMALL = (8, 8, 16, 16)


def detector(size: tuple[int, int] = (32, 48)) -> Detector:
    torch.manual_seed(0)
    return Detector(in_channels=1, classes=3, size=size, widths=SMALL)


def test_points_are_the_centres_of_the_cells_of_two_grids() -> None:
    """32 x 48 pixels: 4 x 6 cells of 8 pixels, 2 x 3 of 16."""
    found = detector()
    assert found.strides.tolist() == [8.0] * 24 + [16.0] * 6
    assert found.points.T[[0, 1, 6, 23, 24, 25, 27, 29]].tolist() == [
        *([4, 4], [12, 4], [4, 12], [44, 28]),
        *([8, 8], [24, 8], [8, 24], [40, 24]),
    ]


def test_both_modes_speak_of_the_same_boxes_and_scores() -> None:
    network, images = detector(), torch.rand(2, 1, 32, 48)
    network.eval()
    answered = network(images)
    for module in network.modules():
        if not isinstance(module, torch.nn.BatchNorm2d):
            module.training = True  # as in training but for the statistics of the batch
    found = network(images)
    assert isinstance(found, Predictions)
    assert answered.shape == (2, 7, 30)
    centre, size, scores = answered[:, :2], answered[:, 2:4], answered[:, 4:]
    torch.testing.assert_close(torch.cat([centre - size / 2, centre + size / 2], 1), found.boxes.transpose(1, 2))
    torch.testing.assert_close(scores, found.logits.sigmoid().transpose(1, 2))
    points, strides, distances = found.points, found.strides, found.distances
    assert ((found.boxes[..., :2] < points) & (found.boxes[..., 2:] > points)).all()  # a point lies in its box
    assert (points.shape, strides.shape) == ((30, 2), (30,))
    assert distances is not None
    means = (distances.softmax(-1) * torch.arange(16.0)).sum(-1) * strides[:, None]
    torch.testing.assert_close(means[..., 2:], found.boxes[..., 2:] - points)


def test_a_new_network_finds_nothing() -> None:
    assert detector().eval()(torch.rand(4, 1, 32, 48))[:, 4:].max() < 0.1


def test_weights_hold_nothing_that_is_not_learned() -> None:
    assert not {"points", "strides", "bins"} & set(detector().state_dict())
    weights = detector().state_dict()
    Detector(1, 3, (64, 64), SMALL).load_state_dict(weights)  # those of one size are of use at another


@pytest.mark.slow
@pytest.mark.parametrize("exporter", config.Exporter, ids=lambda exporter: exporter.name)
def test_onnx_answers_as_pytorch_does(exporter: config.Exporter) -> None:
    model = config.Model(inputs={"images": config.Input(["batch", 1, 32, 48])}, outputs=["detections"], name="detector")
    settings = config.Export(exporter=exporter, opset_version=18)
    network = detector()
    exported = to_onnx(network, model, settings)
    comparison = compared(network.eval(), exported, model)
    assert 0 < comparison.largest < 1e-5
    (output,) = onnx.load_model_from_string(exported).graph.output
    assert [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim] == ["batch", 7, 30]
    assert np.isfinite(comparison.largest)
