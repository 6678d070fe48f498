"""CUDA graphs: one launch for all kernels of an inference. PyCUDA 2026.1 has no API for them, so capture goes through
cuda-python on PyCUDA's streams.

Rules (NVIDIA TensorRT Developer Guide, "CUDA Graphs"): run once after each change of shape before capturing; a graph is
tied to the shapes, addresses and scratch memory of its execution context, and that context must not be changed
afterwards: one context for each graph.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Optional, Union

from enginewright.errors import RuntimeUnavailable

MODULES = ("cuda.bindings.driver", "cuda.cuda")  # cuda-python since 12.6.1, and before


def graph_driver() -> Union[ModuleType, str]:
    """cuda-python's driver module, or the reason why there are no graphs here, with the remedy."""
    for name in MODULES:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return "cuda-python is not installed; `pip install enginewright[tensorrt]` brings it"


class CaptureFailed(Exception):
    """The work of an inference cannot be captured; it still runs launch by launch."""


class Graph:
    """A captured inference. Launch it on the stream it was captured on, in the thread of its context; `free` it before
    its execution context.
    """

    def __init__(self, cuda: ModuleType, stream: int, enqueue: Callable[[], bool]) -> None:
        """Capture what `enqueue` puts on `stream` (a CUstream handle).

        Raises:
            CaptureFailed: with the driver's reason.
        """
        self._cuda = cuda
        self._stream = cuda.CUstream(stream)
        # Thread-local: other threads of the application may allocate or copy while we capture.
        _check(
            cuda, cuda.cuStreamBeginCapture(self._stream, cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        )
        try:
            enqueued = enqueue()
        finally:
            ended = cuda.cuStreamEndCapture(self._stream)
        graph = _check(cuda, ended)
        try:
            if not enqueued:
                raise CaptureFailed("TensorRT could not enqueue the inference during capture")
            self._executable: Optional[Any] = _check(cuda, cuda.cuGraphInstantiate(graph, 0))
        finally:
            cuda.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Put the captured work on the stream. Raises RuntimeUnavailable with the driver's error."""
        (result,) = self._cuda.cuGraphLaunch(self._executable, self._stream)
        if result:
            raise RuntimeUnavailable(
                f"the CUDA graph could not be launched ({result.name}); an earlier kernel may have failed, load the"
                " engine again"
            )

    def free(self) -> None:
        """Give the executable graph back; a second call does nothing."""
        if self._executable is not None:
            self._cuda.cuGraphExecDestroy(self._executable)
            self._executable = None


def synchronize(cuda: ModuleType, stream: int) -> None:
    """Wait for another library's stream (a handle; 1 is the legacy default stream, 2 the per-thread one). Raises
    RuntimeUnavailable.
    """
    (result,) = cuda.cuStreamSynchronize(cuda.CUstream(stream))
    if result:
        raise RuntimeUnavailable(
            f"the stream of an input cannot be waited for ({result.name}); hand over an array whose stream still exists"
        )


def _check(cuda: ModuleType, answer: tuple[Any, ...]) -> Any:
    if answer[0] != cuda.CUresult.CUDA_SUCCESS:
        raise CaptureFailed(f"the CUDA driver says {answer[0].name}")
    return answer[1] if len(answer) > 1 else None
