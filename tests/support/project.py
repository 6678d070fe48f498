"""A checkout in a temporary folder that the real dvc runs, and the graph of dvc.yaml read without DVC's help."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from enginewright.layout import Layout
from support.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
PATHS = Layout()  # of the project in the current folder
SITE = Path(__file__).parent / "other_machine"  # a sitecustomize.py that gives the CPU another name
AT_WORK = Path(__file__).parent / "at_work"  # a sitecustomize.py that says when a function is called


@dataclass
class Run:
    """What a `dvc repro` did."""

    code: int
    output: str

    @property
    def ran(self) -> set[str]:
        """Stages whose command was started."""
        return set(re.findall(r"Running stage '(\w+)'", self.output))

    @property
    def restored(self) -> set[str]:
        """Stages whose outputs came back from the run-cache."""
        return set(re.findall(r"Stage '(\w+)' is cached - skipping run", self.output))


@dataclass
class Project:
    """A checkout with its own DVC cache."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, its output in one pipe."""
        bin_folder = str(Path(sys.executable).parent)
        temporary = (
            self.root.parent / "tmp"
        )  # with the lock of the device: tests that run side by side wait for none of each other's
        temporary.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "COLUMNS": "200",
            **self.environment,
        }
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(self, *command: str) -> Run:
        """Run a command to its end."""
        return self.end(self.start(*command))

    def end(self, process: subprocess.Popen[str]) -> Run:
        """Wait for a command that was started. One that hangs is killed with all that it started, else the test would
        wait for it again.
        """
        try:
            output, _ = process.communicate(timeout=HANG_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return Run(process.returncode, output)

    def repro(self, *arguments: str) -> Run:
        """`dvc repro`."""
        return self.call("dvc", "repro", *arguments)

    def git(self, *arguments: str) -> None:
        """One git command, as somebody who has a name."""
        subprocess.run(
            ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments],
            cwd=self.root,
            check=True,
            capture_output=True,
        )

    def stage(self, name: str) -> Run:
        """One stage's script alone, as DVC would start it."""
        return self.call("python", "-m", f"stages.{name}")

    def configure(self, *overrides: str) -> None:
        """`enginewright configure` with the settings that the project was made with, and these."""
        run = self.call("python", "-m", "enginewright.cli", "configure", "--reset", "debug=smoke", *overrides)
        assert run.code == 0, run.output

    def lock(self) -> str:
        """`enginewright lock`: what it says."""
        run = self.call("python", "-m", "enginewright.cli", "lock")
        assert run.code == 0, run.output
        return run.output

    def bytes_of(self, folder: str) -> dict[str, bytes]:
        """Content of every file below a folder."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file()
        }

    def leftovers(self) -> list[str]:
        """Temporary files that a stage left behind."""
        return [str(path.relative_to(self.root)) for path in (self.root / "artifacts").rglob("*.partial")]


def checkout(destination: Path) -> None:
    """Copy what git tracks or would track, without tests, docs and results."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("artifacts/", "tests/", "docs/")) and name != "dvc.lock":
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name)
    Project(destination).lock()  # the checkout may be in the middle of an edit


def stages() -> dict[str, dict[str, list[object]]]:
    """The stages of dvc.yaml."""
    loaded: dict[str, dict[str, list[object]]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return loaded


def _paths(entries: list[object]) -> list[str]:
    return [str(next(iter(entry))) if isinstance(entry, dict) else str(entry) for entry in entries]


def downstream(names: set[str]) -> set[str]:
    """The stages, and every stage that depends on an output or the metrics of one of them."""
    described = stages()
    outs = {name: _paths([*stage.get("outs", []), *stage.get("metrics", [])]) for name, stage in described.items()}
    while True:
        made = [out for name in names for out in outs[name]]
        grown = names | {
            name
            for name, stage in described.items()
            if any(dep == out or dep.startswith(out + "/") for dep in _paths(stage.get("deps", [])) for out in made)
        }
        if grown == names:
            return names
        names = grown


def readers(key: str) -> set[str]:
    """The stages whose params name the key, or a section around it, or a key inside it, or are spelt with it."""
    return {
        name
        for name, stage in stages().items()
        if any(
            key == own or key.startswith(f"{own}.") or own.startswith(f"{key}.")
            for param in stage.get("params", [])
            for own in ([param] if isinstance(param, str) else re.findall(r"\$\{([\w.]+)\}", str(param)))
        )
    }
