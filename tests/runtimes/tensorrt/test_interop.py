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
        self.__cuda_array_interface__ = {
            "shape": (2, 3),
            "typestr": "<f4",
            "data": (4096, False),
            "version": 3,
            **changed,
        }


class OnGpu:
    """A DLPack producer that calls host memory CUDA memory: the capsule is NumPy's own, with the device rewritten."""

    def __init__(self, array: np.ndarray[Any, Any], device: int = 0) -> None:
        self.array, self.stream, self.device = array, 0, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return (interop.DLPACK_CUDA, self.device)

    def __dlpack__(self, stream: int) -> Any:
        self.stream = stream
        return self.array.__dlpack__()


class LikeTorch(OnGpu):
    """Version 2 of the interface, which names no stream, beside DLPack."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        super().__init__(array)
        self.__cuda_array_interface__ = {
            "shape": (9, 9),
            "typestr": "<f4",
            "data": (64, False),
            "version": 2,
            "strides": None,
        }


class Raises:
    """As PyTorch does when it has a reason not to hand memory over."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    @property
    def __cuda_array_interface__(self) -> Any:
        raise self.fault


class RaisesLate(OnGpu):
    def __dlpack__(self, stream: int) -> Any:
        raise BufferError("float8 types are not supported by dlpack")


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
    assert (feed.address, feed.shape, feed.dtype, producer.stream) == (
        array.ctypes.data,
        (2, 3),
        np.dtype(np.float16),
        1234,
    )
    assert ctypes.c_uint16.from_address(feed.address + 2).value == array.view(np.uint16)[0, 1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(Cai(strides=(4, 8)), "not contiguous", id="cai in Fortran order"),
        pytest.param(OnGpu(np.zeros((4, 6), np.float32)[:, ::2]), "not contiguous", id="strided dlpack"),
        pytest.param(OnGpu(np.zeros(3, np.complex64)), "has a DLPack dtype", id="complex dlpack"),
        pytest.param("image.png", "is a str; feed a NumPy array", id="no array"),
        pytest.param(
            OnGpu(np.zeros(3, np.float32), device=1), "lies on GPU 1, and the engine on GPU 0", id="another GPU"
        ),
        pytest.param(
            Raises(RuntimeError("Variable that requires grad")),
            "cannot be read on the GPU .Variable that requires grad.",
            id="grad",
        ),
        pytest.param(
            Raises(KeyError("torch.float8_e5m2")), "cannot be read on the GPU", id="dtype that torch does not name"
        ),
        pytest.param(
            RaisesLate(np.zeros(3)),
            "cannot be read on the GPU .float8 types are not supported by dlpack",
            id="dlpack that refuses",
        ),
        pytest.param(
            Cai(typestr="<V2"), "is bfloat16 or another type that NumPy lacks", id="bfloat16 as torch describes it"
        ),
    ],
)
def test_what_cannot_be_read_in_place_is_refused(value: object, text: str) -> None:
    with pytest.raises(EngineInputError, match=text):
        to_feed("x", value, 1)


def test_the_producer_is_told_our_stream_where_its_interface_names_none() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = LikeTorch(array)
    feed = to_feed("x", tensor, 4711)
    assert isinstance(feed, DeviceArray)
    assert (feed.address, feed.shape, tensor.stream) == (array.ctypes.data, (2, 3), 4711)


@pytest.mark.parametrize("stream", [None, 1, 7], ids=["nothing pending", "default", "another"])
def test_an_interface_that_names_its_stream_is_read_as_before(stream: Any) -> None:
    array = LikeTorch(np.zeros((2, 3), np.float32))
    array.__cuda_array_interface__ |= {"version": 3, "stream": stream}
    feed = to_feed("x", array, 4711)
    assert isinstance(feed, DeviceArray)
    assert (feed.address, feed.stream, array.stream) == (64, stream, 0)


def test_an_interface_without_dlpack_is_read_as_before() -> None:
    feed = to_feed("x", Cai(version=2), 1)
    assert isinstance(feed, DeviceArray)
    assert (feed.address, feed.stream) == (4096, None)


def test_rows_of_a_device_array_point_into_it() -> None:
    rows = DeviceArray(1000, (10, 3), np.dtype(np.float32)).rows(4, 20)
    assert (rows.address, rows.shape) == (1000 + 4 * 12, (6, 3))
    assert rows.__cuda_array_interface__["shape"] == (6, 3)
