"""Whether an ONNX model is sound and every runtime can take it.

`inspect` is the way in for the stage, `judge` for any other file. `reading.py` reads and walks the file, `structure.py`
looks at the file, its opset and its shapes, `importable.py` at what an import makes of it, `operators.py` at what each
node is, `weights.py` at the numbers, `report.py` holds the findings and the verdict.
"""

from __future__ import annotations

from enginewright.check_onnx.inspection import inspect, judge
from enginewright.check_onnx.report import Finding, Report, Severity

__all__ = ["Finding", "Report", "Severity", "inspect", "judge"]
