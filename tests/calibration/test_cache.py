"""calib.cache against a parser written from TensorRT's format alone."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from enginewright.calibration.cache import CalibrationCache, Header, scale_of
from enginewright.config import CalibrationAlgorithm
from enginewright.errors import CalibrationMismatch

SCALES = {"input": float(np.float32(0.1)), "/stage: 1/Conv_output_0": float(np.float32(3.5e-3)), "logits": 1.0}


def independent(content: bytes) -> tuple[str, dict[str, float]]:
    header, *lines = content.decode().split("\n")
    pairs = [line.rsplit(": ", 1) for line in lines if line]
    return header, {name: struct.unpack(">f", bytes.fromhex(digits))[0] for name, digits in pairs}


@pytest.mark.parametrize(
    ("algorithm", "named"),
    [
        pytest.param(CalibrationAlgorithm.entropy, "EntropyCalibration2", id="entropy"),
        pytest.param(CalibrationAlgorithm.minmax, "MinMaxCalibration", id="minmax"),
        pytest.param(CalibrationAlgorithm.percentile, "MinMaxCalibration", id="percentile"),
    ],
)
def test_is_what_tensorrt_reads_and_comes_back_equal(algorithm: CalibrationAlgorithm, named: str) -> None:
    cache = CalibrationCache(Header.of(algorithm), SCALES)
    header, scales = independent(cache.to_bytes())
    assert (header, scales) == (f"TRT-8600-{named}", SCALES)
    assert CalibrationCache.parse(cache.to_bytes()) == cache


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(CalibrationCache(Header.minmax, SCALES), id="another header"),
        pytest.param(CalibrationCache(Header.entropy, {**SCALES, "logits": 2.0}), id="another scale"),
        pytest.param(CalibrationCache(Header.entropy, SCALES, "101601"), id="another version"),
    ],
)
def test_caches_that_differ_are_not_equal(other: CalibrationCache) -> None:
    assert CalibrationCache(Header.entropy, SCALES) != other


def test_a_file_of_tensorrts_own_is_read() -> None:
    cache = CalibrationCache.parse(
        b"TRT-8601-EntropyCalibration2\nimages: 3caa0000\n(Unnamed Layer* 48) [Constant]_output: 3f800000\n"
    )
    assert cache.version == "8601"
    assert cache.header is Header.entropy
    assert cache.scales == {"images": pytest.approx(0.020752, abs=1e-6), "(Unnamed Layer* 48) [Constant]_output": 1.0}


@pytest.mark.parametrize("end", [b"\n", b""], ids=["newline", "no newline"])
def test_tensorrt_writes_no_leading_zeros(end: bytes) -> None:
    """The scale of a bias of zeros, and one of 1e-30, as `std::hex` prints them."""
    cache = CalibrationCache.parse(
        b"TRT-8600-EntropyCalibration2\ninput: 3f800000\ntiny: da24260\n(Unnamed Layer* 126) [Shuffle]_output: 0" + end
    )
    assert cache.scales == {"input": 1.0, "tiny": pytest.approx(1e-30), "(Unnamed Layer* 126) [Shuffle]_output": 0.0}
    assert CalibrationCache.parse(cache.to_bytes()) == cache


def test_round_trip_is_byte_identical(tmp_path: Path) -> None:
    path = tmp_path / "calib.cache"
    CalibrationCache(Header.minmax, SCALES).write(path)
    assert CalibrationCache.read(path).to_bytes() == path.read_bytes()


def test_another_version_keeps_the_scales() -> None:
    cache = CalibrationCache(Header.entropy, SCALES).stamped("101601")
    assert independent(cache.to_bytes()) == ("TRT-101601-EntropyCalibration2", SCALES)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"", "line 1: .* is no header", id="empty"),
        pytest.param(b"input: 3caa0000\n", "line 1: .* is no header", id="no header"),
        pytest.param(b"TRT-8600-Guesswork\n", "line 1: .* is no header", id="unknown algorithm"),
        pytest.param(
            b"TRT-8600-EntropyCalibration2\ninput 3caa0000\n",
            "line 2: is not `tensor: 1 to 8 hex digits`",
            id="no separator",
        ),
        pytest.param(b"TRT-8600-EntropyCalibration2\ninput: 3caa0000\nlogits: 3caa", "line 3: is not", id="cut short"),
        pytest.param(b"TRT-8600-EntropyCalibration2\ninput: 3caa0000f\n", "line 2: is not", id="nine digits"),
        pytest.param(b"TRT-8600-EntropyCalibration2\ninput: 3caa00zz\n", "line 2: is not", id="no hex"),
        pytest.param(b"TRT-8600-EntropyCalibration2\ninput: 7fc00000\n", "line 2: the scale of input is nan", id="NaN"),
        pytest.param(
            b"TRT-8600-EntropyCalibration2\ninput: 7f800000\n", "line 2: the scale of input is inf", id="infinity"
        ),
        pytest.param(
            b"TRT-8600-EntropyCalibration2\ninput: bcaa0000\n", "line 2: the scale of input is -0.02", id="negative"
        ),
        pytest.param(b"\xff\xfe\x00", "line 1: .* is no header", id="binary"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "calib.cache"
    path.write_bytes(content)
    with pytest.raises(CalibrationMismatch, match=text) as caught:
        CalibrationCache.read(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CalibrationMismatch, match="does not exist; run `dvc repro calibrate`"):
        CalibrationCache.read(tmp_path / "calib.cache")


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=300)
@given(names=st.lists(st.text(min_size=1), unique=True, max_size=8))
@example(
    names=[
        "a\u2028b",
        "a\x0bb",
        "a\x85b",
        "a\nb: 3f800000",
        "\n",
        "a\rb",
        "a\r",
        " ",
        "a: ",
        '"',
        '"a"',
        '"a\\nb"',
        "\0",
        "TRT-8600-MinMaxCalibration",
    ]
)
def test_every_name_is_read_back(names: list[str]) -> None:
    cache = CalibrationCache(
        Header.minmax, {name: float(np.float32(0.1 * number)) for number, name in enumerate(names)}
    )
    assert CalibrationCache.parse(cache.to_bytes()) == cache


@pytest.mark.parametrize(
    "name",
    ['"quoted"', '"half', "back\\nslash", "tab\there", "100 %", "\u2028", "(Unnamed Layer* 48) [Constant]_output"],
)
def test_a_name_without_a_newline_is_read_as_tensorrt_writes_it(name: str) -> None:
    assert list(CalibrationCache.parse(f"TRT-8600-EntropyCalibration2\n{name}: 3f800000\n".encode()).scales) == [name]


def test_a_file_with_windows_line_ends_is_read() -> None:
    assert CalibrationCache.parse(b"TRT-8600-EntropyCalibration2\r\ninput: 3f800000\r\n\r\n").scales == {"input": 1.0}


def test_a_range_that_is_no_number_is_refused() -> None:
    with pytest.raises(CalibrationMismatch, match="the values of conv1 have the range inf"):
        scale_of("conv1", float("inf"))
