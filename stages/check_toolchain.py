"""check_toolchain: whether toolchain.yaml and params.yaml are of the library that runs, before anything is made.

It runs in each `dvc repro` and needs the standard library and PyYAML alone. Its output is always the same, so that
what depends on it is as stale as before.
"""

import sys
from pathlib import Path

from enginewright import selection, toolchain
from enginewright.errors import EnginewrightError
from enginewright.toolchain import pipeline

CHECKED = Path("artifacts/toolchain/checked.txt")


def check_toolchain() -> int:
    """Return the exit code: 0, or 2 with one sentence."""
    try:
        params = pipeline.load(Path("params.yaml"))
        selection.require_same_version(params.get(selection.VERSION))
        selection.require_same_experiment(params)
        toolchain.check(Path())
    except EnginewrightError as fault:
        print(f"error: check_toolchain: {fault}", file=sys.stderr)
        return 2
    CHECKED.parent.mkdir(parents=True, exist_ok=True)
    CHECKED.write_text("toolchain.yaml is of the library that runs\n")
    return 0


if __name__ == "__main__":
    sys.exit(check_toolchain())
