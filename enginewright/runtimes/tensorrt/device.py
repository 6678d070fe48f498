"""The GPU that TensorRT would use, read from the driver (libcuda) without creating a context."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from enginewright.errors import RuntimeUnavailable

DRIVER_VERSION = Path("/proc/driver/nvidia/version")
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute, cuda.h


@dataclass(frozen=True)
class Gpu:
    """Device 0 of those that CUDA_VISIBLE_DEVICES leaves."""

    name: str  # as the driver names it
    compute_capability: str  # "9.0"
    cuda: str  # CUDA version that the driver supports, "13.0"
    driver: Optional[str]  # "580.95.05"; None on Jetson, where the L4T release says it


def read_gpu() -> Gpu:
    """Ask the driver for device 0.

    Raises:
        RuntimeUnavailable: there is no driver, no GPU, or it refuses to start.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise RuntimeUnavailable(
            "the NVIDIA driver's library libcuda.so.1 is missing; install the driver, or run on a machine with an"
            " NVIDIA GPU"
        ) from None
    _check(cuda, cuda.cuInit(0), "start")
    count, version, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _check(cuda, cuda.cuDeviceGetCount(ctypes.byref(count)), "count its GPUs")
    if count.value < 1:
        raise RuntimeUnavailable(
            "the NVIDIA driver sees no GPU; check CUDA_VISIBLE_DEVICES, or run on a machine with an NVIDIA GPU"
        )
    _check(cuda, cuda.cuDriverGetVersion(ctypes.byref(version)), "tell its CUDA version")
    _check(cuda, cuda.cuDeviceGet(ctypes.byref(device), 0), "open GPU 0")
    name = ctypes.create_string_buffer(256)
    _check(cuda, cuda.cuDeviceGetName(name, len(name), device), "name GPU 0")
    capability = []
    for attribute in (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR):
        value = ctypes.c_int()
        _check(
            cuda,
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device),
            "tell the compute capability of GPU 0",
        )
        capability.append(str(value.value))
    return Gpu(
        name.value.decode(), ".".join(capability), f"{version.value // 1000}.{version.value % 1000 // 10}", _driver()
    )


def _check(cuda: ctypes.CDLL, status: int, what: str) -> None:
    if status:
        text = ctypes.c_char_p()
        cuda.cuGetErrorName(status, ctypes.byref(text))
        reason = text.value.decode() if text.value else f"error {status}"
        raise RuntimeUnavailable(
            f"the NVIDIA driver could not {what} ({reason}); see that nvidia-smi works and that no other user holds"
            " the GPU"
        )


def _driver() -> Optional[str]:
    try:
        found = re.search(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER_VERSION.read_text())
    except OSError:
        return None
    return found.group(1) if found else None
