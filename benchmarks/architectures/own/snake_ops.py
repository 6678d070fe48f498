"""The kernel of Snake for ONNX Runtime, in Python: calibration and validation run it."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnxruntime_extensions import PyCustomOpDef, onnx_op


@onnx_op(op_type="Snake", inputs=[PyCustomOpDef.dt_float], outputs=[PyCustomOpDef.dt_float])
def snake(x: Any) -> Any:
    """The value, float32 as x."""
    return x + np.sin(x) ** 2
