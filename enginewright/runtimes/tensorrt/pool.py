"""Who holds which slot. A slot that is under way, or whose outputs still lie on the GPU, is never handed out again.

Any number of callers share the slots: open iterators of `infer_many`, an `infer` between two of their outputs, a
profiler. When no slot is free, the batch that was submitted first is collected early, and its outputs wait on the host
until its iterator asks for them. Where that is not possible, because the outputs are to stay on the GPU, one more slot
is made and kept.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes.tensorrt import memory
from enginewright.runtimes.tensorrt.contexts import Worker
from enginewright.runtimes.tensorrt.interop import Feed
from enginewright.runtimes.tensorrt.streams import Slot, Streams


class Piece:
    """A batch of at most the profile's size, from `Pool.submit` until `Pool.collect`."""

    def __init__(self, slot: Slot, rows: int, on_device: bool) -> None:
        self.slot: Optional[Slot] = slot  # None once its outputs are here, or the engine is closed
        self.rows, self.on_device = rows, on_device
        self.outputs: Optional[dict[str, Any]] = None
        # False once nobody will collect it. An abandoned iterator does no more than set this flag: the garbage
        # collector may end it in any thread and in the middle of any call, where CUDA must not be used.
        self.wanted = True


class Lease:
    """Held by whatever uses a slot for as long as it likes; when the last holder is gone, the slot is free again."""

    __slots__ = ("__weakref__",)


class Pool:
    """The slots of one engine."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        """Slots compute on `workers` in turn."""
        self._workers = workers
        self._streams: Optional[Streams] = Streams()
        self.intake: int = (
            self._streams.intake.handle
        )  # what producers of device arrays are told to order their work before
        self._slots: list[Slot] = []
        self._free: deque[Slot] = deque()
        self._under_way: deque[Piece] = deque()  # in the order of submission

    def __len__(self) -> int:
        return len(self._slots)

    def fill(self, count: int) -> None:
        """Make `count` slots. Raises RuntimeUnavailable if there is too little memory."""
        for _ in range(count):
            self._free.append(self._grow())

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[Slot]:
        """A slot for one call that waits for its own work. The next such call gets the same slot, with its graphs."""
        slot = self._take()
        try:
            yield slot
        except BaseException:
            self._settle(slot)
            raise
        self._free.appendleft(slot)

    def lent(self) -> tuple[Slot, Lease]:
        """A slot, and what keeps it from being used for anything else."""
        slot = self._take()
        return slot, self._lease(slot)

    def submit(self, feeds: Mapping[str, Feed], rows: int, on_device: bool) -> Piece:
        """Start one batch and return at once. Raises RuntimeUnavailable if TensorRT refuses it, or there is no memory
        for a slot.
        """
        slot = self._take()
        try:
            slot.submit(feeds, rows, on_device)
        except BaseException:
            self._settle(slot)
            raise
        piece = Piece(slot, rows, on_device)
        self._under_way.append(piece)
        return piece

    def collect(self, piece: Piece) -> dict[str, Any]:
        """Wait for a batch; its outputs are new host arrays, or `DeviceArray`s that keep their slot."""
        if piece.slot is not None:
            self._finish(piece)
        outputs, piece.outputs = piece.outputs, None
        assert outputs is not None  # the engine checks that it is open before it collects
        return outputs

    def close(self) -> None:
        """Free all slots; nothing may be under way on the GPU. A second call does nothing."""
        for piece in self._under_way:
            piece.slot = None
        for slot in self._slots:
            slot.free()
        for held in (self._under_way, self._free, self._slots):
            held.clear()
        self._streams = None  # streams go with their last reference, while the context is still current

    def _take(self) -> Slot:
        if not self._free:
            done = next((piece for piece in self._under_way if not (piece.on_device and piece.wanted)), None)
            if done is None:
                return self._grow()
            self._finish(done)
        return self._free.popleft()

    def _finish(self, piece: Piece) -> None:
        self._under_way.remove(piece)
        slot, piece.slot = piece.slot, None
        assert slot is not None  # only pieces with a slot are under way
        outputs = slot.collect()
        if not (piece.on_device and piece.wanted):
            self._free.append(slot)
            piece.outputs = outputs
        else:
            lease = self._lease(slot)
            piece.outputs = {name: replace(array, owner=lease) for name, array in outputs.items()}

    def _lease(self, slot: Slot) -> Lease:
        """The finalizer holds the pool and a number and no slot, so that nothing on the GPU outlives the engine."""
        lease = Lease()
        weakref.finalize(lease, self._give_back, self._slots.index(slot)).atexit = False
        return lease

    def _give_back(self, number: int) -> None:
        if self._slots:
            self._free.append(self._slots[number])

    def _settle(self, slot: Slot) -> None:
        """Copies of a failed batch may still be on their way to the slot. If the GPU does not even wait, the slot stays
        out of use.
        """
        cuda = memory.driver()
        with contextlib.suppress(cuda.Error):
            cuda.Context.synchronize()
            self._free.append(slot)

    def _grow(self) -> Slot:
        number = len(self._slots)
        try:
            assert self._streams is not None  # the engine checks that it is open
            slot = Slot(self._workers[number % len(self._workers)], self._streams)
        except RuntimeUnavailable as fault:
            if not self._under_way and number == 0:
                raise
            raise RuntimeUnavailable(
                f"{number} batches are on the GPU, and there is no memory for one more: {fault}; let go of outputs of"
                " infer_many(on_device=True)"
            ) from None
        self._slots.append(slot)
        return slot
