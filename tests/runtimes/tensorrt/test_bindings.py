"""Where TensorRT is missing, half installed or without a GPU, every task says so in one sentence and nothing raises."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import ModuleType

import pytest

from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes.base import Capability
from enginewright.runtimes.tensorrt import RUNTIME, device


def module(name: str, **attributes: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(attributes)
    return made


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without libcuda."""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", missing)


@pytest.mark.parametrize("task", list(Capability), ids=lambda task: task.name)
def test_stubs_alone_are_no_tensorrt(monkeypatch: pytest.MonkeyPatch, task: Capability) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module("tensorrt"))
    assert (
        RUNTIME.why_not(task)
        == "the Python package tensorrt is not installed, only its type stubs; it comes with JetPack or NVIDIA's"
        " TensorRT packages for this CUDA version"
    )


def test_a_package_that_does_not_import_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libnvdla_compiler.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert "is installed and does not import (libnvdla_compiler.so: cannot open shared object file)" in str(
        RUNTIME.why_not(Capability.build)
    )


@pytest.mark.parametrize("task", list(Capability), ids=lambda task: task.name)
def test_without_a_driver_the_remedy_is_the_driver(
    monkeypatch: pytest.MonkeyPatch, no_driver: None, task: Capability
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module("tensorrt", Builder=object, __version__="10.3.0"))
    assert "libcuda.so.1 is missing; install the driver" in str(RUNTIME.why_not(task))
    with pytest.raises(RuntimeUnavailable, match=r"libcuda\.so\.1 is missing"):
        RUNTIME.fingerprint()


def test_tensorrt_11_says_who_calibrates_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module("tensorrt", Builder=object, __version__="11.4.0"))
    monkeypatch.setattr(
        "enginewright.runtimes.tensorrt.read_gpu", lambda: device.Gpu("NVIDIA L4", "8.9", "13.0", "580.95.05")
    )
    assert "set calibration.runtime=onnxruntime" in str(RUNTIME.why_not(Capability.calibrate))
    assert RUNTIME.why_not(Capability.build) is None


def test_the_fingerprint_is_of_this_gpu_driver_and_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module("tensorrt", Builder=object, __version__="8.6.0"))
    monkeypatch.setattr(
        "enginewright.runtimes.tensorrt.read_gpu",
        lambda: device.Gpu("NVIDIA H100 80GB HBM3", "9.0", "13.0", "580.95.05"),
    )
    found = RUNTIME.fingerprint()
    assert (found.device, found.compute_capability, found.runtime) == ("NVIDIA H100 80GB HBM3", "9.0", "tensorrt")
    assert (found.runtime_version, found.cuda, found.driver) == ("8.6.0", "13.0", "580.95.05")
    assert RUNTIME.calibrator_identity() == {"tensorrt": "8.6.0"}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder)",
            "580.95.05",
            id="open",
        ),
        pytest.param(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024",
            "535.183.01",
            id="proprietary",
        ),
        pytest.param("something else", None, id="unknown"),
    ],
)
def test_the_drivers_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "version").write_text(f"{text}\nGCC version:  gcc version 12.3.0\n")
    monkeypatch.setattr(device, "DRIVER_VERSION", tmp_path / "version")
    assert device._driver() == version
