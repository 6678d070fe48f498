# ruff: noqa: ARG002, ARG005
"""Stand-ins for PyCUDA and cuda-python where there is no GPU: streams that are as lazy as CUDA allows.

Nothing on a stream runs before something waits for it, and a copy reads its source when it runs: a missing wait, or a
buffer that is written while it is still to be read, gives wrong values instead of luck. New device memory is filled
with 0xCD.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any, Optional

import numpy as np
import pytest

from support.tensorrt_stand_in import runtime as tensorrt_runtime
from support.tensorrt_stand_in.runtime import view

handles = itertools.count(0x1000, 16)


class Stream:
    def __init__(self, flags: int = 0) -> None:
        self.handle, self.queue = next(handles), deque[Callable[[], None]]()
        self.captured: Optional[list[Callable[[], None]]] = None
        GPU.streams[self.handle] = self

    def put(self, work: Callable[[], None]) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def synchronize(self) -> None:
        while self.queue:
            self.queue.popleft()()

    def wait_for_event(self, event: Event) -> None:
        self.put(event.reach())


class Event:
    def __init__(self, flags: int = 0) -> None:
        self._stream: Optional[Stream] = None
        self._recorded, self._reached = 0, 0

    def record(self, stream: Stream) -> Event:
        self._recorded += 1
        number = self._recorded

        def reached() -> None:
            self._reached = number

        self._stream = stream
        stream.put(reached)
        return self

    def reach(self) -> Callable[[], None]:
        stream, number = self._stream, self._recorded

        def run() -> None:
            while self._reached < number:
                assert stream is not None
                stream.queue.popleft()()

        return run

    def synchronize(self) -> Event:
        self.reach()()
        return self

    def time_since(self, other: Event) -> float:
        return 1.5


class Gpu:
    """What the tests look at: live allocations, contexts pushed and not popped, streams, memory left."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.live: dict[int, int] = {}
        self.pinned = 0
        self.pushed = 0
        self.room = 1 << 30
        self.log: list[str] = []


GPU = Gpu()


class DeviceAllocation:
    def __init__(self, nbytes: int) -> None:
        if nbytes > GPU.room - sum(GPU.live.values()):
            raise CudaMemoryError("cuMemAlloc failed: out of memory")
        self._memory = np.full(nbytes + 512, 0xCD, np.uint8)
        self._address = -(-self._memory.ctypes.data // 512) * 512  # as cuMemAlloc aligns
        GPU.live[self._address] = nbytes

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        del GPU.live[self._address]


class PagelockedHostAllocation:
    def __init__(self, nbytes: int) -> None:
        self._memory = np.full(nbytes, 0xCD, np.uint8)
        self.__array_interface__ = self._memory.__array_interface__
        GPU.pinned += nbytes

    def free(self) -> None:
        GPU.pinned -= self._memory.nbytes


class RegisteredHostMemory: ...


class CudaError(Exception): ...


class CudaMemoryError(CudaError): ...


class Context:
    def push(self) -> None:
        GPU.pushed += 1

    @staticmethod
    def pop() -> None:
        GPU.pushed -= 1

    @staticmethod
    def synchronize() -> None:
        for stream in list(GPU.streams.values()):
            stream.synchronize()


def copy(destination: int, source: np.ndarray[Any, Any]) -> None:
    view(destination, (source.nbytes,), np.dtype(np.uint8))[...] = source.reshape(-1).view(np.uint8)


def read_back(destination: np.ndarray[Any, Any], source: int) -> None:
    destination.reshape(-1).view(np.uint8)[...] = view(source, (destination.nbytes,), np.dtype(np.uint8))


def fill(destination: int, value: int, size: int) -> None:
    view(destination, (size,), np.dtype(np.uint8))[...] = value


def make_pycuda() -> ModuleType:
    """A module with the names of `pycuda.driver` that the runtime uses."""
    driver = ModuleType("pycuda.driver")
    names: dict[str, Any] = {
        "init": lambda: None,
        "Device": lambda ordinal: SimpleNamespace(retain_primary_context=Context),
        "Context": Context,
        "Stream": Stream,
        "Event": Event,
        "event_flags": SimpleNamespace(DISABLE_TIMING=2, DEFAULT=0),
        "mem_alloc": DeviceAllocation,
        "pagelocked_empty": lambda shape, dtype: np.asarray(PagelockedHostAllocation(shape)),
        "PagelockedHostAllocation": PagelockedHostAllocation,
        "RegisteredHostMemory": RegisteredHostMemory,
        "mem_get_info": lambda: (GPU.room - sum(GPU.live.values()), 1 << 30),
        "memset_d8": fill,
        "memcpy_htod": copy,
        "memcpy_dtoh": read_back,
        "memcpy_htod_async": lambda dest, src, stream: stream.put(lambda: copy(dest, src)),
        "memcpy_dtod_async": lambda dest, src, size, stream: stream.put(
            lambda: copy(dest, view(src, (size,), np.dtype(np.uint8)))
        ),
        "memset_d8_async": lambda dest, value, size, stream: stream.put(lambda: fill(dest, value, size)),
        "memcpy_dtoh_async": lambda dest, src, stream: stream.put(lambda: read_back(dest, src)),
        "Error": CudaError,
        "MemoryError": CudaMemoryError,
    }
    for name, value in names.items():
        setattr(driver, name, value)
    return driver


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


def make_cuda_python(refuse_capture: bool = False) -> ModuleType:
    """A module with the names of `cuda.bindings.driver` that the runtime uses."""
    module = ModuleType("cuda.bindings.driver")

    def begin(stream: int, mode: object) -> tuple[CUresult]:
        if refuse_capture:
            return (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        GPU.streams[stream].captured = []
        return (CUresult.CUDA_SUCCESS,)

    def end(stream: int) -> tuple[CUresult, Optional[list[Callable[[], None]]]]:
        captured, GPU.streams[stream].captured = GPU.streams[stream].captured, None
        return CUresult.CUDA_SUCCESS, captured

    def launch(graph: list[Callable[[], None]], stream: int) -> tuple[CUresult]:
        GPU.log.append("launch")
        for work in graph:
            GPU.streams[stream].put(work)
        return (CUresult.CUDA_SUCCESS,)

    def note(text: str) -> tuple[CUresult]:
        GPU.log.append(text)
        return (CUresult.CUDA_SUCCESS,)

    names: dict[str, Any] = {
        "CUresult": CUresult,
        "CUstream": int,
        "CUstreamCaptureMode": SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1),
        "cuStreamBeginCapture": begin,
        "cuStreamEndCapture": end,
        "cuGraphInstantiate": lambda graph, flags: (CUresult.CUDA_SUCCESS, graph),
        "cuGraphLaunch": launch,
        "cuGraphDestroy": lambda graph: (CUresult.CUDA_SUCCESS,),
        "cuGraphExecDestroy": lambda graph: note("destroy"),
        "cuStreamSynchronize": lambda stream: note(f"waited for stream {stream}"),
    }
    for name, value in names.items():
        setattr(module, name, value)
    return module


def install(patch: pytest.MonkeyPatch, refuse_capture: bool = False) -> Gpu:
    """Put both stand-ins where the runtime imports them from, with a fresh GPU."""
    from enginewright.runtimes.tensorrt import memory

    GPU.__init__()  # type: ignore[misc]  # a fresh one under the same name
    driver, cuda_python = make_pycuda(), make_cuda_python(refuse_capture)
    package = ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    for name, module in {"pycuda": package, "pycuda.driver": driver, "cuda.bindings.driver": cuda_python}.items():
        patch.setitem(sys.modules, name, module)
    for name in ("cuda", "cuda.bindings"):
        patch.setitem(sys.modules, name, ModuleType(name))
    patch.setattr(memory, "_contexts", {})
    patch.setattr(memory, "_held", {})
    patch.setattr(tensorrt_runtime, "on_stream", lambda handle, work: GPU.streams[handle].put(work))
    patch.setattr(tensorrt_runtime, "profile_sharing", True)
    tensorrt_runtime.deserialized.clear()
    return GPU
