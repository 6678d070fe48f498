"""What the measurement scripts share: steps that fail alone, results written after each, engines built and sealed as
the stages do it.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from enginewright import manifest
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Precision, PrecisionMode
from enginewright.interface import Axes, Interface, up_to
from enginewright.manifest import Usage
from enginewright.runtimes.base import BuildJob
from enginewright.runtimes.tensorrt import RUNTIME

OUT = Path(os.environ.get("OUT", "measured"))
# cuBLAS and cuDNN are not on the measuring machine; TensorRT's own kernels are what the engines of these networks use
# anyway.
TACTICS = ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]


class Report:
    """Results of named steps, kept as one JSON file that is whole after every step."""

    def __init__(self, name: str, budget_seconds: float) -> None:
        self.path, self.budget, self.started = OUT / f"{name}.json", budget_seconds, time.monotonic()
        self.results: dict[str, Any] = {}
        OUT.mkdir(parents=True, exist_ok=True)

    def step(self, name: str, body: Callable[[], Any], needs_seconds: float = 0.0) -> Any:
        """Run `body`; a failure is printed and recorded and does not end the rest. Skipped if less than `needs_seconds`
        of the budget is left.
        """
        left = self.budget - (time.monotonic() - self.started)
        if left < needs_seconds:
            self.results[name] = {"skipped": f"{left:.0f} s left, {needs_seconds:.0f} s needed"}
            print(f"SKIP {name}: {self.results[name]['skipped']}", flush=True)
            return None
        begun, value = time.monotonic(), None
        try:
            value = body()
            self.results[name] = {"seconds": round(time.monotonic() - begun, 2), "result": value}
            print(f"ok   {name} {time.monotonic() - begun:.1f}s {_short(value)}", flush=True)
        except Exception as fault:  # noqa: BLE001 - recorded and shown; the next measurement is independent
            self.results[name] = {
                "seconds": round(time.monotonic() - begun, 2),
                "failed": f"{type(fault).__name__}: {fault}",
            }
            print(f"FAIL {name} {type(fault).__name__}: {str(fault)[:400]}", flush=True)
            traceback.print_exc(limit=-4, file=sys.stdout)
        self.path.write_text(json.dumps(self.results, indent=1, sort_keys=False, default=_plain) + "\n")
        return value

    def failed(self) -> list[str]:
        """Names of the steps that failed."""
        return [name for name, result in self.results.items() if "failed" in result]


def _short(value: Any) -> str:
    text = json.dumps(value, default=_plain)
    return text if len(text) < 300 else text[:300] + "..."


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    import tensorrt as trt

    return {
        **RUNTIME.fingerprint().to_dict(),
        "tensorrt": trt.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "kernel": platform.release(),
    }


@dataclass(frozen=True)
class Chosen:
    """What an engine is built with."""

    build: Build
    axes: Axes


def settings(batch_max: int, axes: Optional[Axes] = None, **changed: Any) -> Chosen:
    """Settings of a measurement; without `axes` the batch that is measured is OPT and MAX."""
    values: dict[str, Any] = {
        "tactic_sources": TACTICS,
        "precision_mode": PrecisionMode.implicit,
    }
    return Chosen(Build(**{**values, **changed}), axes or up_to(batch_max))


def build(
    onnx_model: Path,
    precision: Precision,
    folder: Path,
    chosen: Chosen,
    recipe: Optional[QuantizationRecipe] = None,
    floats: Collection[str] = (),
) -> tuple[Path, dict[str, Any]]:
    """Build and seal an engine; returns its path and what the build says of itself."""
    begun = time.monotonic()
    built = RUNTIME.build(onnx_model, BuildJob(precision, chosen.build, recipe, tuple(floats), chosen.axes))
    seconds = time.monotonic() - begun
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUNTIME.engine_file
    for name, content in built.files.items():
        (folder / name).write_bytes(content)
    path.write_bytes(built.engine_bytes)
    usage = Usage(Interface.from_file(onnx_model).with_batch())
    manifest.seal(path, "measure", [onnx_model], RUNTIME.fingerprint(), dict(built.settings), usage=usage)
    said = {
        "build_seconds": round(seconds, 2),
        "engine_mib": round(len(built.engine_bytes) / 2**20, 2),
        "layers": dict(built.layers),
        "quantized": built.quantized,
        "quantizable": built.quantizable,
        "warnings": len(built.warnings),
        "first_warnings": [text[:160] for text in list(built.warnings)[:3]],
    }
    return path, said


def take_timings(work: Path) -> bool:
    """Start from the timing caches that an earlier session on such a GPU brought back into .gpu/timing, if it did; else
    from none.
    """
    shutil.rmtree(work, ignore_errors=True)
    kept = Path(".gpu/timing")
    if kept.is_dir():
        shutil.copytree(kept, work)
    return kept.is_dir()


def give_timings(work: Path) -> None:
    """Into $OUT/timing, for the next session."""
    shutil.copytree(work, OUT / "timing", dirs_exist_ok=True)


def host_rss_mib() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 2)


def sqnr_db(reference: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Signal to quantization noise ratio in dB: 10 log10(sum ref^2 / sum (ref - other)^2)."""
    noise = float(np.sum((reference.astype(np.float64) - other.astype(np.float64)) ** 2))
    return round(10 * float(np.log10(float(np.sum(reference.astype(np.float64) ** 2)) / max(noise, 1e-300))), 2)
