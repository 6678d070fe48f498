"""Gives the CPU the name in OTHER_CPU, so that one machine can stand for two targets: only what reads /proc/cpuinfo
sees it.
"""

import os
import re
from pathlib import Path
from typing import Any

_read_text = Path.read_text


def _renamed(self: Path, *arguments: Any, **keywords: Any) -> str:
    text = _read_text(self, *arguments, **keywords)
    other = os.environ.get("OTHER_CPU")
    if other and str(self) == "/proc/cpuinfo":
        return re.sub(r"^model name\s*:.*$", f"model name\t: {other}", text, flags=re.MULTILINE)
    return text


Path.read_text = _renamed  # type: ignore[method-assign]
