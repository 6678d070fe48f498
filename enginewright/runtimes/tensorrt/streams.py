"""Slots: the buffers of one batch under way. Several of them let copy in, compute and copy out of different batches
overlap, each on its own stream.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.interface import Shape
from enginewright.runtimes.tensorrt import memory
from enginewright.runtimes.tensorrt.contexts import Program, Worker
from enginewright.runtimes.tensorrt.interop import DeviceArray, Feed
from enginewright.runtimes.tensorrt.tensors import Binding

EVENTS = 256  # pairs of timing events that one pass of `Slot.device_seconds` takes
ALIGNMENT = 256  # bytes; what TensorRT asks of the address of a tensor (NvInferRuntime.h, `setTensorAddress`)


class Streams:
    """What all slots of an engine share: a stream up, a stream down, and one that others order their work before."""

    def __init__(self) -> None:
        cuda = memory.driver()
        self.upload, self.download, self.intake = cuda.Stream(), cuda.Stream(), cuda.Stream()
        self._given = cuda.Event(cuda.event_flags.DISABLE_TIMING)

    def order_after_producers(self, stream: Any) -> None:
        """`stream` waits for everything that producers of device arrays were told to put before `intake` (the stream of
        `__dlpack__`).
        """
        self._given.record(self.intake)
        stream.wait_for_event(self._given)


@dataclass(frozen=True)
class Placed:
    """A batch set into a slot: what is still to be copied, and what runs it."""

    uploads: Sequence[tuple[int, npt.NDArray[Any]]]  # (device address, pinned array to copy there)
    program: Program
    outputs: dict[str, Shape]


class Slot:
    """Pinned and device buffers of every input and output for the profile's largest shape, and the events of one batch
    on its way.

    Order on the GPU: upload stream -> `uploaded` -> worker's stream -> `computed` -> download stream -> `downloaded`.
    `Pool` sees to it that a slot is collected before it is submitted to again, so that buffers are never written while
    they are read.
    """

    def __init__(self, worker: Worker, streams: Streams) -> None:
        """Raises RuntimeUnavailable if there is no memory."""
        cuda = memory.driver()
        self.worker, self._streams = worker, streams
        self._device: dict[str, memory.DeviceBuffer] = {}
        self._pinned: dict[str, memory.PinnedBuffer] = {}
        self._uploaded, self._computed, self._downloaded = (
            cuda.Event(cuda.event_flags.DISABLE_TIMING) for _ in range(3)
        )
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

    def submit(self, feeds: Mapping[str, Feed], rows: int, on_device: bool = False) -> None:
        """Start one batch and return at once.

        Args:
            feeds: every input, checked, at most the profile's largest shape; host arrays are copied to pinned memory
                unless they lie there already.
            rows: N of the batch; a smaller N than the profile's least is filled up with zeros, and cut off from the
                outputs.
            on_device: leave the outputs on the GPU.
        """
        cuda, worker, upload, download = memory.driver(), self.worker, self._streams.upload, self._streams.download
        placed = self._place(feeds, rows)
        for address, source in placed.uploads:
            cuda.memcpy_htod_async(address, source, upload)
        if placed.uploads:
            self._uploaded.record(upload)
            worker.stream.wait_for_event(self._uploaded)
        placed.program.run()
        self._computed.record(worker.stream)
        if not on_device:
            download.wait_for_event(self._computed)
            self._copy_back(placed.outputs, download)
            self._downloaded.record(download)
        self._pending = (feeds, placed.outputs, on_device, rows)  # the feeds stay alive while they are read

    def collect(self) -> dict[str, Any]:
        """Wait for the submitted batch. Host outputs are new arrays; device outputs stay valid until the slot is
        submitted to again.
        """
        assert self._pending is not None  # `Pool` collects what it submitted
        _, shapes, on_device, rows = self._pending
        (self._computed if on_device else self._downloaded).synchronize()
        self._pending = None
        if not on_device:
            return {name: view[:rows].copy() for name, view in self._views(shapes).items()}
        outputs = {binding.name: (shapes[binding.name], binding.spec.dtype) for binding in self.worker.outputs}
        return {
            name: DeviceArray(self._device[name].address, *output).rows(0, rows) for name, output in outputs.items()
        }

    def run(self, feeds: Mapping[str, Feed], rows: int) -> dict[str, npt.NDArray[Any]]:
        """One batch on the worker's stream alone, for the least latency. Outputs as new host arrays."""
        program, outputs = self.prepare(feeds, rows)
        program.run()
        views = self._copy_back(outputs, self.worker.stream)
        self.worker.stream.synchronize()
        return {name: view[:rows].copy() for name, view in views.items()}

    def device_seconds(self, feeds: Mapping[str, Feed], rows: int, repeats: int) -> npt.NDArray[np.float64]:
        """Copy one batch once and run it `repeats` times back to back; seconds of each run between CUDA events,
        [repeats].
        """
        program, _ = self.prepare(feeds, rows)
        program.run()  # a first run outside of the times
        stream, cuda = self.worker.stream, memory.driver()
        pairs = [(cuda.Event(), cuda.Event()) for _ in range(min(EVENTS, repeats))]
        seconds: list[float] = []
        while len(seconds) < repeats:
            used = pairs[: repeats - len(seconds)]
            for start, stop in used:
                start.record(stream)
                program.run()
                stop.record(stream)
            stream.synchronize()
            seconds += [stop.time_since(start) / 1000 for start, stop in used]
        stream.synchronize()
        return np.asarray(seconds)

    def phase_seconds(self, feeds: Mapping[str, Feed], rows: int, repeats: int) -> dict[str, npt.NDArray[np.float64]]:
        """Run one batch `repeats` times, each to its end, on the worker's stream with CUDA events between the phases;
        seconds of each, [repeats].
        """
        self.run(feeds, rows)  # a first run outside of the times
        cuda, stream = memory.driver(), self.worker.stream
        placed = self._place(feeds, rows)
        marks = [cuda.Event() for _ in range(4)]
        seconds = np.empty((4, repeats))
        for repeat in range(repeats):
            marks[0].record(stream)
            for address, source in placed.uploads:
                cuda.memcpy_htod_async(address, source, stream)
            marks[1].record(stream)
            began = time.perf_counter()
            placed.program.run()
            seconds[0, repeat] = time.perf_counter() - began
            marks[2].record(stream)
            self._copy_back(placed.outputs, stream)
            marks[3].record(stream)
            marks[3].synchronize()
            seconds[1:, repeat] = [later.time_since(earlier) / 1e3 for earlier, later in zip(marks, marks[1:])]
        stream.synchronize()
        return dict(zip(("enqueue", "h2d", "compute", "d2h"), seconds))

    def prepare(self, feeds: Mapping[str, Feed], rows: int) -> tuple[Program, dict[str, Shape]]:
        """Put the copies of one batch on the worker's stream. Returns (what runs the inference, shapes of its
        outputs).
        """
        placed = self._place(feeds, rows)
        for address, source in placed.uploads:
            memory.driver().memcpy_htod_async(address, source, self.worker.stream)
        return placed.program, placed.outputs

    def own_program(self, feeds: Mapping[str, Feed], rows: int) -> Program:
        """The same on a context of its own, without a graph, for a profiler; the copies are finished."""
        shapes = self._shapes(feeds, rows)
        addresses, uploads = self._locate(feeds, shapes)
        for address, source in uploads:
            memory.driver().memcpy_htod_async(address, source, self.worker.stream)
        self.worker.stream.synchronize()
        return self.worker.own_program(shapes, addresses)

    def free(self) -> None:
        """Give the buffers back; nothing may be under way. A second call does nothing."""
        for device in self._device.values():
            device.free()
        for pinned in self._pinned.values():
            pinned.free()
        self._pending = None

    def _place(self, feeds: Mapping[str, Feed], rows: int) -> Placed:
        shapes = self._shapes(feeds, rows)
        addresses, uploads = self._locate(feeds, shapes)
        own = all(addresses[binding.name] == self._device[binding.name].address for binding in self.worker.inputs)
        outputs = self.worker.output_shapes(shapes)
        return Placed(uploads, self.worker.program(shapes, addresses, lasting=own), outputs)

    def _shapes(self, feeds: Mapping[str, Feed], rows: int) -> dict[str, Shape]:
        return {
            binding.name: (max(rows, binding.minimum[0]), *feeds[binding.name].shape[1:])
            for binding in self.worker.inputs
        }

    def _locate(
        self, feeds: Mapping[str, Feed], shapes: Mapping[str, Shape]
    ) -> tuple[dict[str, int], list[tuple[int, npt.NDArray[Any]]]]:
        """(address of each input and output, what is still to be copied there from pinned memory)."""
        addresses = {name: buffer.address for name, buffer in self._device.items()}
        uploads = []
        if any(isinstance(feed, DeviceArray) for feed in feeds.values()):
            self._streams.order_after_producers(self.worker.stream)
        for binding in self.worker.inputs:
            name, feed = binding.name, feeds[binding.name]
            if not isinstance(feed, DeviceArray):
                if feed.shape != shapes[name] or not memory.is_pinned(feed):
                    feed = self._into_pinned(binding, feed, shapes[name])
                uploads.append((addresses[name], feed))
            elif feed.shape == shapes[name] and feed.address % ALIGNMENT == 0:
                addresses[name] = feed.address
            else:
                self._copy_on_device(binding, feed, shapes[name])
        return addresses, uploads

    def _into_pinned(self, binding: Binding, feed: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
        view = self._pinned[binding.name].view(shape, binding.spec.dtype)
        view[: feed.shape[0]] = feed
        view[feed.shape[0] :] = 0
        return view

    def _copy_on_device(self, binding: Binding, feed: DeviceArray, shape: Shape) -> None:
        """Into the slot's own buffer, with zeros behind it up to `shape`: read in place, the engine would read beyond
        the array.
        """
        cuda, to, stream = memory.driver(), self._device[binding.name].address, self.worker.stream
        row = int(np.prod(shape[1:], dtype=np.int64)) * binding.spec.dtype.itemsize
        size, whole = feed.shape[0] * row, shape[0] * row
        cuda.memcpy_dtod_async(to, feed.address, size, stream)
        if whole > size:
            cuda.memset_d8_async(to + size, 0, whole - size, stream)

    def _copy_back(self, outputs: Mapping[str, Shape], stream: Any) -> dict[str, npt.NDArray[Any]]:
        """Put the copies of all outputs to pinned memory on `stream`; the arrays that will hold them."""
        views = self._views(outputs)
        for name, view in views.items():
            memory.driver().memcpy_dtoh_async(view, self._device[name].address, stream)
        return views

    def _views(self, outputs: Mapping[str, Shape]) -> dict[str, npt.NDArray[Any]]:
        return {
            binding.name: self._pinned[binding.name].view(outputs[binding.name], binding.spec.dtype)
            for binding in self.worker.outputs
        }
