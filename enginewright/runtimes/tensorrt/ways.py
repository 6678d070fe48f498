"""The ways to an INT8 engine that `build.precision_mode: auto` tries, one after the other, until the library builds
one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from enginewright.config import PrecisionMode
from enginewright.runtimes.tensorrt.mode import Features


@dataclass(frozen=True)
class Way:
    """A precision mode, and the nodes that it keeps in FP16 beside those that the caller does."""

    mode: PrecisionMode
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.mode.name} way" + (" with ConvTranspose in FP16" if self.kept else "")


def ways(found: Features, first: PrecisionMode, has_implicit: bool, keep_fp16: Collection[str]) -> list[Way]:
    """What to try, the recommended mode first.

    TensorRT 8.6.0 on an H200 ends a U-Net's INT8 build in an assertion in both modes. It builds either way with
    ConvTranspose in FP16, and the implicit engine is the faster (docs/decisions/0020-precision-mode.md).

    Args:
        found: of the float model.
        first: the mode that the graph speaks for.
        has_implicit: whether the library has that mode at all.
        keep_fp16: nodes that stay in FP16 anyway.
    """
    tried = [Way(first)]
    if first is PrecisionMode.implicit:
        tried.append(Way(PrecisionMode.explicit))
    kept = tuple(name for name in found.transposed if name not in keep_fp16)
    if not kept:
        return tried
    modes = [PrecisionMode.explicit]
    if has_implicit:
        # Where TensorRT compiles a part of the network as one node, implicit INT8 does not reach it.
        modes.insert(len(modes) if found.attention or found.norms else 0, PrecisionMode.implicit)
    return tried + [Way(mode, kept) for mode in modes]
