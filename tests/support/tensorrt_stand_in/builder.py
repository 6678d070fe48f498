"""A stand-in for the builder half of TensorRT's bindings, so that every version's calls are tested where there is no
GPU.

`stand_in("8.6.0")`, `("10.3.0")`, `("11.4.0")` have just the names of that version which our code may touch: one more,
and the call ends in AttributeError as it would there. `test_builder.py` holds these names against the real bindings:
8.6.0's as recorded from the library (names_8_6.json), 10.13's from tensorrt-stubs, and TensorRT-RTX's where that is
installed.
"""

from __future__ import annotations

import enum
import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Optional, cast

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from enginewright.runtimes.tensorrt.bindings import Bindings, version_stamp
from support.tensorrt_stand_in import runtime
from support.tensorrt_stand_in.runtime import DataType

FLAGS = {
    "8.6": ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "TF32"],
    "10": ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "TF32"],
    "11": ["TF32"],
}
CREATION_FLAGS = {"8.6": ["EXPLICIT_BATCH"], "10": ["EXPLICIT_BATCH", "STRONGLY_TYPED"], "11": ["STRONGLY_TYPED"]}
TACTIC_SOURCES = {
    "8.6": ["CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"],
    "10": ["CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"],
    "11": ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"],
}
CALIBRATORS = {
    "IInt8EntropyCalibrator2": "EntropyCalibration2",
    "IInt8MinMaxCalibrator": "MinMaxCalibration",
}


def _family(version: str) -> str:
    return "8.6" if version.startswith("8") else version.split(".", maxsplit=1)[0]


@dataclass
class Record:
    """What our code did, and what the library is to answer."""

    flags: set[str] = field(default_factory=set)
    cleared: set[str] = field(default_factory=set)
    network_flags: int = -1
    profiles: list[dict[str, tuple[tuple[int, ...], ...]]] = field(default_factory=list)
    calibration_profile: Optional[dict[str, tuple[tuple[int, ...], ...]]] = None
    limits: dict[str, int] = field(default_factory=dict)
    tactic_sources: Optional[int] = None
    calibrator_class: str = ""
    taken_cache: bytes = b""
    batches: int = 0
    given_timings: Optional[bytes] = None
    stored_timings: bytes = b""
    operators: list[str] = field(default_factory=list)
    inputs: dict[str, tuple[object, int]] = field(default_factory=dict)  # (type, allowed formats)
    settings: dict[str, Any] = field(default_factory=dict)
    constrained: dict[str, tuple[object, object]] = field(
        default_factory=dict
    )  # layer -> precision, type of its output
    messages: list[tuple[str, str]] = field(default_factory=list)  # (severity, text) that the build says
    refuses_timings: bool = False
    refuses_cache: bool = False
    fails: bool = False
    # an operator: models without it fail to build, as an implicit build does that an explicit one survives
    fails_without: str = ""
    fails_with_quantized: str = ""  # an operator: models fail to build in which INT8 may take it
    raises: bool = False  # a failed build raises, as TensorRT's assertions do, and does not return None
    # the inspector's layers; None: one a convolution or product, in what was asked for
    described: Optional[list[dict[str, Any]]] = None
    model: onnx.ModelProto = field(default_factory=onnx.ModelProto)  # as it was built last
    builds: int = 0
    libraries: list[str] = field(default_factory=list)  # that the plugin registry loaded
    parsed_after: int = -1  # how many of them, when a model was parsed
    refuses_libraries: bool = False
    on_batch: Callable[[dict[str, int]], None] = lambda _: None
    phases: list[str] = field(default_factory=list)


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity: ClassVar[type[enum.IntEnum]] = Severity

    def log(self, severity: enum.IntEnum, msg: str) -> None:
        raise NotImplementedError


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:  # min, opt, max
        self.shapes[name] = tuple(tuple(shape) for shape in shapes)


class Dims(tuple):  # type: ignore[type-arg]
    pass


class ITensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.shape = Dims([axis.dim_value or -1 for axis in value.type.tensor_type.shape.dim])
        self.dtype: object = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        self.allowed_formats = -1  # all
        self.is_network_output = False


LayerType = enum.IntEnum("LayerType", ["CONSTANT", "ELEMENTWISE", "MATRIX_MULTIPLY", "SHUFFLE", "UNARY"], start=0)
ElementWiseOperation = enum.IntEnum("ElementWiseOperation", ["SUM", "PROD"], start=0)


class ILayer:
    """What the parser makes of a node, and names after it."""

    precision: object = None

    def __init__(
        self, name: str, inputs: Sequence[str], *outputs: str, last: bool = False, kind: enum.IntEnum = LayerType.UNARY
    ) -> None:
        self.name, self.type, self.num_inputs, self.num_outputs = name, kind, len(inputs), len(outputs)
        self._inputs = [ITensor(onnx.ValueInfoProto(name=tensor)) for tensor in inputs]
        self._outputs = [ITensor(onnx.ValueInfoProto(name=tensor)) for tensor in outputs]
        for tensor in self._outputs:
            tensor.dtype, tensor.is_network_output = DataType.FLOAT, last
        self._output_type: object = None  # of the first
        self._weights: Optional[npt.NDArray[Any]] = None

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    def set_output_type(self, index: int, dtype: object) -> None:
        assert self._outputs[index].dtype is DataType.FLOAT, f"{self.name} has indices there, not numbers"
        if index == 0:
            self._output_type = dtype


class IConstantLayer(ILayer):
    @property
    def weights(self) -> Optional[npt.NDArray[Any]]:
        return self._weights


class IElementWiseLayer(ILayer):
    op = ElementWiseOperation.SUM


def _parsed_name(node: onnx.NodeProto) -> str:
    """As TensorRT's parser names the layers of a node."""
    return node.name or f"node_of_{node.output[0]}"


def _layers(graph: onnx.GraphProto) -> Iterator[ILayer]:
    """One a node; a Gemm is five, whose inner tensors have names of the parser's own, as in 8.6.0."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    results, count = {value.name for value in graph.output}, itertools.count()

    def unnamed(
        kind: enum.IntEnum, label: str, inputs: Sequence[str], values: Optional[npt.NDArray[Any]] = None
    ) -> ILayer:
        name = f"(Unnamed Layer* {next(count)}) [{label}]"
        layer = ILayer(name, inputs, f"{name}_output", kind=kind)
        layer._weights = values
        return layer

    for node in graph.node:
        if node.op_type != "Gemm" or node.input[1] not in weights:
            next(count)
            layer = ILayer(
                _parsed_name(node),
                [tensor for tensor in node.input if tensor not in weights],
                *node.output,
                last=node.output[0] in results,
            )
            for index in {"Shape": [0], "TopK": [1]}.get(node.op_type, []):
                layer.get_output(index).dtype = DataType.INT32
            yield layer
            continue
        matrix, bias = (unnamed(LayerType.CONSTANT, "Constant", [], weights[tensor]) for tensor in node.input[1:])
        product = unnamed(LayerType.MATRIX_MULTIPLY, "Matrix Multiply", [node.input[0], matrix.get_output(0).name])
        reshaped = unnamed(LayerType.SHUFFLE, "Shuffle", [bias.get_output(0).name])
        product.name = _parsed_name(node)
        yield from (matrix, product, bias, reshaped)
        tensors = [product.get_output(0).name, reshaped.get_output(0).name]
        yield ILayer(
            f"{_parsed_name(node)}_sum",
            tensors,
            node.output[0],
            last=node.output[0] in results,
            kind=LayerType.ELEMENTWISE,
        )


class INetworkDefinition:
    def __init__(self) -> None:
        self.model = onnx.ModelProto()
        self._inputs: list[ITensor] = []
        self._layers: list[ILayer] = []

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


def _config(record: Record, family: str) -> type:  # noqa: C901
    """IBuilderConfig of a version: attributes that it has not cannot be set."""
    attributes = ["builder_optimization_level", "profiling_verbosity"]
    attributes += ["int8_calibrator"] if family in ("8.6", "10") else []
    attributes += ["progress_monitor"] if family in ("10", "11") else []

    class IBuilderConfig:
        __slots__ = (*attributes, "_timing_cache")

        def __init__(self) -> None:
            for name in attributes:
                object.__setattr__(self, name, None)

        def __setattr__(self, name: str, value: object) -> None:
            object.__setattr__(self, name, value)
            record.settings[name] = value

        def set_flag(self, flag: enum.Enum) -> None:
            record.flags.add(flag.name)

        def clear_flag(self, flag: enum.Enum) -> None:
            record.cleared.add(flag.name)

        def set_memory_pool_limit(self, pool: enum.Enum, pool_size: int) -> None:
            record.limits[pool.name] = pool_size

        def set_tactic_sources(self, tactic_sources: int) -> bool:
            record.tactic_sources = tactic_sources
            return True

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            record.profiles.append(profile.shapes)
            return len(record.profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            return ITimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            assert ignore_mismatch is False  # another GPU's timings must not be forced in
            if record.refuses_timings and cache.content:
                return False
            record.given_timings = cache.content
            self._timing_cache = cache
            return True

        def get_timing_cache(self) -> Optional[ITimingCache]:
            return getattr(self, "_timing_cache", None)

        if family in ("8.6", "10"):

            def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
                record.calibration_profile = profile.shapes
                return True

    return IBuilderConfig


def _calibrate(record: Record, calibrator: Any, version: str) -> None:
    """As TensorRT does: a cache under the right header is taken, else batches are asked for until there are no more."""
    header = f"TRT-{version_stamp(version)}-{CALIBRATORS[record.calibrator_class]}".encode()
    cache = calibrator.read_calibration_cache()
    if cache is not None and bytes(cache).startswith(header) and not record.refuses_cache:
        record.taken_cache = bytes(cache)
        return
    shapes = record.calibration_profile or record.profiles[0]
    while addresses := calibrator.get_batch(list(shapes)):
        record.batches += 1
        record.on_batch(dict(zip(shapes, addresses)))
    scales = "".join(f"{name}: {struct.pack('!f', 0.25).hex()}\n" for name in shapes)
    calibrator.write_calibration_cache(header + b"\n" + scales.encode())


def _builder(record: Record, version: str, config: type) -> type:  # noqa: C901
    class Builder:
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            record.network_flags = flags
            return INetworkDefinition()

        def create_builder_config(self) -> Any:
            return config()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: INetworkDefinition, config: Any) -> Optional[bytes]:
            for severity, text in record.messages:
                self._logger.log(Severity[severity], text)
            monitor = getattr(config, "progress_monitor", None)
            if monitor is not None:
                monitor.phase_start("Building", "", 2)
                record.phases.append(f"Building {monitor.step_complete('Building', 0)}")
                monitor.phase_finish("Building")
            calibrator = getattr(config, "int8_calibrator", None)
            if calibrator is not None and "INT8" in record.flags:
                record.calibrator_class = type(calibrator).__mro__[1].__name__
                _calibrate(record, calibrator, version)
            layers = [network.get_layer(index) for index in range(network.num_layers)]
            record.constrained = {
                layer.name: (layer.precision, layer._output_type) for layer in layers if layer.precision is not None
            }
            record.operators = [node.op_type for node in network.model.graph.node]
            inputs = [network.get_input(index) for index in range(network.num_inputs)]
            record.inputs = {
                tensor.name: (getattr(tensor.dtype, "name", tensor.dtype), tensor.allowed_formats) for tensor in inputs
            }
            if (cache := config.get_timing_cache()) is not None:
                cache.content = record.stored_timings = cache.content + b"measured;"
            record.builds += 1
            record.model = network.model
            without = record.fails_without and record.fails_without not in record.operators
            if record.fails or without or _may_be_int8(record, record.fails_with_quantized):
                if record.raises:
                    raise RuntimeError("Assertion engine failed")
                return None
            described = _described(record) if record.described is None else record.described
            return runtime.plan(version=version, layers=described)

    return Builder


def _may_be_int8(record: Record, operator: str) -> bool:
    """Whether a node of this operator reads a dequantized tensor, or, of a model without Q/DQ, is not obliged to
    another type.
    """
    graph = record.model.graph
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    nodes = [node for node in graph.node if node.op_type == operator and "INT8" in record.flags]
    return any(node.input[0] in dequantized if dequantized else node.name not in record.constrained for node in nodes)


def _parser(family: str, record: Record) -> type:  # noqa: C901
    class ParserError:
        def __init__(self, index: int, node: onnx.NodeProto) -> None:
            self._index, self._node = index, node

        def node(self) -> int:
            return self._index

        def desc(self) -> str:
            return "no importer registered for op"

        if family != "8.6":

            def node_name(self) -> str:
                return self._node.name

            def node_operator(self) -> str:
                return self._node.op_type

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:  # noqa: ARG002
            self._network, self._errors = network, list[ParserError]()

        def parse(self, model: bytes, path: Optional[str] = None) -> bool:  # noqa: ARG002
            record.parsed_after = len(record.libraries)
            parsed = self._network.model = onnx.ModelProto.FromString(model)
            self._network._layers = list(_layers(parsed.graph))
            self._network._inputs = [ITensor(value) for value in parsed.graph.input]
            self._errors = [
                ParserError(index, node) for index, node in enumerate(parsed.graph.node) if node.op_type == "NoSuchOp"
            ]
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    OnnxParser.Error = ParserError  # type: ignore[attr-defined]
    return OnnxParser


def _described(record: Record) -> list[dict[str, Any]]:
    """One layer a convolution or matrix product, in the precision that was asked for."""
    nodes = record.model.graph.node
    dequantized = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    dequantized |= {node.output[0] for node in nodes if node.op_type == "Cast" and node.input[0] in dequantized}
    explicit, layers = bool(dequantized), []
    for node in nodes:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        name = _parsed_name(node)
        in_int8 = (
            node.input[0] in dequantized if explicit else "INT8" in record.flags and name not in record.constrained
        )
        kind = "Int8" if in_int8 else "Half"
        tensors = {"Inputs": [{"Name": node.input[0], "Format/Datatype": f"Row major {kind} format"}], "Outputs": []}
        layers.append(
            {
                "Name": name,
                "LayerType": "CaskConvolution",
                "Metadata": f"[ONNX Layer: {name}]",
                "Weights": {"Type": kind},
                **tensors,
            }
        )
    return layers


def _calibrator(name: str) -> type:
    class Base:
        def __init__(self) -> None:
            self.started = True

    return type(name, (Base,), {})


class IProgressMonitor:
    def __init__(self) -> None: ...


def stand_in(version: str, record: Record) -> Bindings:
    """The module of one version; what our code does with it is written into `record`."""
    family = _family(version)
    module: dict[str, Any] = {
        "__name__": "tensorrt",
        "__version__": version,
        "Builder": _builder(record, version, config := _config(record, family)),
        "BuilderFlag": enum.IntEnum("BuilderFlag", FLAGS[family], start=0),
        "DataType": DataType,
        "Dims": Dims,
        "IBuilderConfig": config,
        "ILogger": ILogger,
        "LayerInformationFormat": enum.IntEnum("LayerInformationFormat", ["ONELINE", "JSON"], start=0),
        "MemoryPoolType": enum.IntEnum("MemoryPoolType", ["WORKSPACE"], start=0),
        "NetworkDefinitionCreationFlag": enum.IntEnum("NetworkDefinitionCreationFlag", CREATION_FLAGS[family], start=0),
        "OnnxParser": (parser := _parser(family, record)),
        "ParserError": parser.Error,  # type: ignore[attr-defined]
        "get_plugin_registry": lambda: runtime.IPluginRegistry(record.libraries, record.refuses_libraries),
        "ProfilingVerbosity": enum.IntEnum("ProfilingVerbosity", ["DETAILED"], start=0),
        "TacticSource": enum.IntEnum("TacticSource", TACTIC_SOURCES[family], start=0),
        "TensorFormat": runtime.TensorFormat,
        "EngineInspector": runtime.EngineInspector,
        "ICudaEngine": runtime.ICudaEngine,
        "Runtime": runtime.Runtime,
        "INetworkDefinition": INetworkDefinition,
        "IOptimizationProfile": IOptimizationProfile,
        "ITensor": ITensor,
        "ITimingCache": ITimingCache,
    }
    if family in ("8.6", "10"):
        module.update({name: _calibrator(name) for name in CALIBRATORS})
    if family in ("8.6", "10"):  # 11 is asked neither for constraints nor for scales
        module.update(
            {
                kind.__name__: kind
                for kind in (ILayer, IConstantLayer, IElementWiseLayer, LayerType, ElementWiseOperation)
            }
        )
    if family in ("10", "11"):
        module["IProgressMonitor"] = IProgressMonitor
    return cast(Bindings, SimpleNamespace(**module))


def surface(version: str) -> dict[str, set[str]]:
    """Class of the bindings -> names on it that the stand-in offers, and so our code may touch."""
    module = vars(stand_in(version, Record()))
    found = {
        name: {entry for entry in vars(value) if not entry.startswith("_")}
        for name, value in module.items()
        if isinstance(value, type) and value.__module__ != runtime.__name__
    }
    found["ITensor"] |= {"name", "shape", "dtype", "allowed_formats", "is_network_output"}
    if "ILayer" in found:
        found["ILayer"] |= {"name", "type", "num_inputs"}
    for name in CALIBRATORS:
        if name in found:
            found[name] |= {"get_batch_size", "get_batch", "read_calibration_cache", "write_calibration_cache"}
    if "IProgressMonitor" in found:
        found["IProgressMonitor"] |= {"phase_start", "step_complete", "phase_finish"}
    enums = [name for name, value in module.items() if isinstance(value, type) and issubclass(value, enum.Enum)]
    return {
        name: set(module[name].__members__) if name in enums else names - {"Error", "shapes", "content", "model"}
        for name, names in found.items()
    }
