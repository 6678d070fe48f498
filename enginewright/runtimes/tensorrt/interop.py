"""Arrays that are already on the GPU, from any library, without a copy: `__cuda_array_interface__` (version 2 and 3) and DLPack."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from enginewright.errors import EngineInputError

DLPACK_CUDA = 2  # DLDeviceType.kDLCUDA
DLPACK_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}  # DLDataTypeCode -> kind of a NumPy dtype


@dataclass(frozen=True)
class DeviceArray:
    """Contiguous device memory with a shape and a dtype. It does not own the memory; `owner` keeps alive what does."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: Optional[int] = None  # handle of the stream that the producer's work is pending on, None if nothing is pending
    owner: object = field(default=None, repr=False, compare=False)

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """Version 3 of the interface: any CUDA array library can read this without a copy."""
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "version": 3, "strides": None, "stream": None}

    def rows(self, start: int, stop: int) -> DeviceArray:
        """The slice [start:stop] of the first axis."""
        stop = min(stop, self.shape[0])
        row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        return DeviceArray(self.address + start * row, (stop - start, *self.shape[1:]), self.dtype, self.stream, self.owner)


Feed = Union[npt.NDArray[Any], DeviceArray]


def to_feed(name: str, value: object, stream: int) -> Feed:
    """`value` as a contiguous host array or as a view of its device memory; `stream` (a handle) is the one that will read it.

    Raises:
        EngineInputError: it is no array, or its device memory is strided.
    """
    if isinstance(value, DeviceArray):
        return value
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value)
    if hasattr(value, "__cuda_array_interface__"):
        return _from_cuda_array_interface(name, value)
    if hasattr(value, "__dlpack_device__") and hasattr(value, "__dlpack__") and int(value.__dlpack_device__()[0]) == DLPACK_CUDA:
        return _from_dlpack(name, value.__dlpack__(stream=stream))
    raise EngineInputError(f"the input '{name}' is a {type(value).__name__}; feed a NumPy array, or a CUDA array (__cuda_array_interface__ or DLPack)")


def _from_cuda_array_interface(name: str, value: Any) -> DeviceArray:
    described = value.__cuda_array_interface__
    shape, dtype = tuple(int(axis) for axis in described["shape"]), np.dtype(described["typestr"])
    strides = described.get("strides")
    _require_contiguous(name, shape, None if strides is None else tuple(stride // dtype.itemsize for stride in strides))
    return DeviceArray(int(described["data"][0]), shape, dtype, described.get("stream"), value)


class _DLDevice(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DLDataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _DLTensor(ctypes.Structure):  # dlpack.h, DLTensor, unchanged since version 0.2
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", _DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _from_dlpack(name: str, capsule: object) -> DeviceArray:
    """Read the tensor of a capsule; as its name stays "dltensor", its own destructor gives the memory back when `owner` goes."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DLTensor.from_address(pointer(capsule, b"dltensor"))
    kind, lanes = DLPACK_KINDS.get(tensor.dtype.code), tensor.dtype.lanes
    if kind is None or lanes != 1:
        raise EngineInputError(f"the input '{name}' has a DLPack dtype (code {tensor.dtype.code}, {lanes} lanes) that NumPy lacks; convert it to float32")
    dtype = np.dtype(f"{kind}{tensor.dtype.bits // 8}")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    _require_contiguous(name, shape, tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else None)
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, dtype, None, capsule)


def _require_contiguous(name: str, shape: tuple[int, ...], strides: Optional[tuple[int, ...]]) -> None:
    """`strides` in elements; None means C order."""
    want = 1
    for axis, stride in zip(reversed(shape), reversed(strides or ())):
        if axis != 1 and stride != want:
            raise EngineInputError(f"the input '{name}' is not contiguous (strides {list(strides or ())} elements); make it so, e.g. with .contiguous()")
        want *= axis
