"""own.ops::Squash, y = x / (1 + |x|), as a Python twin."""

from typing import Any

import numpy as np
from onnxruntime_extensions import PyCustomOpDef, onnx_op


@onnx_op(  # type: ignore[untyped-decorator]
    op_type="own.ops::Squash", inputs=[PyCustomOpDef.dt_float], outputs=[PyCustomOpDef.dt_float]
)
def squash(x: Any) -> Any:
    """float32 of any shape."""
    return (x / (1 + np.abs(x))).astype(np.float32)
