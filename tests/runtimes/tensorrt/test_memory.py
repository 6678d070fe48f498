"""Buffers: sizes, both ways of copying, freeing twice, who counts as pinned; contexts pushed and popped in pairs."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes.tensorrt import memory
from support import cuda_stand_in
from support.cuda_stand_in import Gpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return cuda_stand_in.install(monkeypatch)


def test_a_device_buffer_takes_copies_and_gives_its_memory_back_once(gpu: Gpu) -> None:
    buffer = memory.DeviceBuffer(16)
    buffer.copy_from_host(np.arange(4, dtype=np.float32))
    back = np.empty(4, np.float32)
    buffer.copy_to_host(back)
    np.testing.assert_array_equal(back, [0, 1, 2, 3])
    buffer.free()
    buffer.free()
    assert gpu.live == {}


@pytest.mark.parametrize("copy", ["copy_from_host", "copy_to_host"])
def test_a_copy_beyond_the_buffer_is_refused(gpu: Gpu, copy: str) -> None:
    buffer = memory.DeviceBuffer(8)
    with pytest.raises(ValueError, match="12 bytes"):
        getattr(buffer, copy)(np.zeros(3, np.float32))
    buffer.free()


def test_a_pinned_buffer_is_seen_through_any_shape_and_dtype_until_it_is_freed(gpu: Gpu) -> None:
    buffer = memory.PinnedBuffer(32)
    view = buffer.view((2, 3), np.dtype(np.float16))
    assert (view.shape, view.dtype, memory.is_pinned(view[1:])) == ((2, 3), np.dtype(np.float16), True)
    del view
    buffer.free()
    buffer.free()
    assert gpu.pinned == 0
    with pytest.raises(ValueError, match="already freed"):
        buffer.view((1,), np.dtype(np.int8))


def test_no_memory_left_is_one_sentence_with_figures(gpu: Gpu) -> None:
    with pytest.raises(RuntimeUnavailable, match="1024 of 1024 MiB free and the engine needs a buffer of 4096 MiB"):
        memory.DeviceBuffer(4 << 30)


def test_the_primary_context_is_left_also_after_a_fault(gpu: Gpu) -> None:
    def fail() -> None:
        with memory.primary_context(), memory.primary_context():
            assert gpu.pushed == 2
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gpu.pushed == 0


def test_pycuda_that_is_missing_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(RuntimeUnavailable, match=r"PyCUDA cannot be imported .*`pip install"):
        memory.driver()
