"""What a finished engine says of its layers: by TensorRT's inspector, or by the log of its build."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Optional, cast

from enginewright.errors import EnginewrightError
from enginewright.runtimes.tensorrt.layers import Layer, completed, from_inspector, from_log
from enginewright.runtimes.tensorrt.session import Session

if TYPE_CHECKING:
    import tensorrt


def describe(session: Session, engine_bytes: bytes, asks_inspector: bool) -> tuple[list[Layer], dict[str, bytes]]:
    """The engine's layers from the inspector, else from the log, and the file to keep."""
    text = _inspect(session, engine_bytes) if asks_inspector else ""
    if text:
        kept = completed(text, session.log.layer_text)
        found = from_inspector(json.dumps(kept))
    else:
        found = from_log(session.log.layer_text)
        kept = {"Layers": [layer.to_dict() for layer in found]}
    return found, {"layers.json": (json.dumps(kept, indent=1) + "\n").encode()}


def _inspect(session: Session, engine_bytes: bytes) -> str:
    """The inspector's JSON. Raises EnginewrightError if the engine that was just built does not load."""
    runtime = session.trt.Runtime(session.logger)
    engine = cast("Optional[tensorrt.ICudaEngine]", runtime.deserialize_cuda_engine(engine_bytes))
    if engine is None:
        raise EnginewrightError(f"TensorRT cannot load the engine that it has just built: {session.log.reason()}")
    return engine.create_engine_inspector().get_engine_information(session.trt.LayerInformationFormat.JSON)
