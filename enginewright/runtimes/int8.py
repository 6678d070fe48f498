"""What an INT8 build says of itself: how many layers really run in INT8, how many do not, and of how many the runtime
does not say.

A build in which INT8 was asked for and no layer has it is refused: it would pass every gate, as it answers like FP16.
Less than half, or layers that the runtime says nothing of, is a finding: a sentence that goes into the engine's
manifest and stands beside every verdict on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Optional

INT8, FLOAT, UNKNOWN = "int8", "float", "unknown"
KINDS = (INT8, FLOAT, UNKNOWN)
HALF = 0.5


@dataclass(frozen=True)
class Int8Share:
    """Of the Conv, ConvTranspose, Gemm and MatMul of a model that INT8 was asked for."""

    layers: Mapping[str, int]  # how many run in "int8", in "float", and "unknown"
    multiplications: Mapping[
        str, float
    ]  # the share of all multiplications for one image that these do; empty where shapes are unknown

    @property
    def asked(self) -> int:
        """For how many layers INT8 was asked."""
        return sum(self.layers.values())

    @property
    def none(self) -> bool:
        """Whether INT8 was asked for and nothing runs in it."""
        return self.asked > 0 and self.layers[INT8] == self.layers[UNKNOWN] == 0

    def to_dict(self) -> dict[str, Any]:
        """For the manifest and the metrics."""
        return {"layers": dict(self.layers), "multiplications": dict(self.multiplications)}

    def of(self, kind: str) -> str:
        """`12 of 74 layers (16 %, and 9.1 % of the multiplications)`."""
        count = self.layers[kind]
        work = f", and {self.multiplications[kind]:.1%} of the multiplications" if self.multiplications else ""
        return f"{count} of {self.asked} layers ({count / max(self.asked, 1):.0%}{work})"


def int8_share(
    ran: Mapping[str, str], multiplications: Mapping[str, Optional[int]], keep_fp16: Collection[str] = ()
) -> Int8Share:
    """Count what runs in what.

    Args:
        ran: layer -> "int8", "float" or "unknown".
        multiplications: layer -> how many it does; None where its shape is unknown.
        keep_fp16: layers that were to stay in float; they do not count.
    """
    asked = {name: kind for name, kind in ran.items() if name not in keep_fp16}
    layers = {kind: sum(found == kind for found in asked.values()) for kind in KINDS}
    work = {name: multiplications.get(name) for name in asked}
    if not asked or any(count is None for count in work.values()):
        return Int8Share(layers, {})
    sums = {kind: sum(work[name] or 0 for name, found in asked.items() if found == kind) for kind in KINDS}
    total = sum(sums.values())
    return Int8Share(layers, {kind: count / total for kind, count in sums.items()} if total else {})


def refusal(share: Int8Share, runtime: str, remedy: str) -> str:
    """The sentence of ModelError for a build with `share.none`."""
    return (
        f"INT8 was asked for and none of the {share.asked} layers runs in it: the engine that {runtime} made is a float"
        f" engine; {remedy}"
    )


def findings(share: Int8Share, remedy: str, fused: Collection[str] = ()) -> list[str]:
    """What whoever trusts the engine has to know; empty if at least half is known to run in INT8 and nothing is
    unknown.

    Args:
        share: of the layers that INT8 was asked for.
        remedy: what to try where it is less than half, in words.
        fused: names of the fused nodes that hold the unknown layers.
    """
    if not share.asked:
        return []
    found = []
    least = min(share.layers[INT8] / share.asked, share.multiplications.get(INT8, 1.0))
    if share.layers[UNKNOWN]:
        where = f" ({', '.join(sorted(fused)[:3])}{', ...' if len(fused) > 3 else ''})" if fused else ""
        found.append(
            f"it is unknown in which precision {share.of(UNKNOWN)} run: they lie inside a fused node{where}, of which"
            f" TensorRT does not say it; known to run in INT8: {share.of(INT8)}; compare the speed with FP16's"
        )
    elif least < HALF:
        found.append(f"less than half runs in INT8: {share.of(INT8)}; {remedy}")
    return found
