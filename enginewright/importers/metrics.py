"""What became of a model on its way to ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import onnx

from enginewright.graph import stored
from enginewright.importers.compare import Comparison


def metrics(
    model: onnx.ModelProto, comparison: Comparison, licence: Optional[Mapping[str, str]] = None
) -> dict[str, Any]:
    """Metrics of an export: differences by case, such as batch_7 or height_320, and the ONNX's opset, nodes,
    parameters, MiB, producer and licence.
    """
    return {
        "max_relative_difference": {_key(case): difference for case, difference in comparison.differences.items()},
        **({"not_compared": comparison.not_run} if comparison.not_run else {}),
        **{
            f"{name}_from_float64": {_key(case): getattr(judged, name) for case, judged in comparison.float64.items()}
            for name in ("pytorch", "onnxruntime")
            if comparison.float64
        },
        "opset_version": next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        "nodes": len(model.graph.node),
        "parameters": sum(int(np.prod(weight.dims)) for weight in model.graph.initializer),
        "size_mib": stored.size(model) / 2**20,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        **(licence or {}),
    }


def _key(case: str) -> str:
    return case.replace(",", "").replace(" ", "_")
