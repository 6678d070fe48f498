from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from enginewright.config import Calibration, CalibrationAlgorithm
from enginewright.errors import CalibrationMismatch, ModelError
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.correction import measure_bias_correction
from support.networks import images

ALGORITHMS = pytest.mark.parametrize("algorithm", list(CalibrationAlgorithm), ids=lambda algorithm: algorithm.name)
TENSORS = [
    "input",
    "conv0",
    "relu0",
    "conv1",
    "relu1",
    "conv2",
    "sum",
    "relu2",
    "pool",
    "conv3",
    "mean",
    "flat",
    "logits",
]


@ALGORITHMS
def test_every_float_activation_gets_a_scale_in_the_order_of_the_graph_and_the_same_one_twice(
    network_file: Path, algorithm: CalibrationAlgorithm
) -> None:
    settings = Calibration(algorithm=algorithm, bins=512)
    batches = [{"input": images(8, seed)} for seed in (1, 2)]
    first, second = (calibrate(network_file, iter(batches), settings).to_bytes() for _ in range(2))
    assert first == second
    assert list(calibrate(network_file, batches, settings).scales) == TENSORS
    assert [path.name for path in network_file.parent.iterdir()] == ["model.onnx"], "nothing is left beside the model"


def test_minmax_is_the_largest_magnitude_of_all_batches(network_file: Path) -> None:
    small, large = images(4, 1), 3 * images(4, 2)
    cache = calibrate(
        network_file, [{"input": large}, {"input": small}], Calibration(algorithm=CalibrationAlgorithm.minmax)
    )
    assert cache.scales["input"] == np.float32(np.abs(large).max() / 127)


def test_percentile_cuts_off_an_outlier(network_file: Path) -> None:
    outlying = images(16)
    outlying[0, 0, 0, 0] = 100
    cut = calibrate(
        network_file, [{"input": outlying}], Calibration(algorithm=CalibrationAlgorithm.percentile, percentile=99.9)
    )
    assert cut.scales["input"] * 127 < 10


@ALGORITHMS
def test_a_tensor_of_zeros_gets_a_scale_that_works(
    network_file: Path, network: ModelProto, algorithm: CalibrationAlgorithm
) -> None:
    for tensor in network.graph.initializer:
        if tensor.name in ("w1", "b1"):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(network, network_file)
    cache = calibrate(network_file, [{"input": images()}], Calibration(algorithm=algorithm, bins=256))
    assert 0 < cache.scales["relu1"] <= np.float32(1 / 127)


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        pytest.param([], "there is no calibration image", id="no batch"),
        pytest.param(
            [{"input": np.full((1, 3, 12, 12), np.nan, np.float32)}],
            "batch of the input 'input' holds a NaN or infinity",
            id="NaN",
        ),
        pytest.param(
            [{"input": images()}, {"input": images() * np.float32(np.inf)}],
            "holds a NaN or infinity",
            id="infinity in the second",
        ),
        pytest.param(
            [{"input": np.full((1, 3, 12, 12), 3e38, np.float32)}],
            "the tensor .* holds a NaN or infinity",
            id="overflow inside",
        ),
    ],
)
@ALGORITHMS
def test_what_cannot_be_calibrated_is_one_sentence(
    network_file: Path,
    batches: list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]],
    text: str,
    algorithm: CalibrationAlgorithm,
) -> None:
    with pytest.raises(CalibrationMismatch, match=text):
        calibrate(network_file, batches, Calibration(algorithm=algorithm, bins=256))


def test_an_empty_batch_moves_nothing_and_a_missing_input_is_one_sentence(network_file: Path) -> None:
    full, empty = [{"input": images()}], [{"input": images()[:0]}]
    correction = measure_bias_correction(network_file, full)
    assert correction.layers
    for batches in ([*empty, *full], [*full, *empty]):
        assert (
            calibrate(network_file, batches, Calibration()).scales
            == calibrate(network_file, full, Calibration()).scales
        )
        assert measure_bias_correction(network_file, batches) == correction
    for run in (
        lambda fed: calibrate(network_file, fed, Calibration()),
        lambda fed: measure_bias_correction(network_file, fed),
    ):
        with pytest.raises(
            ModelError, match=r"cannot run the model on a calibration batch: Required inputs .* are missing"
        ):
            run([{"pixels": images()}])
