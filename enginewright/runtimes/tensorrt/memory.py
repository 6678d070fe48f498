"""CUDA memory through PyCUDA, on the device's primary context, which is the one that TensorRT, PyTorch and cuda-python
use too.

Rules that the callers keep:
- Everything is allocated once, for the largest shape, and freed by name: nothing is left to the garbage collector,
  nothing fragments over days.
- PyCUDA ties an allocation to the thread that made it; what is made in one thread is used and freed in that thread.
- A primary context is retained once for a thread and a device and kept until the process ends: PyCUDA 2026.1 leaves an
  entry on CUDA's context stack when it releases one (src/cpp/cuda.hpp, `context::detach`), so releasing it at every
  unload would leak.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.errors import RuntimeUnavailable

Array = npt.NDArray[Any]

_contexts: dict[tuple[int, int], Any] = {}  # (thread, device) -> pycuda.driver.Context
_held: dict[int, tuple[str, int]] = {}  # id of a live buffer -> ("device" or "pinned", bytes)


def driver() -> ModuleType:
    """PyCUDA's driver module, initialised.

    Raises:
        RuntimeUnavailable: PyCUDA is not installed, or there is no CUDA driver or device.
    """
    try:
        from pycuda import driver as cuda  # type: ignore[attr-defined,unused-ignore]
    except ImportError as fault:
        raise RuntimeUnavailable(
            f"PyCUDA cannot be imported ({fault}); install it with `pip install enginewright[tensorrt]`"
        ) from None
    try:
        cuda.init()
    except cuda.Error as fault:
        raise RuntimeUnavailable(f"there is no usable NVIDIA GPU here ({fault}); check `nvidia-smi`") from None
    return cuda  # type: ignore[no-any-return,unused-ignore]


def push_primary_context(device: int = 0) -> None:
    """Make the device's primary context current in this thread; each call is undone by one `pop_primary_context`."""
    key = (threading.get_ident(), device)
    if key not in _contexts:
        _contexts[key] = driver().Device(device).retain_primary_context()
    _contexts[key].push()


def pop_primary_context() -> None:
    """Undo the last `push_primary_context` of this thread."""
    driver().Context.pop()


@contextlib.contextmanager
def primary_context(device: int = 0) -> Iterator[None]:
    """The device's primary context is current in this thread inside the block. Raises RuntimeUnavailable."""
    push_primary_context(device)
    try:
        yield
    finally:
        pop_primary_context()


def allocated() -> dict[str, int]:
    """Bytes of the buffers of this module that are not yet freed, over all threads: {"device": ..., "pinned": ...}."""
    held = list(_held.values())
    return {kind: sum(nbytes for owner, nbytes in held if owner == kind) for kind in ("device", "pinned")}


def memory_info() -> tuple[int, int]:
    """(free, total) bytes of the current device, over all processes."""
    free, total = driver().mem_get_info()
    return int(free), int(total)


class DeviceBuffer:
    """`nbytes` of device memory at `address` (512-byte aligned), in the primary context that is current in this thread.

    Raises:
        RuntimeUnavailable: the device has not that much memory left.
    """

    def __init__(self, nbytes: int) -> None:
        cuda = driver()
        self.nbytes = nbytes
        try:
            self._allocation: Optional[Any] = cuda.mem_alloc(max(nbytes, 1))
        except cuda.MemoryError:
            free, total = memory_info()
            raise RuntimeUnavailable(
                f"the GPU has {free >> 20} of {total >> 20} MiB free and the engine needs a buffer of {nbytes >> 20}"
                " MiB; lower axes.batch.max, or end what else uses the GPU"
            ) from None
        self.address = int(self._allocation)
        _held[id(self)] = ("device", max(nbytes, 1))

    def copy_from_host(self, array: Array) -> None:
        """Blocking copy of a contiguous array of at most `nbytes`. Raises ValueError if it is larger."""
        if array.nbytes > self.nbytes:
            raise ValueError(f"{array.nbytes} bytes do not fit into a device buffer of {self.nbytes}")
        driver().memcpy_htod(self.address, np.ascontiguousarray(array))

    def copy_to_host(self, array: Array) -> None:
        """Blocking copy into a contiguous array, of its `nbytes`. Raises ValueError if that is more than there is."""
        if array.nbytes > self.nbytes:
            raise ValueError(f"{array.nbytes} bytes are not in a device buffer of {self.nbytes}")
        driver().memcpy_dtoh(array, self.address)

    def free(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self._allocation is not None:
            self._allocation.free()
            self._allocation = None
            self.address = 0
            del _held[id(self)]


class PinnedBuffer:
    """`nbytes` of page-locked host memory: what asynchronous copies need to be asynchronous.

    Views must not outlive `free`; results handed to a caller are copies.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._bytes: Optional[Array] = driver().pagelocked_empty(max(nbytes, 1), np.uint8)
        _held[id(self)] = ("pinned", max(nbytes, 1))

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The first bytes as an array. Raises ValueError once it is freed."""
        if self._bytes is None:
            raise ValueError("the pinned buffer is already freed")
        count = int(np.prod(shape, dtype=np.int64))
        viewed: Array = self._bytes[: count * dtype.itemsize].view(dtype).reshape(shape)
        return viewed

    def free(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self._bytes is not None:
            self._bytes.base.free()  # type: ignore[union-attr]  # PyCUDA's PagelockedHostAllocation
            self._bytes = None
            del _held[id(self)]


def is_pinned(array: Array) -> bool:
    """Whether `array` lies in page-locked memory that PyCUDA allocated or registered, so that it can be copied without
    staging.
    """
    cuda = driver()
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, (cuda.PagelockedHostAllocation, cuda.RegisteredHostMemory))
