"""Libraries of TensorRT plugins on the stand-in: verified, loaded once, before a parser or a plan sees them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from enginewright import manifest
from enginewright.config import Build, Precision
from enginewright.errors import RuntimeUnavailable, StaleArtifact
from enginewright.plugins import Plugin, Plugins
from enginewright.runtimes.base import BuildJob, LoadOptions
from enginewright.runtimes.tensorrt import plugins as loader
from enginewright.runtimes.tensorrt.builder import Job, build_engine
from enginewright.runtimes.tensorrt.engine import load_engine
from enginewright.target import TargetFingerprint
from support import cuda_stand_in, plugins as squash
from support.networks import residual_network
from support.tensorrt_stand_in import runtime as tensorrt_runtime
from support.tensorrt_stand_in.builder import Record, stand_in

HERE = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0", "13.0", "580.95.05")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What the process has loaded, forgotten."""
    before = set(loader._loaded)
    loader._loaded.clear()
    tensorrt_runtime.libraries.clear()
    yield
    loader._loaded.clear()
    loader._loaded.update(before)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """One that exports getPluginCreators, as `loadLibrary` wants it."""
    return Path(shutil.copy(squash.creators(), tmp_path / "libops.so"))


def plugins(path: Path) -> Plugins:
    return Plugins((Plugin("tensorrt", path, manifest.sha256(path)),))


def build(tmp_path: Path, record: Record, kernels: Plugins, version: str = "8.6.0") -> None:
    model = tmp_path / "model.onnx"
    onnx.save(residual_network(), model)
    job = BuildJob(Precision.fp32, Build(), plugins=kernels)
    build_engine(stand_in(version, record), Job(model, job, HERE))


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.0"])
def test_a_build_loads_it_before_the_parser_is_asked(tmp_path: Path, library: Path, version: str) -> None:
    record = Record()
    build(tmp_path, record, plugins(library), version)
    assert record.libraries == [str(library)]
    assert record.parsed_after == 1


def test_it_is_loaded_once_in_a_process(tmp_path: Path, library: Path) -> None:
    record = Record()
    build(tmp_path, record, plugins(library))
    build(tmp_path, record, plugins(library))
    assert record.libraries == [str(library)]


def test_a_changed_library_is_not_loaded(tmp_path: Path, library: Path) -> None:
    record, recorded = Record(), plugins(library)
    library.write_bytes(library.read_bytes() + b"\n")
    with pytest.raises(StaleArtifact, match=r"libops.so was changed: .* and it is not loaded"):
        build(tmp_path, record, recorded)
    assert record.libraries == []


def test_what_is_no_library_is_named(tmp_path: Path) -> None:
    path = tmp_path / "libops.so"
    path.write_bytes(b"no library")
    with pytest.raises(RuntimeUnavailable, match=r"tensorrt 8.6.0 cannot load .*libops.so: .*; compile it on this"):
        build(tmp_path, Record(), plugins(path))


def test_a_library_that_the_registry_refuses_is_named(tmp_path: Path, library: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"cannot load .*libops.so: the plugin registry refuses it; compile"):
        build(tmp_path, Record(refuses_libraries=True), plugins(library))


def test_one_without_creators_is_left_to_the_dynamic_loader(tmp_path: Path) -> None:
    """REGISTER_TENSORRT_PLUGIN registers when the library is loaded, by whoever loads it."""
    record, path = Record(), Path(shutil.copy(squash.library(), tmp_path / "libstatic.so"))
    build(tmp_path, record, plugins(path))
    assert record.libraries == []
    assert str(path) in Path("/proc/self/maps").read_text()


@pytest.fixture
def engine(tmp_path: Path, library: Path) -> Path:
    path = tmp_path / "engine.trt"
    path.write_bytes(tensorrt_runtime.plan())
    manifest.seal(path, "build_fp32", [], HERE, files=plugins(library).roles)
    return path


def load(path: Path) -> Any:
    return load_engine(tensorrt_runtime, path, HERE, LoadOptions())  # type: ignore[arg-type,unused-ignore]


def test_an_engine_loads_it_before_it_is_deserialized(
    engine: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda_stand_in.install(monkeypatch)
    seen: list[list[str]] = []
    original = tensorrt_runtime.Runtime.deserialize_cuda_engine

    def deserialize(self: tensorrt_runtime.Runtime, serialized_engine: bytes) -> Any:
        seen.append(list(tensorrt_runtime.libraries))
        return original(self, serialized_engine)

    monkeypatch.setattr(tensorrt_runtime.Runtime, "deserialize_cuda_engine", deserialize)
    with load(engine):
        assert seen == [[str(library)]]


@pytest.mark.parametrize("missing", [False, True], ids=["changed", "missing"])
def test_an_engine_is_refused_with_another_library(
    engine: Path, library: Path, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda_stand_in.install(monkeypatch)
    before = len(tensorrt_runtime.deserialized)
    if missing:
        library.unlink()
    else:
        library.write_bytes(library.read_bytes() + b"\n")
    with pytest.raises(StaleArtifact, match="libops.so is missing" if missing else "libops.so beside it was changed"):
        load(engine)
    assert tensorrt_runtime.libraries == []
    assert len(tensorrt_runtime.deserialized) == before
