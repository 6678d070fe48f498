"""Seconds from the start of a stage's process to the first line of its body, and out again (goal: under 1 s for every
stage).

Each script runs in a copy of the project with the body of its function cut out: its imports, the reading and checking
of params.yaml, the declared params and the end of the process stay. What a body imports when it runs (torch,
onnxruntime) is its own work.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.project_copy import call, copy_project, seconds_in_turns, write_result


def cut_body(script: Path, name: str) -> None:
    """Leave `return None` of the function that is the stage."""
    tree = ast.parse(script.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if len(functions) != 1:
        sys.exit(f"{script} defines no single function {name}")
    functions[0].body = [ast.Return(ast.Constant(None))]
    script.write_text(ast.unparse(ast.fix_missing_locations(tree)) + "\n")


def main() -> None:
    """Time every stage in turns, beside an interpreter that does nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        project = copy_project(Path(name) / "project")
        stages = list(yaml.safe_load((project / "dvc.yaml").read_text())["stages"])
        for stage in stages:
            cut_body(project / f"stages/{stage}.py", stage)
        commands = {"python -c pass": ["-c", "pass"], **{stage: ["-m", f"stages.{stage}"] for stage in stages}}
        works = {
            label: lambda arguments=arguments: call([sys.executable, *arguments], project)
            for label, arguments in commands.items()
        }
        seconds_in_turns(works, 1)  # compiles every module once
        seconds = seconds_in_turns(works, rounds)
    slowest = max(stages, key=lambda stage: seconds[stage]["median_s"])
    write_result(
        "stage_startup",
        {
            "rounds": rounds,
            "seconds": seconds,
            "slowest": slowest,
            "slowest_median_s": seconds[slowest]["median_s"],
            "goal_s": 1.0,
        },
    )


if __name__ == "__main__":
    main()
