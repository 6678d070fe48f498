"""Slots: the buffers of one batch under way. Several of them let copy in, compute and copy out of different batches overlap, each on its own stream."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.runtimes.tensorrt import memory
from enginewright.runtimes.tensorrt.contexts import Worker
from enginewright.runtimes.tensorrt.interop import DeviceArray, Feed
from enginewright.runtimes.tensorrt.tensors import Binding, Shape


class Slot:
    """Pinned and device buffers of every input and output for the profile's largest shape, and the events of one batch on its way.

    Order on the GPU: upload stream -> `uploaded` -> worker's stream -> `computed` -> download stream -> `downloaded`. The caller
    collects a slot before it submits to it again, so that buffers are never written while they are read.
    """

    def __init__(self, worker: Worker, upload: Any, download: Any) -> None:
        """`upload` and `download` are streams that all slots share. Raises RuntimeUnavailable if there is no memory."""
        cuda = memory.driver()
        self.worker, self._upload, self._download = worker, upload, download
        self._device: dict[str, memory.DeviceBuffer] = {}
        self._pinned: dict[str, memory.PinnedBuffer] = {}
        self._uploaded, self._computed, self._downloaded = (cuda.Event(cuda.event_flags.DISABLE_TIMING) for _ in range(3))
        self._pending: Optional[tuple[Mapping[str, Feed], dict[str, Shape], bool, int]] = None
        try:
            for binding in (*worker.inputs, *worker.outputs):
                self._device[binding.name] = memory.DeviceBuffer(binding.nbytes())
                self._pinned[binding.name] = memory.PinnedBuffer(binding.nbytes())
                # The run before a capture may read them first: zeros are valid indices, what lay there before is not.
                cuda.memset_d8(self._device[binding.name].address, 0, max(binding.nbytes(), 1))
                self._pinned[binding.name].view((binding.nbytes(),), np.dtype(np.uint8))[...] = 0
        except BaseException:
            self.free()
            raise

    @property
    def busy(self) -> bool:
        """Whether a batch was submitted and not yet collected."""
        return self._pending is not None

    def submit(self, feeds: Mapping[str, Feed], rows: int, on_device: bool = False) -> None:
        """Start one batch and return at once.

        Args:
            feeds: every input, checked, at most the profile's largest shape; host arrays are copied to pinned memory unless they lie there already.
            rows: N of the batch; a smaller N than the profile's least is filled up with zeros, and cut off from the outputs.
            on_device: leave the outputs on the GPU.
        """
        cuda, worker = memory.driver(), self.worker
        shapes = {binding.name: (max(rows, binding.minimum[0]), *feeds[binding.name].shape[1:]) for binding in worker.inputs}
        uploads = self._stage(feeds, shapes)
        for address, source in uploads:
            cuda.memcpy_htod_async(address, source, self._upload)
        outputs = worker.output_shapes(shapes)
        program = worker.program(shapes, self._addresses(feeds), lasting=len(uploads) == len(worker.inputs))
        if uploads:
            self._uploaded.record(self._upload)
            worker.stream.wait_for_event(self._uploaded)
        program.run()
        self._computed.record(worker.stream)
        if not on_device:
            self._download.wait_for_event(self._computed)
            for binding in worker.outputs:
                view = self._pinned[binding.name].view(outputs[binding.name], binding.spec.dtype)
                cuda.memcpy_dtoh_async(view, self._device[binding.name].address, self._download)
            self._downloaded.record(self._download)
        self._pending = (feeds, outputs, on_device, rows)  # the feeds stay alive while they are read

    def collect(self) -> dict[str, Any]:
        """Wait for the submitted batch. Host outputs are new arrays; device outputs stay valid until the slot is submitted to again."""
        assert self._pending is not None  # callers collect what they submitted
        _, shapes, on_device, rows = self._pending
        (self._computed if on_device else self._downloaded).synchronize()
        self._pending = None
        collected: dict[str, Any] = {}
        for binding in self.worker.outputs:
            shape, dtype = shapes[binding.name], binding.spec.dtype
            if on_device:
                collected[binding.name] = DeviceArray(self._device[binding.name].address, shape, dtype).rows(0, rows)
            else:
                collected[binding.name] = self._pinned[binding.name].view(shape, dtype)[:rows].copy()
        return collected

    def run(self, feeds: Mapping[str, Feed], rows: int) -> dict[str, npt.NDArray[Any]]:
        """One batch on the worker's stream alone, for the least latency. Outputs as new host arrays."""
        cuda, worker = memory.driver(), self.worker
        program, outputs = self.prepare(feeds, rows)
        program.run()
        views = {binding.name: self._pinned[binding.name].view(outputs[binding.name], binding.spec.dtype) for binding in worker.outputs}
        for name, view in views.items():
            cuda.memcpy_dtoh_async(view, self._device[name].address, worker.stream)
        worker.stream.synchronize()
        return {name: view[:rows].copy() for name, view in views.items()}

    def timed(self, feeds: Mapping[str, Feed], rows: int, repeats: int) -> dict[str, npt.NDArray[np.float64]]:
        """Run one batch `repeats` times, each to its end, on the worker's stream with CUDA events between the phases; seconds of each, [repeats]."""
        cuda, worker = memory.driver(), self.worker
        shapes = {binding.name: (max(rows, binding.minimum[0]), *feeds[binding.name].shape[1:]) for binding in worker.inputs}
        uploads, outputs = self._stage(feeds, shapes), worker.output_shapes(shapes)
        program = worker.program(shapes, self._addresses(feeds), lasting=len(uploads) == len(worker.inputs))
        views = {binding.name: self._pinned[binding.name].view(outputs[binding.name], binding.spec.dtype) for binding in worker.outputs}
        marks = [cuda.Event() for _ in range(4)]
        seconds = np.empty((4, repeats))
        for repeat in range(repeats):
            marks[0].record(worker.stream)
            for address, source in uploads:
                cuda.memcpy_htod_async(address, source, worker.stream)
            marks[1].record(worker.stream)
            began = time.perf_counter()
            program.run()
            seconds[0, repeat] = time.perf_counter() - began
            marks[2].record(worker.stream)
            for name, view in views.items():
                cuda.memcpy_dtoh_async(view, self._device[name].address, worker.stream)
            marks[3].record(worker.stream)
            marks[3].synchronize()
            seconds[1:, repeat] = [later.time_since(earlier) / 1e3 for earlier, later in zip(marks, marks[1:])]
        return dict(zip(("enqueue", "h2d", "compute", "d2h"), seconds))

    def prepare(self, feeds: Mapping[str, Feed], rows: int) -> tuple[Any, dict[str, Shape]]:
        """Put the copies of one batch on the worker's stream. Returns (what runs the inference, shapes of its outputs)."""
        cuda, worker = memory.driver(), self.worker
        shapes = {binding.name: (max(rows, binding.minimum[0]), *feeds[binding.name].shape[1:]) for binding in worker.inputs}
        uploads = self._stage(feeds, shapes)
        for address, source in uploads:
            cuda.memcpy_htod_async(address, source, worker.stream)
        outputs = worker.output_shapes(shapes)
        return worker.program(shapes, self._addresses(feeds), lasting=len(uploads) == len(worker.inputs)), outputs

    def prepare_own_context(self, feeds: Mapping[str, Feed], rows: int) -> Any:
        """The same on a context of its own, without a graph, for a profiler. Returns the context, with the copies finished."""
        worker = self.worker
        shapes = {binding.name: (max(rows, binding.minimum[0]), *feeds[binding.name].shape[1:]) for binding in worker.inputs}
        for address, source in self._stage(feeds, shapes):
            memory.driver().memcpy_htod(address, source)
        context = worker.own_context()
        worker.prepare(context, shapes, self._addresses(feeds))
        return context

    def free(self) -> None:
        """Give the buffers back; nothing may be under way. A second call does nothing."""
        for device in self._device.values():
            device.free()
        for pinned in self._pinned.values():
            pinned.free()
        self._pending = None

    def _addresses(self, feeds: Mapping[str, Feed]) -> dict[str, int]:
        addresses = {name: buffer.address for name, buffer in self._device.items()}
        addresses.update({name: feed.address for name, feed in feeds.items() if isinstance(feed, DeviceArray)})
        return addresses

    def _stage(self, feeds: Mapping[str, Feed], shapes: Mapping[str, Shape]) -> Sequence[tuple[int, npt.NDArray[Any]]]:
        """(device address, pinned array to copy there) for every input that comes from the host."""
        uploads = []
        for binding in self.worker.inputs:
            feed = feeds[binding.name]
            if isinstance(feed, DeviceArray):
                continue
            if feed.shape != shapes[binding.name] or not memory.is_pinned(feed):
                feed = self._into_pinned(binding, feed, shapes[binding.name])
            uploads.append((self._device[binding.name].address, feed))
        return uploads

    def _into_pinned(self, binding: Binding, feed: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
        view = self._pinned[binding.name].view(shape, binding.spec.dtype)
        view[: feed.shape[0]] = feed
        view[feed.shape[0] :] = 0
        return view
