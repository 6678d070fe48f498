"""JetPack's bindings lie in the dist-packages of the system's Python: which environments see them, and what the others
say. The system is a folder with the standard library of this interpreter and a dist-packages of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.project import ROOT

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
BINDINGS = """
__version__ = "10.3.0"
class Builder: ...
class IInt8EntropyCalibrator2: ...
"""
ASK = """
from enginewright.runtimes.base import Capability
from enginewright.runtimes.tensorrt import RUNTIME
print(RUNTIME.why_not(Capability.build))
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix such as /usr, whose Python has dist-packages with a fake tensorrt, as Debian's has."""
    prefix = tmp_path_factory.mktemp("system")
    library, ours = prefix / "lib" / PYTHON, Path(sys.base_prefix) / "lib" / PYTHON
    bindings = library / "dist-packages" / "tensorrt"
    bindings.mkdir(parents=True)
    (bindings / "__init__.py").write_text(BINDINGS)
    for entry in ours.iterdir():
        if not entry.name.endswith("-packages"):
            (library / entry.name).symlink_to(entry)
    (library / "site-packages").mkdir()
    (library / "site-packages" / "debian.pth").write_text(f"{bindings.parent}\n")  # what Debian's site.py adds
    (prefix / "bin").mkdir()
    (prefix / "bin" / PYTHON).symlink_to(Path(sys.base_prefix) / "bin" / PYTHON)
    return prefix


def ask(system: Path, folder: Path, *options: str) -> str:
    """Make an environment of the system's Python, and ask there whether TensorRT can build."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", *options, str(folder / "venv")], check=True)
    settings = folder / "venv" / "pyvenv.cfg"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith(("home", "executable"))]
    settings.write_text("\n".join([f"home = {system / 'bin'}", *lines]) + "\n")
    (folder / "packages").mkdir()
    installed = Path(np.__file__).parents[1]
    for package in installed.glob("numpy*"):  # the base of the wheel, and no tensorrt that may be installed here
        (folder / "packages" / package.name).symlink_to(package)
    answer = subprocess.run(
        [str(folder / "venv" / "bin" / "python"), "-c", ASK],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder / 'packages'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def test_an_environment_with_system_site_packages_has_the_bindings(system: Path, tmp_path: Path) -> None:
    said = ask(system, tmp_path, "--system-site-packages")
    assert "tensorrt" not in said.lower()  # what is missing, if anything, is a GPU


def test_another_environment_says_how_to_make_one_that_has_them(system: Path, tmp_path: Path) -> None:
    assert ask(system, tmp_path) == (
        f"the Python package tensorrt is not in this environment but in {system}/lib/{PYTHON}/dist-packages; make the"
        f" environment with `{PYTHON} -m venv --system-site-packages`"
    )
