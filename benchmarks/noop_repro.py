"""What a `dvc repro` with nothing to do costs beyond a DVC pipeline of as many empty stages (goal: at most 0.8 s).

All in one run, in turns. The empty pipeline is a chain: each stage has the file before it as its dep, one param, and
one out. Ours also runs two stages each time: check_toolchain, which notices an edit of the library, and probe_target,
which notices another GPU. `check` and `probe` are these scripts alone, and `empty_always_changed` is an empty pipeline
whose first stage always runs, as any pipeline with a probe must.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.project_copy import call, commit, copy_project, seconds_in_turns, write_result


def empty_pipeline(folder: Path, stages: int, always_changed: bool = False) -> Path:
    """A DVC repository with a chain of stages that do nothing; the first of them runs in each `dvc repro` if it is
    `always_changed`.
    """
    folder.mkdir()
    chain: dict[str, dict[str, Any]] = {
        f"stage{n}": {"cmd": f"echo {n} > {n}.txt", "deps": [f"{n - 1}.txt"], "params": [f"p{n}"], "outs": [f"{n}.txt"]}
        for n in range(1, stages + 1)
    }
    chain["stage1"]["always_changed"] = always_changed
    (folder / "0.txt").write_text("0\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": chain}))
    (folder / "params.yaml").write_text(yaml.safe_dump({f"p{n}": n for n in range(1, stages + 1)}))
    call(["git", "init", "-q"], folder)
    call(["dvc", "init", "-q"], folder)
    commit(folder)
    return folder


def main() -> None:
    """Make both, reproduce both, then time the second `dvc repro` of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        ours = copy_project(Path(name) / "project")
        described = yaml.safe_load((ours / "dvc.yaml").read_text())["stages"]
        empty = empty_pipeline(Path(name) / "empty", len(described))
        always = empty_pipeline(Path(name) / "always", len(described), always_changed=True)
        for folder in (ours, empty, always):
            call(["dvc", "repro", "-q"], folder)
        seconds = seconds_in_turns(
            {
                "empty": lambda: call(["dvc", "repro"], empty),
                "ours": lambda: call(["dvc", "repro"], ours),
                "empty_always_changed": lambda: call(["dvc", "repro"], always),
                "check": lambda: call([sys.executable, "-m", "stages.check_toolchain"], ours),
                "probe": lambda: call([sys.executable, "-m", "stages.probe_target"], ours),
            },
            rounds,
        )
    more = seconds["ours"]["median_s"] - seconds["empty"]["median_s"]
    write_result(
        "noop_repro",
        {
            "stages": len(described),
            "rounds": rounds,
            "seconds": seconds,
            "seconds_more_than_empty": round(more, 3),
            "goal": 0.8,
        },
    )


if __name__ == "__main__":
    main()
