"""Make tensorrt-stubs readable for mypy: `python tests/runtimes/tensorrt/typings.py .typings`, then mypy with
`mypy_path = ".typings"`.

The stubs of 10.13.0.35.1, made by a generator, use the keyword `in` as a parameter's name and put a parameter without a
default behind one with a default, neither of which a type checker can parse. They leave `__version__` out of `__all__`,
and their folder `tensorrt` has no py.typed. This writes a mended copy.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import files
from pathlib import Path


def write(folder: Path) -> int:
    """Write the mended stubs into `folder`; returns how many places were mended."""
    mended = 0
    for entry in files("tensorrt-stubs") or []:
        if entry.suffix == ".pyi":
            text, renamed = re.subn(r"\bin: list\[", "in_: list[", entry.read_text())
            text, defaulted = re.subn(
                r"power: Weights = None, channel_axis: int\)", "power: Weights = None, channel_axis: int = ...)", text
            )
            text, exported = re.subn(r"__all__ = \['APILanguage'", "__all__ = ['__version__', 'APILanguage'", text)
            mended += exported + renamed + defaulted
            target = folder / str(entry)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    return mended


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]))} places mended")
