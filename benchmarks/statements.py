"""How much code there is: Python statements by folder, in two revisions side by side.

    python -m benchmarks.statements [BEFORE] [AFTER]

BEFORE is by default 0f2caaf, the last commit before the frame was rebuilt, and AFTER is HEAD. A statement is a node of
Python's syntax tree, so neither comments, blank lines nor where lines are broken count; a docstring is one statement.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
from collections import Counter

from benchmarks.project_copy import ROOT

PACKAGE = "enginewright/"


def counted(revision: str) -> Counter[str]:
    """Folder -> statements; the package by its own folders too."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    found: Counter[str] = Counter()
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            content = files.extractfile(member) if member.name.endswith(".py") else None
            if content is not None:
                statements = sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(content.read())))
                top, _, rest = member.name.partition("/")
                found[f"{top}/" if rest else "./"] += statements
                if member.name.startswith(PACKAGE):
                    folder, _, inside = rest.partition("/")
                    found[f"{PACKAGE}{folder}/" if inside else f"{PACKAGE}*.py"] += statements
    return found


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", nargs="?", default="0f2caaf")
    parser.add_argument("after", nargs="?", default="HEAD")
    chosen = parser.parse_args()
    before, after = counted(chosen.before), counted(chosen.after)
    print("| folder | before | after |\n|---|--:|--:|")
    for folder in sorted({*before, *after}):
        print(f"| {folder} | {before[folder]:,} | {after[folder]:,} |")


if __name__ == "__main__":
    main()
