"""What a finished INT8 engine really is.

Which layers run in INT8, by the engine's own description, and whether that is what was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from enginewright.config import PrecisionMode
from enginewright.graph.reasons import explained
from enginewright.runtimes.int8 import FLOAT, INT8, UNKNOWN, Int8Share, findings, int8_share
from enginewright.runtimes.tensorrt import layers as engine_layers
from enginewright.runtimes.tensorrt.build_plan import BuildPlan

SILENT = "the description of the engine, which TensorRT did not give"


@dataclass(frozen=True)
class Verdict:
    """Of the layers of one INT8 engine."""

    share: Int8Share
    ran: Mapping[str, str]  # layer -> "int8", "float" or "unknown"
    warnings: Sequence[str]  # a layer each
    findings: Sequence[str]


def judge(plan: BuildPlan, found: Sequence[engine_layers.Layer], keep_fp16: Collection[str]) -> Verdict:
    """Count, and say what is not as it was asked for.

    `keep_fp16` are nodes by name, or by their first output where they have none.
    """
    keep_fp16 = [name if name in plan.quantizable else f"node_of_{name}" for name in keep_fp16]
    precisions = engine_layers.precisions(plan.quantizable, found)
    ran = {name: _ran(name, plan, precisions, found) for name in plan.quantizable}
    share = int8_share(ran, plan.multiplications, keep_fp16)
    fused = [layer.name for layer in found if engine_layers.is_opaque(layer)] if found else [SILENT]
    said = [f"{name} runs in INT8, and was to stay in FP16" for name in keep_fp16 if ran.get(name) == INT8]
    for name in plan.quantizable:
        if name not in keep_fp16 and ran[name] == FLOAT:
            nowhere = "" if name in precisions or not found else " (no layer of the engine bears its name)"
            said.append(explained(f"{name} runs in float, not in INT8{nowhere}", name, plan.left_in_float))
    return Verdict(share, ran, said, findings(share, remedy(plan), fused))


def _ran(
    name: str, plan: BuildPlan, precisions: Mapping[str, Optional[str]], found: Sequence[engine_layers.Layer]
) -> str:
    if not found:
        return UNKNOWN
    if name not in precisions:
        return FLOAT
    precision = precisions[name]
    if precision is not None:
        return INT8 if precision == "INT8" else FLOAT
    # Inside a fused node. The compiler that makes these reads Q/DQ nodes and no calibrator: implicit scales do not
    # reach it (decision 0020).
    return UNKNOWN if plan.mode is PrecisionMode.explicit and name in plan.quantized_inputs else FLOAT


def remedy(plan: BuildPlan) -> str:
    """What to try where INT8 does not come about."""
    if plan.mode is PrecisionMode.implicit:
        return "set build.precision_mode=explicit, which places INT8 by Q/DQ nodes, or use the FP16 engine"
    reasons = "; ".join(dict.fromkeys(plan.left_in_float.values()))
    why = f"layers were left in float ({reasons}); " if reasons else ""
    return f"{why}set build.precision_mode=implicit where the runtime has it, or use the FP16 engine"
