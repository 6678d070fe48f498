"""Where a file comes from, so that what to do about a finding can be done: who has no `forward` must not be sent
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

import onnx

PYTORCH = "pytorch"  # what torch.onnx writes as producer_name
PAIR = ("QuantizeLinear", "DequantizeLinear")
QUANTIZERS = (*PAIR, "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


class Kind(Enum):
    """`export`: the stage of this pipeline wrote it; `pytorch`: torch.onnx did, elsewhere; `other`: any other
    program.
    """

    export = "export"
    pytorch = "pytorch"
    other = "other"


@dataclass(frozen=True)
class Origin:
    """The kind of a file, the program that wrote it, and whether it is quantized."""

    kind: Kind
    producer: str = ""
    quantized: bool = False

    @property
    def again(self) -> str:
        """How such a file is made again."""
        if self.kind is Kind.export:
            return "export it again (`dvc repro -f export`)"
        if self.kind is Kind.pytorch:
            return "export it again with torch.onnx.export"
        return f"make it again with the program that wrote it{f' ({self.producer})' if self.producer else ''}"

    def says(self, in_pytorch: str, elsewhere: str) -> str:
        """A remedy in PyTorch where there is a PyTorch model, the other one where there is only the file."""
        return elsewhere if self.kind is Kind.other else in_pytorch


def origin_of(model: onnx.ModelProto, configured_opset: Optional[int]) -> Origin:
    """The origin of a file; the stage check_onnx knows export.opset_version, and checks what the stage export wrote."""
    name = str(model.producer_name)
    kind = Kind.export if configured_opset is not None else Kind.pytorch if name == PYTORCH else Kind.other
    quantized = any(node.op_type in QUANTIZERS for node in model.graph.node)
    return Origin(kind, f"{name} {model.producer_version}".strip(), quantized)
