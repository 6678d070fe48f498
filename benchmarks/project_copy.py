"""A copy of the project to measure in, and one way to time commands: in turns, so that a drift of the machine hits all
alike.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from enginewright import target

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def environment() -> dict[str, str]:
    """The environment in which `exec python -m stages...` finds this interpreter."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


def call(command: list[str], folder: Path) -> str:
    """Run a command to its end and return what it printed; its failure ends the benchmark."""
    answer = subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if answer.returncode:
        sys.exit(f"{' '.join(command)} failed in {folder}:\n{answer.stdout}")
    return answer.stdout


def copy_project(destination: Path) -> Path:
    """What git tracks or would track, in a repository of its own with one commit, configured for the smoke test."""
    for name in call(["git", "ls-files", "--cached", "--others", "--exclude-standard"], ROOT).splitlines():
        if (ROOT / name).is_file() and not name.startswith(("artifacts/", "tests/", "docs/")) and name != "dvc.lock":
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name)
    for command in (["configure", "debug=smoke"], ["lock"]):  # the checkout may be in the middle of an edit
        call([sys.executable, "-m", "enginewright.cli", *command], destination)
    commit(destination)
    return destination


def commit(folder: Path) -> None:
    """Make the folder a git repository with one commit."""
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "start"],
    ):
        call(["git", *command], folder)


def seconds_in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Time each work once a round. Returns name -> {median_s, min_s, max_s}."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    return {
        name: {
            "median_s": round(statistics.median(all_), 3),
            "min_s": round(min(all_), 3),
            "max_s": round(max(all_), 3),
        }
        for name, all_ in taken.items()
    }


def write_result(name: str, result: Mapping[str, object]) -> None:
    """Write benchmarks/results/<name>.json, with the machine and the versions, and print it."""
    machine = {
        "cpu": target.cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "dvc": metadata.version("dvc"),
    }
    text = json.dumps({"command": f"python -m benchmarks.{name}", "machine": machine, **result}, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
