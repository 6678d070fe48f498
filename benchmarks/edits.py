"""Random edits of a small project, `dvc repro` after every few of them, and proof each time that nothing stale is left.

After each `dvc repro` every md5 in dvc.lock is computed again from the disk, every sidecar is verified with its inputs,
params are compared with those that DVC recorded, and the image sets are made again in this process. Now and then, and
at the end, the same inputs are rebuilt from nothing in another folder: every artifact that holds no measured time must
have the same bytes. Some edits must be refused instead, with their sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.edited_project import CHOICES, Inputs, make_project
from benchmarks.project_copy import environment, write_result
from enginewright import config, manifest
from enginewright.cli import chain
from enginewright.data.preparation import prepare
from enginewright.data.sources import open_source
from enginewright.errors import StaleArtifact
from enginewright.layout import Layout

FOLDERS = Layout().image_sets

MEASURED = ("artifacts/benchmark/", "artifacts/metrics/", "artifacts/pareto/", "artifacts/profile/")  # hold times
IGNORED = re.compile(
    r"(^|/)(__pycache__|[^/]*\.pyc|[^/]*\.egg-info)(/|$)|^enginewright/.*\.md$"
)  # as .dvcignore has it


@dataclass
class Played:
    """What a sequence of edits came to."""

    edits: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)  # run, restored, skipped
    repros: int = 0
    hashes: int = 0
    sidecars: int = 0
    rebuilds: int = 0
    rebuilt_files: int = 0
    faults: list[str] = field(default_factory=list)  # sentences of stages that refused what random edits asked for
    stale: list[str] = field(default_factory=list)


def play(folder: Path, edits: int, seed: int, rebuilds: int, at_once: int = 3) -> Played:
    """Make a project in `folder`, edit it `edits` times, and look for what is stale.

    Args:
        folder: empty or not there.
        edits: how many.
        seed: of the sequence.
        rebuilds: how often to compare with a build from nothing, the last time at the end.
        at_once: the most edits between two `dvc repro`.
    """
    rng, played = random.Random(seed), Played()
    root = make_project(folder / "project", seed)
    inputs = Inputs(root, rng)
    _reproduce_whole(root, played, "the start")
    kinds: list[Callable[[], str]] = [*inputs.edits(), lambda: _tamper(root, rng)]
    planned = set(rng.sample(range(1, edits), min(rebuilds - 1, edits - 1))) if rebuilds > 1 else set()
    while played.edits.total() < edits:
        before, due = played.edits.total(), min(rng.randint(1, at_once), edits - played.edits.total())
        restore = inputs.saved()
        names = [rng.choice(kinds)() for _ in range(due)]
        inputs.settle()
        played.edits.update(name.partition(":")[0] for name in names)
        print(f"{played.edits.total():4d} {'; '.join(names)}", flush=True)
        if fault := _reproduce(
            root, played, "; ".join(names)
        ):  # such as a model that its check does not pass: the user goes back
            played.faults.append(fault)
            print(f"     taken back: {fault}", flush=True)
            restore()
            _reproduce_whole(root, played, "the edits were taken back")
        if rng.random() < 0.15:
            _be_refused(root, inputs, played)
        if rebuilds and (planned & set(range(before + 1, before + due + 1)) or played.edits.total() == edits):
            _rebuild(root, folder / "rebuilt", played)
    return played


def _reproduce_whole(root: Path, played: Played, what: str) -> None:
    if fault := _reproduce(root, played, what):
        raise AssertionError(f"after {what}: {fault}")


def _reproduce(root: Path, played: Played, what: str) -> str:
    """Reproduce and look for what is stale; returns the sentence of a stage that refuses, as it may."""
    answer = _call(["dvc", "repro"], root)
    played.repros += 1
    if answer.returncode:
        said = re.search(r"^error: \w+: .*", answer.stdout, re.MULTILINE)
        if said is None:
            raise AssertionError(f"after {what}: `dvc repro` failed:\n{answer.stdout[-3000:]}")
        return said.group(0)
    counted = {
        "run": r"Running stage '",
        "restored": r" is cached - skipping run",
        "unchanged": r" didn't change, skipping",
    }
    played.stages.update({name: len(re.findall(pattern, answer.stdout)) for name, pattern in counted.items()})
    with contextlib.chdir(root):
        faults = [*_lock_faults(played), *_sidecar_faults(played), *_image_faults()]
    played.stale += [f"after {what}: {fault}" for fault in faults]
    for fault in faults:
        print(f"     STALE {fault}", flush=True)
    return ""


def _call(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def _lock_faults(played: Played) -> Iterator[str]:
    """Every hash and every parameter in dvc.lock against the disk."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    for stage, locked in yaml.safe_load(Path("dvc.lock").read_text())["stages"].items():
        for entry in (*locked.get("deps", []), *locked.get("outs", [])):
            played.hashes += 1
            if _md5(Path(entry["path"])) != entry["md5"]:
                yield f"{stage}: dvc.lock has another md5 of {entry['path']}"
        for key, value in locked.get("params", {}).get("params.yaml", {}).items():
            if _value(params, key) != value:
                yield f"{stage}: dvc.lock has {key} = {value}, and params.yaml {_value(params, key)}"


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params[part]
    return params


def _md5(path: Path) -> str:
    """As DVC computes it: of a folder, over the names and hashes of its files."""
    if path.is_dir():
        files = sorted(
            file.relative_to(path).as_posix()
            for file in path.rglob("*")
            if file.is_file() and not IGNORED.search(file.as_posix())
        )
        listing = [{"md5": _md5(path / name), "relpath": name} for name in files]
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
    return hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else "missing"


def _sidecar_faults(played: Played) -> Iterator[str]:
    for artifact in chain.sealed([Path("artifacts")]):
        played.sidecars += 1
        try:
            manifest.verify(artifact)
        except StaleArtifact as fault:
            yield str(fault)


def _image_faults() -> Iterator[str]:
    """The image sets, made again from the source as it lies there now."""
    params = config.read()

    @contextlib.contextmanager
    def output(artifact: Path, settings: dict[str, Any]) -> Iterator[Path]:
        del settings
        artifact.parent.mkdir(parents=True, exist_ok=True)
        yield artifact

    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folders = {set_: Path(name) / set_ for set_ in FOLDERS}
        prepare(open_source(params.data), params.data, params.seed, folders, output)
        for set_, folder in folders.items():
            for file in folder.iterdir():
                if file.read_bytes() != (FOLDERS[set_] / file.name).read_bytes():
                    yield f"{FOLDERS[set_] / file.name} is not what prepare_data makes now"


def _tamper(root: Path, rng: random.Random) -> str:
    """Damage an artifact on disk: DVC puts back what it has, or the stage runs again."""
    files = sorted(
        path for path in (root / "artifacts").rglob("*") if path.is_file() and "/metrics/" not in path.as_posix()
    )
    path, how = rng.choice(files), rng.choice(["flip", "remove", "swap"])
    if how == "swap":
        one, other = (
            root / "artifacts/engines" / name for name in rng.sample(["fp32", "fp16", "int8", "int8_mixed"], 2)
        )
        one.rename(root / "aside")
        other.rename(one)
        (root / "aside").rename(other)
        return f"tamper: {one.name} and {other.name} swapped"
    if how == "flip":
        content = bytearray(path.read_bytes() or b"\0")
        content[rng.randrange(len(content))] ^= 1 + rng.randrange(255)
        path.unlink()
        path.write_bytes(content)
    else:
        path.unlink()
    return f"tamper: {path.relative_to(root)} ({how})"


def _be_refused(root: Path, inputs: Inputs, played: Played) -> None:
    """Make an edit that must be refused, see its sentence, and take it back."""
    name, sentence, undo = inputs.refused()
    answer = _call(["dvc", "repro"], root)
    undo()
    played.refused[name] += 1
    print(f"     {name}: {'refused' if answer.returncode else 'TAKEN'}", flush=True)
    if not answer.returncode or sentence not in answer.stdout:
        played.stale.append(f"{name} was not refused with '{sentence}':\n{answer.stdout[-2000:]}")
    _reproduce_whole(root, played, f"{name} was taken back")


def _rebuild(root: Path, destination: Path, played: Played) -> None:
    """The same inputs from nothing, in another folder and without a cache."""
    shutil.rmtree(destination, ignore_errors=True)
    shutil.copytree(
        root, destination, symlinks=True, ignore=lambda folder, names: _products(Path(folder) == root, names)
    )
    _call(["git", "init", "-q"], destination)
    answer = _call(["dvc", "repro"], destination)
    if answer.returncode:
        raise AssertionError(f"a build from nothing failed:\n{answer.stdout[-3000:]}")
    played.rebuilds += 1
    ours, theirs = (_contents(folder) for folder in (root, destination))
    played.rebuilt_files += len(ours)
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    played.stale += [f"{name} differs from a build from nothing" for name in differing]
    print(f"     rebuilt: {len(ours)} files, {len(differing)} differ {differing[:5]}", flush=True)
    shutil.rmtree(destination)


def _products(top: bool, names: list[str]) -> list[str]:
    return [
        name for name in names if name == "__pycache__" or (top and name in ("artifacts", "dvc.lock", ".git", ".cache"))
    ] + ([] if top else [name for name in names if name in ("cache", "tmp")])


def _contents(root: Path) -> dict[str, bytes]:
    files = {path.relative_to(root).as_posix(): path for path in (root / "artifacts").rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not name.startswith(MEASURED) and path.name != ".gitignore"
    }


def main() -> None:
    """Play one sequence and write what it came to; exit code 1 if anything was stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rebuilds", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=5, help="the most edits between two `dvc repro`")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        played = play(Path(name), options.edits, options.seed, options.rebuilds, options.at_once)
    write_result(
        "edits",
        {
            **vars(options),
            "minutes": round((time.monotonic() - start) / 60, 1),
            **vars(played),
            "choices": len(CHOICES),
        },
    )
    sys.exit(1 if played.stale else 0)


if __name__ == "__main__":
    np.seterr(all="ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
