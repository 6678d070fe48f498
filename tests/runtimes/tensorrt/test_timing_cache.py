"""The timing cache: kept per GPU and version, never trusted when it is corrupt or another's."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import cast

import pytest

from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.log import BuildLog, as_logger
from enginewright.runtimes.tensorrt.timing_cache import TimingCache
from enginewright.target import TargetFingerprint
from support.tensorrt_stand_in.builder import Record, stand_in

H100 = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0", "13.0", "580.95.05")


def build_with(cache: TimingCache, trt: Bindings) -> list[str]:
    """One build's use of the cache; returns the warnings."""
    builder = trt.Builder(as_logger(trt, BuildLog()))
    config = builder.create_builder_config()
    warnings = cache.attach(config)
    builder.build_serialized_network(builder.create_network(0), config)
    cache.store(config)
    return warnings


def test_a_second_build_starts_with_what_the_first_measured(tmp_path: Path) -> None:
    record = Record()
    trt = stand_in("8.6.0", record)
    assert build_with(TimingCache(tmp_path, H100), trt) == []
    assert record.given_timings == b""
    assert build_with(TimingCache(tmp_path, H100), trt) == []
    assert record.given_timings == b"measured;"
    assert record.stored_timings == b"measured;measured;"
    assert [path.suffix for path in tmp_path.iterdir()] == [".timing"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"device": "NVIDIA H200"}, id="another GPU"),
        pytest.param({"compute_capability": "10.0"}, id="another compute capability"),
        pytest.param({"runtime_version": "8.6.1"}, id="another TensorRT"),
        pytest.param({"driver": "580.95.06"}, id="another driver"),
        pytest.param({"cuda": "13.1"}, id="another CUDA"),
    ],
)
def test_another_target_does_not_use_the_timings(tmp_path: Path, change: dict[str, str]) -> None:
    record = Record()
    trt = stand_in("8.6.0", record)
    build_with(TimingCache(tmp_path, H100), trt)
    build_with(TimingCache(tmp_path, dataclasses.replace(H100, **change)), trt)  # type: ignore[arg-type]
    assert record.given_timings == b""
    assert len(list(tmp_path.iterdir())) == 2


def test_the_file_name_tells_a_person_what_it_is_of(tmp_path: Path) -> None:
    assert TimingCache(tmp_path, H100).path.name.startswith("nvidia-h100-80gb-hbm3-sm9.0-tensorrt8.6.0-")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(lambda content: content[:-3], "is corrupt", id="cut short"),
        pytest.param(lambda content: content[:-1] + b"X", "is corrupt", id="a flipped byte"),
        pytest.param(lambda _: b"", "is corrupt", id="empty"),
        pytest.param(lambda _: b"\x00\xff\n\n\xfe", "is corrupt", id="not ours"),
        pytest.param(
            lambda content: content.replace(b"H100", b"H200"),
            "of another GPU or TensorRT version",
            id="copied from another GPU",
        ),
    ],
)
def test_a_file_that_cannot_be_trusted_is_left_out_and_written_anew(tmp_path: Path, damage: object, says: str) -> None:
    record, cache = Record(), TimingCache(tmp_path, H100)
    trt = stand_in("8.6.0", record)
    build_with(cache, trt)
    cache.path.write_bytes(damage(cache.path.read_bytes()))  # type: ignore[operator]
    warnings = build_with(cache, trt)
    assert says in warnings[0]
    assert str(cache.path) in warnings[0]
    assert record.given_timings == b""
    assert build_with(cache, trt) == []


def test_timings_that_tensorrt_refuses_are_replaced_by_an_empty_cache(tmp_path: Path) -> None:
    record, cache = Record(), TimingCache(tmp_path, H100)
    trt = stand_in("8.6.0", record)
    build_with(cache, trt)
    record.refuses_timings = True
    assert "does not take the timing cache" in build_with(cache, trt)[0]
    assert cast(bytes, record.given_timings) == b""


def test_a_folder_that_went_away_is_made_again(tmp_path: Path) -> None:
    cache = TimingCache(tmp_path / "deep" / "folder", H100)
    build_with(cache, stand_in("10.3.0", Record()))
    shutil.rmtree(tmp_path / "deep")
    build_with(cache, stand_in("10.3.0", Record()))
    assert cache.path.exists()
