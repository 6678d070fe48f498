"""Asks the ONNX parsers of TensorRT and TensorRT-RTX, where installed, whether they take a model; nothing is built.

Names that differ by version: `EXPLICIT_BATCH` is needed up to TensorRT 8.6, ignored in 10 and gone in 11 and in
TensorRT-RTX; `ParserError.node_name` came with 10.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import onnx

from enginewright.runtimes.onnxruntime.session import Purpose, one_line, open_session, refusals

PARSERS = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class ParserError:
    """What a parser refuses: a node by name (its place in the graph, `#3`, if it has none), its operator, and the
    parser's words.
    """

    node: Optional[str]
    operator: Optional[str]
    message: str


@dataclass(frozen=True)
class ParserAnswer:
    """What one parser says about a model."""

    why_not: Optional[str] = None  # it could not be asked, e.g. "not installed"; then version and errors say nothing
    version: Optional[str] = None
    errors: tuple[ParserError, ...] = ()

    @property
    def verdict(self) -> str:
        """`accepted`, `refused`, or why it could not be asked."""
        return self.why_not or ("refused" if self.errors else "accepted")


def parser_answers(onnx_model: Path) -> dict[str, ParserAnswer]:
    """Parse a model with every parser that this machine has: package name -> answer. Never raises on account of the
    model.
    """
    return {package: _answer(package, onnx_model) for package in PARSERS}


def session_refusal(onnx_model: Path) -> Optional[str]:
    """Why ONNX Runtime, the FP32 reference of every comparison, opens no session of a model; None if it does, or is not
    installed.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    try:
        open_session(str(onnx_model), Purpose.literal)
    except refusals() as fault:
        words = one_line(fault).replace(str(onnx_model), onnx_model.name)
        return f"ONNX Runtime {onnxruntime.__version__} cannot run the model: {words}"
    return None


def _answer(package: str, onnx_model: Path) -> ParserAnswer:
    try:
        trt = importlib.import_module(package)
    except ModuleNotFoundError as fault:
        return ParserAnswer(
            why_not="not installed" if fault.name == package else f"installed, but its import fails: {fault}"
        )
    except (ImportError, OSError) as fault:  # a library of the driver or of the board is missing
        return ParserAnswer(why_not=f"installed, but its import fails: {fault}")
    if (
        getattr(trt, "__file__", None) is None
    ):  # a folder that an uninstalled package left behind imports as an empty namespace
        return ParserAnswer(why_not="not installed")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)  # errors come back below, with their node
    try:
        builder = trt.Builder(logger)
    except (
        TypeError
    ):  # pybind11's "factory function returned nullptr": TensorRT makes no builder without a GPU, TensorRT-RTX does
        return ParserAnswer(why_not="installed, but needs a GPU that it can use", version=trt.__version__)
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0)
    parser = trt.OnnxParser(network, logger)
    accepted = parser.parse_from_file(str(onnx_model))
    errors = tuple(_error(parser.get_error(index), onnx_model) for index in range(parser.num_errors))
    if not accepted and not errors:
        errors = (ParserError(None, None, "it gives no reason"),)
    return ParserAnswer(version=trt.__version__, errors=errors)


def _error(error: Any, onnx_model: Path) -> ParserError:
    """`error` is a trt.ParserError of any version."""
    message = f"{error.desc()} ({str(error.code()).rsplit('.', 1)[-1]} in {error.func()})"
    if hasattr(error, "node_name"):
        name, operator = error.node_name() or None, error.node_operator() or None
    else:
        nodes = onnx.load_model(onnx_model, load_external_data=False).graph.node
        known = 0 <= error.node() < len(nodes)
        name, operator = (nodes[error.node()].name or None, nodes[error.node()].op_type) if known else (None, None)
    if name is None and operator is not None:
        name = f"#{error.node()}"
    return ParserError(name, operator, message)
