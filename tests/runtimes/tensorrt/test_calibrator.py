"""TensorRT's calibrators: every image reaches the device in whole batches, and no fault inside a callback is lost."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from runtimes.tensorrt.networks import resnet

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.config import Calibration, CalibrationAlgorithm
from enginewright.errors import CalibrationMismatch, RuntimeUnavailable
from enginewright.runtimes.tensorrt.calibrator import CacheSource, calibrate
from support import cuda_stand_in
from support.cuda_stand_in import Gpu
from support.tensorrt_stand_in.builder import Record, stand_in

SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """Everything is freed and every context popped in the end."""
    gpu = cuda_stand_in.install(monkeypatch)
    yield gpu
    assert (gpu.live, gpu.pushed) == ({}, 0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(resnet((1,), 4, 8, 10), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def images(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Image i is i everywhere."""
    return np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, *SHAPE)).copy()


def batches(count: int, size: int) -> Iterator[dict[str, Any]]:
    pixels = images(count)
    for start in range(0, count, size):
        yield {"input": pixels[start : start + size]}


def seen_by(record: Record, size: int) -> list[float]:
    """What lies at the addresses that TensorRT is given, one number an image, in order."""
    found: list[float] = []

    def read(addresses: dict[str, int]) -> None:
        length = size * int(np.prod(SHAPE)) * 4
        floats = np.frombuffer(ctypes.string_at(addresses["input"], length), np.float32).reshape(size, *SHAPE)
        found.extend(floats[:, 0, 0, 0].tolist())

    record.on_batch = read
    return found


@pytest.mark.parametrize(
    ("algorithm", "base"),
    [
        pytest.param(CalibrationAlgorithm.entropy, "IInt8EntropyCalibrator2", id="entropy"),
        pytest.param(CalibrationAlgorithm.minmax, "IInt8MinMaxCalibrator", id="minmax"),
    ],
)
@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_every_image_reaches_the_calibrator_of_the_algorithm(
    model: Path, version: str, algorithm: CalibrationAlgorithm, base: str
) -> None:
    record = Record()
    seen = seen_by(record, 4)
    cache = calibrate(stand_in(version, record), model, batches(12, 4), Calibration(algorithm=algorithm))
    assert seen == list(range(12))
    assert record.calibrator_class == base
    assert (cache.header, dict(cache.scales)) == (Header.of(algorithm), {"input": 0.25})
    assert cache.version == {"8.6.0": "8600", "10.3.0": "100300"}[version]


def test_scales_by_percentile_are_left_to_the_portable_calibrator(model: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"no scales by percentile.*set calibration\.runtime=onnxruntime"):
        calibrate(
            stand_in("8.6.0", Record()), model, batches(8, 4), Calibration(algorithm=CalibrationAlgorithm.percentile)
        )


def test_the_calibration_profile_is_the_batch_in_min_opt_and_max(model: Path) -> None:
    record = Record()
    calibrate(stand_in("8.6.0", record), model, batches(8, 4), Calibration())
    assert record.calibration_profile == {"input": ((4, *SHAPE),) * 3}
    assert record.profiles == [record.calibration_profile]
    assert record.flags == {"INT8"}
    assert "TF32" in record.cleared
    assert record.settings["builder_optimization_level"] == 0  # the first kernel that works: no timing decides
    assert record.given_timings is None  # and no timing cache either


def test_a_smaller_last_batch_is_filled_up_with_its_own_images(model: Path) -> None:
    record = Record()
    seen = seen_by(record, 4)
    calibrate(stand_in("8.6.0", record), model, batches(10, 4), Calibration())
    assert seen == [*range(10), 8, 9]


def broken_off() -> Iterator[dict[str, Any]]:
    yield {"input": images(4)}
    raise OSError("the disk went away")


def with_nan() -> Iterator[dict[str, Any]]:
    yield {"input": images(4)}
    yield {"input": np.full((4, *SHAPE), np.nan, np.float32)}


@pytest.mark.parametrize(
    ("feeds", "fault", "says"),
    [
        pytest.param(list, CalibrationMismatch, "there is no calibration image", id="no batch"),
        pytest.param(with_nan, CalibrationMismatch, "batch 1, input 'input', holds NaN", id="NaN"),
        pytest.param(broken_off, OSError, "the disk went away", id="a fault in the middle"),
        pytest.param(
            lambda: [{"image": images(4)}],
            CalibrationMismatch,
            "the calibration images feed image and .*model.onnx wants input",
            id="wrong name",
        ),
        pytest.param(
            lambda: [{"input": images(2)}, {"input": images(4)}],
            CalibrationMismatch,
            "has 4 images and the first had 2",
            id="growing batch",
        ),
        pytest.param(
            lambda: [{"input": images(4)}, {"input": images(4)[..., :5]}],
            CalibrationMismatch,
            r"batch 1 feeds 'input' \[.*5\] and the first \[.*\]: TensorRT calibrates at one shape; set"
            " calibration.runtime=onnxruntime, which calibrates at the samples' own",
            id="another shape",
        ),
    ],
)
def test_a_fault_in_the_images_ends_the_calibration(model: Path, feeds: Any, fault: type[Exception], says: str) -> None:
    with pytest.raises(fault, match=says):
        calibrate(stand_in("8.6.0", Record()), model, feeds(), Calibration())


def test_tensorrt_11_has_no_calibrators(model: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"no INT8 calibrators .* set calibration.runtime=onnxruntime"):
        calibrate(stand_in("11.4.0", Record()), model, batches(4, 4), Calibration())


def test_only_the_header_of_a_finished_cache_changes_with_the_version() -> None:
    cache = CalibrationCache(Header.minmax, {"a: b": 0.5, "c": 1.5})
    content = CacheSource(cache, "101303").cache()
    assert content == b"TRT-101303-MinMaxCalibration\na: b: 3f000000\nc: 3fc00000\n"
