"""ONNX to engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from enginewright.config.choices import InputType, Precision, PrecisionMode
from enginewright.config.setting import REQUIRED, setting


@dataclass
class Axis:
    """The sizes of a dynamic axis that engines are built for."""

    min: int = setting(REQUIRED, minimum=1, help="smallest size that the engine takes")
    opt: int = setting(REQUIRED, minimum=1, help="size that tactics are chosen for")
    max: int = setting(REQUIRED, minimum=1, help="largest size that the engine takes")


@dataclass
class Build:
    """ONNX to engine."""

    precisions: list[Precision] = setting(
        list(Precision), help="engines to build; without fp32, ONNX Runtime's FP32 is what accuracy is judged against"
    )
    precision_mode: PrecisionMode = setting(
        PrecisionMode.auto,
        help="implicit: precisions by builder flags and a calibrator; explicit: in the ONNX itself",
    )
    input_type: InputType = setting(
        InputType.float32,
        help="native: the type that the engine computes in, which is a half or a quarter of the bytes to copy",
    )
    optimization_level: int = setting(3, minimum=0, maximum=5, help="TensorRT's builder_optimization_level")
    workspace_mib: int = setting(4096, minimum=1, help="memory pool WORKSPACE, in MiB")
    tf32: bool = setting(False, help="let FP32 engines compute in TF32")
    tactic_sources: Optional[list[str]] = setting(
        None,
        help="names of trt.TacticSource; null keeps TensorRT's default."
        " Without cuBLAS and cuDNN: [EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS]",
    )
    timing_cache: str = setting(
        ".cache/timing", help="folder with a file for each GPU and TensorRT version; never a DVC output"
    )
    compute_capabilities: list[str] = setting(
        ["8.6", "12.0"], like=("8.6", r"\d+\.\d"), help="TensorRT-RTX builds for these, without a GPU too"
    )
