"""The stages' scripts. DVC starts them with the first `python` of the PATH, which may be another one than its own.

That one may lack every package of ours, so that nothing here needs more than Python's library.
"""

import os
import sys
from importlib.util import find_spec
from typing import Optional

NEEDED = ("yaml", "omegaconf", "numpy")


def activation(parent: int, root: str = "") -> Optional[str]:
    """Return the script that activates the environment of the process `parent`, which is dvc, or that of the project
    in `root`, as far as the system tells.
    """
    folders = [os.path.join(root, ".venv", "bin")]
    try:
        with open(f"/proc/{parent}/cmdline") as stream:
            folders.insert(0, os.path.dirname(stream.read().split("\0")[0]))
    except OSError:
        pass
    scripts = [os.path.join(folder, "activate") for folder in folders]
    return next((script for script in scripts if os.path.isfile(script)), None)


def _require_packages() -> None:
    """End the process with one sentence if this Python cannot run a stage."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if not missing:
        return
    script = activation(os.getppid())
    activate = f"run `source {script}`" if script else "activate the environment that dvc is installed in"
    print(
        f"error: stages run with the first python of the PATH, and {sys.executable} has no {', '.join(missing)};"
        f" {activate} and start again",
        file=sys.stderr,
    )
    sys.exit(2)


_require_packages()
