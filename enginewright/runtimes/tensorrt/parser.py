"""The one way to ask TensorRT's ONNX parser: plugins loaded before, one network, one naming of what it refuses.

Names that differ by version: `EXPLICIT_BATCH` is needed up to TensorRT 8.6, ignored in 10 and gone in 11 and in
TensorRT-RTX; `ParserError.node_name` came with 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import onnx
from google.protobuf.message import DecodeError

from enginewright.errors import ModelError, RuntimeUnavailable
from enginewright.graph import stored
from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.session import Session

if TYPE_CHECKING:
    import tensorrt

SHOWN = 10  # refusals in the sentence of a model that cannot be parsed


@dataclass(frozen=True)
class Refusal:
    """What the parser refuses: a node by the name that it gives to it, its operator, and the parser's words."""

    message: str
    node: str = ""  # "" where it names none
    operator: str = ""
    place: Optional[int] = None  # of the node in the graph

    def __str__(self) -> str:
        """`node 'conv1' (Conv): message`."""
        return f"node '{self.node}' ({self.operator}): {self.message}" if self.node or self.operator else self.message


@dataclass(frozen=True)
class ParserAnswer:
    """What one library's parser says about a model."""

    why_not: str = ""  # it could not be asked, in words; then version and refusals say nothing
    version: str = ""
    refusals: tuple[Refusal, ...] = ()

    @property
    def verdict(self) -> str:
        """`accepted`, `refused`, or why it could not be asked."""
        return self.why_not or ("refused" if self.refusals else "accepted")


def parse(session: Session, model: onnx.ModelProto, source: Path) -> tensorrt.INetworkDefinition:
    """ONNX to a network. Raises ModelError with every refusal of the parser: node, operator, message."""
    network, refusals = _parsed(session, model, source)
    if refusals:
        left_out = len(refusals) - SHOWN
        shown = "; ".join(map(str, refusals[:SHOWN])) + (f"; and {left_out} more" if left_out > 0 else "")
        raise ModelError(f"{session.trt.__name__} {session.trt.__version__} cannot parse {source}: {shown}")
    return network


def parser_answer(load: Callable[[], Bindings], onnx_model: Path) -> ParserAnswer:
    """Parse a model without building it.

    Args:
        load: imports the library.
        onnx_model: valid ONNX; TensorRT-RTX 1.7's parser was seen to end the process on a node with a wrong number of
            inputs.

    Raises:
        ModelError: the file is not an ONNX model.
    """
    try:
        session = Session(load())
    except RuntimeUnavailable as fault:
        return ParserAnswer(why_not=str(fault))
    _, refusals = _parsed(session, read_model(onnx_model), onnx_model)
    return ParserAnswer(version=session.trt.__version__, refusals=refusals)


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data. Raises ModelError."""
    try:
        return onnx.load(str(path))
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; run `dvc repro export`") from None
    except (DecodeError, onnx.checker.ValidationError) as fault:
        raise ModelError(
            f"{path} is not an ONNX model ({' '.join(str(fault).split())}); run `dvc repro export`"
        ) from None


def node_name(node: onnx.NodeProto) -> str:
    """The name that the parser gives to the layers of a node: its own, or one made of its first output."""
    return node.name or f"node_of_{node.output[0]}"


def _parsed(
    session: Session, model: onnx.ModelProto, source: Path
) -> tuple[tensorrt.INetworkDefinition, tuple[Refusal, ...]]:
    flags = session.trt.NetworkDefinitionCreationFlag
    explicit_batch = 1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0
    network = session.builder.create_network(explicit_batch)
    # tensorrt-stubs have neither ParserError nor a result type for parse
    parser: Any = session.trt.OnnxParser(network, session.logger)
    accepted = parser.parse(stored.serialized(model), str(source))  # a pass may have left large weights in a file
    refusals = tuple(_refusal(parser.get_error(index), model) for index in range(parser.num_errors))
    return network, refusals if refusals or accepted else (Refusal(session.log.reason()),)


def _refusal(error: Any, model: onnx.ModelProto) -> Refusal:
    """`error` is a trt.ParserError of any version; 8.6 gives the node's index alone."""
    index, nodes = int(error.node()), model.graph.node
    node: Optional[onnx.NodeProto] = nodes[index] if 0 <= index < len(nodes) else None
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    if node is not None:
        name, operator = name or node_name(node), operator or node.op_type
    place = index if node is not None else None
    return Refusal(" ".join(str(error.desc()).split()), name, operator, place)
