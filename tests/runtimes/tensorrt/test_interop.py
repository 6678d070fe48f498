"""Arrays of other libraries: what is read in place, and what is refused."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from enginewright.errors import EngineInputError
from enginewright.runtimes.tensorrt import interop
from enginewright.runtimes.tensorrt.interop import DeviceArray, to_feed


class Cai:
    def __init__(self, **changed: Any) -> None:
        self.__cuda_array_interface__ = {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "version": 3, **changed}


class OnGpu:
    """A DLPack producer that calls host memory CUDA memory: the capsule is NumPy's own, with the device rewritten."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.stream = array, 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return (interop.DLPACK_CUDA, 0)

    def __dlpack__(self, stream: int) -> Any:
        self.stream = stream
        return self.array.__dlpack__()


@pytest.mark.parametrize("strides", [None, (12, 4)], ids=["none", "C order"])
def test_the_cuda_array_interface_is_read_in_place(strides: Any) -> None:
    feed = to_feed("x", Cai(strides=strides, stream=7), 1)
    assert isinstance(feed, DeviceArray)
    assert (feed.address, feed.shape, feed.dtype, feed.stream) == (4096, (2, 3), np.dtype(np.float32), 7)


def test_dlpack_is_read_in_place_and_kept_alive() -> None:
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    producer = OnGpu(array)
    feed = to_feed("x", producer, 1234)
    assert isinstance(feed, DeviceArray)
    assert (feed.address, feed.shape, feed.dtype, producer.stream) == (array.ctypes.data, (2, 3), np.dtype(np.float16), 1234)
    assert ctypes.c_uint16.from_address(feed.address + 2).value == array.view(np.uint16)[0, 1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(Cai(strides=(4, 8)), "not contiguous", id="cai in Fortran order"),
        pytest.param(OnGpu(np.zeros((4, 6), np.float32)[:, ::2]), "not contiguous", id="strided dlpack"),
        pytest.param(OnGpu(np.zeros(3, np.complex64)), "has a DLPack dtype", id="complex dlpack"),
        pytest.param("image.png", "is a str; feed a NumPy array", id="no array"),
    ],
)
def test_what_cannot_be_read_in_place_is_refused(value: object, text: str) -> None:
    with pytest.raises(EngineInputError, match=text):
        to_feed("x", value, 1)


def test_rows_of_a_device_array_point_into_it() -> None:
    rows = DeviceArray(1000, (10, 3), np.dtype(np.float32)).rows(4, 20)
    assert (rows.address, rows.shape) == (1000 + 4 * 12, (6, 3))
    assert rows.__cuda_array_interface__["shape"] == (6, 3)
