"""What became of a model on its way to ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from enginewright.importers.compare import Comparison


def metrics(exported: bytes, comparison: Comparison) -> dict[str, Any]:
    """Metrics of an export: differences by batch, and the ONNX's opset, nodes, parameters, MiB and producer."""
    model = onnx.load_model_from_string(exported)
    return {
        "max_relative_difference": {
            f"batch_{batch}": difference for batch, difference in comparison.differences.items()
        },
        **{
            f"{name}_from_float64": {
                f"batch_{batch}": getattr(judged, name) for batch, judged in comparison.float64.items()
            }
            for name in ("pytorch", "onnxruntime")
            if comparison.float64
        },
        "opset_version": next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        "nodes": len(model.graph.node),
        "parameters": sum(int(np.prod(weight.dims)) for weight in model.graph.initializer),
        "size_mib": len(exported) / 2**20,
        "producer": f"{model.producer_name} {model.producer_version}",
    }
