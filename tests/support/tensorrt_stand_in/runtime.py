# ruff: noqa: ARG002
"""The half of the stand-in that deserializes, describes and runs engines, in the names of TensorRT 8.6.

It computes `y = 2 x` and `s = sum of x over all axes but the first`. `tests/runtimes/tensorrt/test_engine.py` holds its
names equal to those of the real bindings' stubs. Work is handed to the stream that the fake or real PyCUDA made.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from typing import Any, Optional

import numpy as np

__version__ = "8.6.0"

on_stream: Callable[[int, Callable[[], None]], None] = lambda handle, work: work()  # noqa: E731, ARG005
capturing: Callable[[int], bool] = lambda handle: False  # noqa: E731, ARG005
deserialized: list[bytes] = []  # what any Runtime was given
libraries: list[str] = []  # what the plugin registry loaded
profile_sharing = True  # False: like 8.6 without PreviewFeature.PROFILE_SHARING_0806


def plan(
    shape: Sequence[int] = (3, 4), minimum: int = 1, maximum: int = 4, dtype: str = "FLOAT", **more: object
) -> bytes:
    """An engine's bytes: input x [N, *shape], outputs y [N, *shape] and s [N]; `more` is what the inspector shows."""
    return json.dumps({"shape": list(shape), "min": minimum, "max": maximum, "dtype": dtype, **more}).encode()


class IPluginRegistry:
    def __init__(self, loaded: list[str], refuses: bool = False) -> None:
        self._loaded, self._refuses = loaded, refuses

    def load_library(self, plugin_path: str) -> Optional[object]:
        if self._refuses:
            return None
        self._loaded.append(plugin_path)
        return object()


def get_plugin_registry() -> IPluginRegistry:
    return IPluginRegistry(libraries)


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorFormat(IntEnum):
    LINEAR = 0
    CHW4 = 1


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3


TYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8}


class Logger:
    ERROR = 1

    def __init__(self, severity: int = 1) -> None:
        self.severity = severity


class IProfiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None: ...


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, logger: object) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Optional[ICudaEngine]:
        deserialized.append(serialized_engine)
        return ICudaEngine(json.loads(serialized_engine)) if serialized_engine.startswith(b"{") else None


class EngineInspector:
    def __init__(self, made_of: dict[str, Any]) -> None:
        self._made_of = made_of

    def get_engine_information(self, layer_information_format: object) -> str:
        """JSON with the raw control characters that TensorRT writes."""
        text = json.dumps({"Layers": self._made_of["layers"], "Bindings": ["input"]})
        return text.replace(']"', ']\x1e"')


class ICudaEngine:
    num_io_tensors = 3
    num_optimization_profiles = 1
    device_memory_size = 4096

    def __init__(self, made_of: dict[str, Any]) -> None:
        self.made_of, self.contexts = made_of, 0

    def get_tensor_name(self, index: int) -> str:
        return ("x", "y", "s")[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.made_of["dtype"]]

    def get_tensor_format(self, name: str) -> TensorFormat:
        return TensorFormat.LINEAR

    def get_tensor_format_desc(self, name: str) -> str:
        return "row major linear"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1,) if name == "s" else (-1, *self.made_of["shape"])

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [
            (rows, *self.made_of["shape"]) for rows in (self.made_of["min"], self.made_of["max"], self.made_of["max"])
        ]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self.made_of)

    def create_execution_context_without_device_memory(self) -> Optional[IExecutionContext]:
        self.contexts += 1
        return IExecutionContext(self) if profile_sharing or self.contexts == 1 else None


class IExecutionContext:
    active_optimization_profile = 0
    enqueue_emits_profile = True
    profiler: Optional[IProfiler] = None
    executed = 0

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine, self.device_memory = engine, 0
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return profile_index == 0

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self._shape = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape[:1] if name == "s" else self._shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def report_to_profiler(self) -> bool:
        assert self.profiler is not None
        for name, milliseconds in (("conv1 + relu1", 0.5), ("fc", 0.25)):
            self.profiler.report_layer_time(name, milliseconds)
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        shape, addresses, kind = self._shape, dict(self._addresses), np.dtype(TYPES[self.engine.made_of["dtype"]])

        def compute() -> None:
            IExecutionContext.executed += 1
            x = view(addresses["x"], shape, kind)
            view(addresses["y"], shape, kind)[...] = 2 * x
            view(addresses["s"], shape[:1], kind)[...] = x.reshape(shape[0], -1).sum(axis=1).astype(kind)

        on_stream(stream_handle, compute)
        return True


def view(address: int, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Memory at an address as an array."""
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw: np.ndarray[Any, Any] = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address))
    return raw.view(dtype).reshape(shape)
