"""Arrays that are already on the GPU, from any library, without a copy: `__cuda_array_interface__` (version 2 and 3)
and DLPack.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from enginewright.errors import EngineInputError
from enginewright.feeds import not_an_array, refuse_unusual, require_plain_array

DLPACK_CUDA = 2  # DLDeviceType.kDLCUDA
DLPACK_ON_GPU = (DLPACK_CUDA, 13)  # kDLCUDAManaged: the GPU reads it at the same address
DLPACK_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}  # DLDataTypeCode -> kind of a NumPy dtype
DLPACK_NAMES = {4: "bfloat16", 5: "complex", **dict.fromkeys(range(7, 18), "a float of 8 bits or less")}  # dlpack.h 1.1


@dataclass(frozen=True)
class DeviceArray:
    """Contiguous device memory with a shape and a dtype. It does not own the memory; `owner` keeps alive what does."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    # handle of the stream that the producer's work is pending on, None if nothing is pending
    stream: Optional[int] = None
    owner: object = field(default=None, repr=False, compare=False)

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """Version 3 of the interface: any CUDA array library can read this without a copy."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "version": 3,
            "strides": None,
            "stream": None,
        }

    def rows(self, start: int, stop: int) -> DeviceArray:
        """The slice [start:stop] of the first axis."""
        stop = min(stop, self.shape[0])
        row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        return DeviceArray(
            self.address + start * row, (stop - start, *self.shape[1:]), self.dtype, self.stream, self.owner
        )


Feed = Union[npt.NDArray[Any], DeviceArray]


def to_feed(name: str, value: object, stream: int, device: int = 0) -> Feed:
    """`value` as a contiguous host array or as a view of its device memory.

    Args:
        name: of the input.
        value: a NumPy array, a `DeviceArray`, or what another library has on the GPU.
        stream: handle of the stream that waits for what the producer has still pending. DLPack tells it to the
            producer; `__cuda_array_interface__` instead names the producer's stream from version 3 on, and before that
            no stream at all. PyTorch has version 2, so its tensors are read through DLPack.
        device: CUDA ordinal of the engine.

    Raises:
        EngineInputError: it is no array, needs a gradient, has a dtype that NumPy lacks, or its memory is strided or on
            another GPU.
    """
    if isinstance(value, DeviceArray):
        return value
    if isinstance(value, np.ndarray):
        require_plain_array(name, value)
        return np.asarray(value, order="C")  # np.ascontiguousarray would make one dimension of none
    refuse_unusual(name, value)
    described = _read(name, lambda: getattr(value, "__cuda_array_interface__", None))
    if isinstance(described, Mapping) and ("stream" in described or not hasattr(value, "__dlpack__")):
        return _from_cuda_array_interface(name, value, described)
    if hasattr(value, "__dlpack_device__") and hasattr(value, "__dlpack__"):
        kind, ordinal = (int(part) for part in _read(name, value.__dlpack_device__))
        if kind in DLPACK_ON_GPU:
            if ordinal != device:
                raise EngineInputError(
                    f"the input '{name}' lies on GPU {ordinal}, and the engine on GPU {device}; copy it there first"
                )
            exported: Any = value
            return _from_dlpack(name, _read(name, lambda: exported.__dlpack__(stream=stream)))
    raise not_an_array(name, value, "feed a NumPy array, or a CUDA array (__cuda_array_interface__ or DLPack)")


def _read(name: str, ask: Callable[[], Any]) -> Any:
    """What `ask` returns. Whatever the other library raises is its reason not to hand the memory over."""
    try:
        return ask()
    except Exception as fault:  # noqa: BLE001 - PyTorch raises RuntimeError, BufferError, KeyError
        reason = " ".join(str(fault).split()) or type(fault).__name__
        raise EngineInputError(
            f"the input '{name}' cannot be read on the GPU ({reason}); feed a plain contiguous array of the input's"
            " type"
        ) from None


def _from_cuda_array_interface(name: str, value: object, described: Mapping[str, Any]) -> DeviceArray:
    shape, dtype = tuple(int(axis) for axis in described["shape"]), np.dtype(described["typestr"])
    if dtype.kind == "V":
        raise EngineInputError(
            f"the input '{name}' is bfloat16 or another type that NumPy lacks ({dtype.str}); convert it to the input's"
            " type"
        )
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
    """Read the tensor of a capsule; as its name stays "dltensor", its own destructor gives the memory back when `owner`
    goes.
    """
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DLTensor.from_address(pointer(capsule, b"dltensor"))
    kind, lanes = DLPACK_KINDS.get(tensor.dtype.code), tensor.dtype.lanes
    if kind is None or lanes != 1 or tensor.dtype.bits % 8:
        what = DLPACK_NAMES.get(tensor.dtype.code, f"code {tensor.dtype.code}, {tensor.dtype.bits} bits, {lanes} lanes")
        raise EngineInputError(
            f"the input '{name}' has a DLPack dtype ({what}) that NumPy lacks; convert it to the input's type, e.g."
            " float32"
        )
    dtype = np.dtype(f"{kind}{tensor.dtype.bits // 8}")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    _require_contiguous(
        name, shape, tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else None
    )
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, dtype, None, capsule)


def _require_contiguous(name: str, shape: tuple[int, ...], strides: Optional[tuple[int, ...]]) -> None:
    """`strides` in elements; None means C order."""
    want = 1
    for axis, stride in zip(reversed(shape), reversed(strides or ())):
        if axis != 1 and stride != want:
            raise EngineInputError(
                f"the input '{name}' is not contiguous (strides {list(strides or ())} elements); make it so, e.g. with"
                " .contiguous()"
            )
        want *= axis
