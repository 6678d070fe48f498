"""The rival: ResNet-50 by torch.compile in half precision on the same GPU. Run: torch_baseline.py [BATCH ...], with a
Python that has PyTorch and CUDA.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torchvision


def images_per_second(model: Any, batch: int, size: int, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Device tensors, back to back, timed from the first launch to the last completion after a warm-up."""
    layout = (
        torch.channels_last
        if next(model.parameters()).is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
    x = torch.randn(batch, 3, size, size, device="cuda", dtype=dtype).contiguous(memory_format=layout)
    with torch.inference_mode():
        for _ in range(10):
            model(x)
        torch.cuda.synchronize()
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for _ in range(10):
                model(x)
            done += 10
        torch.cuda.synchronize()
    return batch * done / (time.perf_counter() - began)


def main(batches: list[int]) -> int:
    """FP32 eager, FP16 eager, and FP16 compiled in several modes; channels_last, which is the faster layout there, and
    once as a model comes (NCHW).
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    out = Path(os.environ.get("OUT", "measured")) / "torch_baseline.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    said: dict[str, Any] = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "device": torch.cuda.get_device_name(),
    }
    base = torchvision.models.resnet50().eval().cuda().to(memory_format=torch.channels_last)
    for batch in batches:
        for name, half, mode in (
            ("fp16_compile_reduce_overhead", True, "reduce-overhead"),
            ("fp16_compile", True, "default"),
            ("fp16_compile_nchw", True, "default"),
            ("fp16_eager", True, None),
            ("fp32_eager", False, None),
            ("fp16_compile_max_autotune", True, "max-autotune-no-cudagraphs"),
        ):
            if mode == "max-autotune-no-cudagraphs" and batch != batches[0]:
                continue  # its tuning takes a minute for each shape
            torch.compiler.reset()
            dtype = torch.float16 if half else torch.float32
            began = time.perf_counter()
            try:
                layout = torch.contiguous_format if name.endswith("nchw") else torch.channels_last
                model: Any = (base.half() if half else base.float()).to(memory_format=layout)
                model = torch.compile(model, mode=mode, dynamic=False) if mode else model
                rate = images_per_second(model, batch, 224, dtype)
                said[f"resnet50_b{batch}_{name}"] = {
                    "images_per_s": round(rate, 1),
                    "seconds_in_all": round(time.perf_counter() - began, 1),
                }
            except Exception as fault:  # noqa: BLE001 - recorded; the other modes are independent
                said[f"resnet50_b{batch}_{name}"] = f"{type(fault).__name__}: {str(fault)[:200]}"
            print(f"b{batch} {name}: {said[f'resnet50_b{batch}_{name}']}", flush=True)
            out.write_text(json.dumps(said, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main([int(value) for value in sys.argv[1:]] or [128, 256, 8, 1]))
