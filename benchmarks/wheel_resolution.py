"""Whether what a machine installs exists as wheels: for targets (aarch64) and for hosts (x86-64), by Python version.

    python -m benchmarks.wheel_resolution

Resolves without installing or downloading a wheel. uv does it (`pip install uv`), because pip evaluates environment
markers, such as `python_version < "3.11"`, for the interpreter that it runs in, whatever `--python-version` says.
Nothing may be built from source but what BUILT_FROM_SOURCE names. Indexes are those that uv is configured for; a
package that such an index lacks shows as a fault of that row.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.project_copy import ROOT, write_result

BUILT_FROM_SOURCE = {
    "antlr4-python3-runtime": "pure Python, of Hydra's grammar: its release 4.9 has no wheel",
    "pycuda": "compiled against the CUDA of the machine: it publishes no wheel",
}
JETPACKS = {
    "3.9": "2_31",
    "3.10": "2_35",
    "3.12": "2_39",
}  # glibc of Ubuntu 20.04, 22.04 (JetPack 6), 24.04 (JetPack 7)
TARGET_EXTRAS: tuple[tuple[str, ...], ...] = (
    (),
    ("onnxruntime",),
    ("pipeline",),
    ("pipeline", "onnxruntime"),
    ("pipeline", "tensorrt"),
)
HOST_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HOST_EXTRAS: tuple[tuple[str, ...], ...] = (("host",), ("host", "dev", "loadgen"))
HOST_GLIBC = "2_28"


@dataclass(frozen=True)
class Row:
    """One resolution."""

    extras: tuple[str, ...]
    python: str
    platform: str  # as uv names it
    packages: tuple[str, ...]  # name==version
    fault: str  # why it does not resolve, or ""

    @property
    def source_builds(self) -> list[str]:
        """Those of the packages that are built on the machine."""
        return [package for package in self.packages if package.partition("==")[0] in BUILT_FROM_SOURCE]


def resolve(uv: str, extras: tuple[str, ...], python: str, platform: str) -> Row:
    """Resolve pyproject.toml with extras for a machine that is not this one."""
    only = ["--only-binary", ":all:", *(word for name in BUILT_FROM_SOURCE for word in ("--no-binary", name))]
    chosen = [word for extra in extras for word in ("--extra", extra)]
    answer = subprocess.run(
        [uv, "pip", "compile", "pyproject.toml", *chosen, "--python-version", python, "--python-platform", platform]
        + [*only, "--no-header", "--no-annotate", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    fault = " ".join(re.sub(r"[^ -~]", " ", answer.stderr).split()) if answer.returncode else ""
    return Row(extras, python, platform, tuple(answer.stdout.split()) if not fault else (), fault)


def rows(uv: str) -> Iterator[Row]:
    """Every machine that we say works."""
    for extras in TARGET_EXTRAS:
        for python, glibc in JETPACKS.items():
            yield resolve(uv, extras, python, f"aarch64-manylinux_{glibc}")
    for extras in HOST_EXTRAS:
        for python in HOST_PYTHONS:
            yield resolve(uv, extras, python, f"x86_64-manylinux_{HOST_GLIBC}")


def main() -> None:
    """Print a table, write the result, and exit with 1 if a row does not resolve."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin") or shutil.which("uv")
    if uv is None:
        sys.exit("error: uv is not installed; pip install uv")
    resolved = []
    print(f"{'installs':36}{'Python':8}{'platform':28}{'wheels':8}built from source")
    for row in rows(uv):
        resolved.append(row)
        built = ", ".join(row.source_builds) or "nothing"
        answer = f"{len(row.packages) - len(row.source_builds):<8}{built}" if not row.fault else f"FAILED: {row.fault}"
        print(f"{installed(row.extras):36}{row.python:8}{row.platform:28}{answer}", flush=True)
    write_result(
        "wheel_resolution",
        {
            "built_from_source": BUILT_FROM_SOURCE,
            "rows": [
                {
                    "installs": installed(row.extras),
                    "python": row.python,
                    "platform": row.platform,
                    **({"fault": row.fault} if row.fault else {"packages": list(row.packages)}),
                }
                for row in resolved
            ],
        },
    )
    sys.exit(any(row.fault for row in resolved))


def installed(extras: tuple[str, ...]) -> str:
    """What a user writes behind `pip install`."""
    return f"enginewright[{','.join(extras)}]" if extras else "enginewright"


if __name__ == "__main__":
    main()
