"""The identity of the machine, as far as it decides whether an engine built elsewhere is valid and its figures
comparable here.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from enginewright.errors import RuntimeUnavailable, StaleArtifact

CPUINFO = Path("/proc/cpuinfo")
WHY_NOT = "why_not"  # in place of everything else in target.json: why this machine is no target
L4T_RELEASE = Path("/etc/nv_tegra_release")

# What changes the kernels that ONNX Runtime and PyTorch pick; the other flags of a CPU change nothing here.
DECIDING_INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)


@dataclass(frozen=True)
class TargetFingerprint:
    """What makes an engine built elsewhere invalid here, and nothing else: no clocks, no dates, no serial numbers."""

    device: str  # as the driver names it, or the CPU's model name
    compute_capability: Optional[str]  # "9.0"; None on a CPU
    runtime: str  # registry key
    runtime_version: str
    cuda: Optional[str] = None  # CUDA version that the driver supports, "13.0"
    driver: Optional[str] = None
    l4t: Optional[str] = None  # Jetson Linux release, "36.4.0"; None elsewhere
    instruction_sets: tuple[str, ...] = ()  # of the CPU, if the runtime computes on it

    def differences(self, other: TargetFingerprint) -> list[str]:
        """One phrase a differing field, with both values; empty if an engine can move between the two."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name} was {mine[name]!r} and is {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]

    def identity(self) -> dict[str, str]:
        """The known fields as text, to stand beside every metric."""
        fields = {**self.to_dict(), "instruction_sets": " ".join(self.instruction_sets)}
        return {name: str(value) for name, value in fields.items() if value}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, in the order of the fields."""
        return {**dataclasses.asdict(self), "instruction_sets": list(self.instruction_sets)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TargetFingerprint:
        """Inverse of `to_dict`. Raises TypeError if a field is unknown or missing."""
        return cls(**{**values, "instruction_sets": tuple(values.get("instruction_sets", ()))})


def read_target(path: Path) -> TargetFingerprint:
    """The target that probe_target found.

    Raises:
        RuntimeUnavailable: it found no runtime.
        StaleArtifact: it did not run.
    """
    try:
        content = json.loads(path.read_text())
        if WHY_NOT in content:
            raise RuntimeUnavailable(f"{content[WHY_NOT]}; then run `dvc repro`, which probes again")
        return TargetFingerprint.from_dict(content)
    except (OSError, ValueError, TypeError):
        raise StaleArtifact(f"{path} is missing or no target description; run `dvc repro probe_target`") from None


def cpu_name() -> str:
    """The CPU's model name as the kernel prints it, or the architecture where it prints none."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def instruction_sets() -> tuple[str, ...]:
    """Those of DECIDING_INSTRUCTION_SETS that every core of this CPU has, in that order."""
    lines = re.findall(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    common = set.intersection(*(set(line.split()) for line in lines)) if lines else set()
    return tuple(name for name in DECIDING_INSTRUCTION_SETS if name in common)


def has_int8_dot_product(available: tuple[str, ...]) -> bool:
    """Whether 8-bit products are summed in 32 bits, so that INT8 neither saturates nor needs 16-bit detours."""
    return bool({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"} & set(available))


def l4t_release() -> Optional[str]:
    """Jetson Linux release such as "36.4.0", or None off Jetson."""
    try:
        found = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", L4T_RELEASE.read_text())
    except OSError:
        return None
    return f"{found.group(1)}.{found.group(2)}" if found else None


def _cpuinfo() -> str:
    try:
        return CPUINFO.read_text()
    except OSError:
        return ""
