"""INT8 as it runs against its simulation in float64, for every attribute of every operator: PYTHONPATH=.:tests python
-m benchmarks.operator_attributes

A graph for each value of each attribute, with --pairs for each two values, and for combinations drawn from one seed.
Each is calibrated by min-max, quantized in both placements, run by ONNX Runtime with its optimizer on, and simulated in
float64 by onnx's reference with our own Q/DQ, convolution and pooling (`tests/support/reference_operators.py`). The gap
is what INT8 loses beyond the rounding that its Q/DQ pairs ask for.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.project_copy import write_result
from enginewright.config import Placement
from enginewright.errors import EnginewrightError
from support.operator_cases import MIXED, OPERATORS, Case, cases
from support.operator_truth import Truth, truth

MOST_GAP_DB = 1.0
# ONNX Runtime in float against float64: below, the reference and the runtime do not mean the same
LEAST_FLOAT_DB = 45.0


@dataclass
class Row:
    """What the cases of one operator say."""

    operator: str
    attributes: dict[str, int]  # how many values each takes
    cases: int = 0
    worst: dict[str, float] = field(default_factory=dict)
    kernels: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, case: Case) -> None:
        """Judge one case."""
        self.cases += 1
        try:
            found = truth(case.net)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is what this benchmark is there to find
            known = isinstance(fault, EnginewrightError)
            self.faults.append(
                f"{case.label}: {'refused' if known else type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
            )
            return
        self.left.update(set(found[Placement.onnxruntime].left.values()))
        own = {f"QLinear{case.kernel}", f"Q{case.kernel}", f"{case.kernel}IntegerToFloat"}
        self.kernels.update(sorted(own & set(found[Placement.onnxruntime].kernels))[:1])  # a graph counts once
        for placement, each in found.items():
            self.worst[placement.name] = max(self.worst.get(placement.name, -100.0), each.gap_db)
            if each.gap_db > MOST_GAP_DB or each.float_db < LEAST_FLOAT_DB or each.wrong_graph:
                self.faults.append(f"{case.label}: {placement.name}: {_words(each)}")

    def to_dict(self) -> dict[str, object]:
        """For the table."""
        gaps = {name: round(gap, 2) for name, gap in self.worst.items()}
        return {
            "operator": self.operator, "attributes": self.attributes, "cases": self.cases, "worst_gap_db": gaps,
            "integer_kernels": dict(self.kernels), "left_in_float": dict(self.left), "faults": self.faults,
        }  # fmt: skip


def _words(found: Truth) -> str:
    return (
        f"simulated {found.simulated_db:.1f} dB, run {found.executed_db:.1f} dB, float {found.float_db:.0f} dB, without"
        f" rounding {found.exact_db:.0f} dB"
    )


def measure(operators: Iterable[str], combinations: int, pairs: bool) -> list[Row]:
    """A row an operator, printed as it is done."""
    rows = []
    for operator in operators:
        start = time.perf_counter()
        row = Row(operator, {name: len(values) for name, values in OPERATORS[operator].space.items()})
        for case in cases(operator, combinations, pairs=pairs):
            row.add(case)
        print(
            f"{operator:20} {row.cases:4} cases, gaps {row.worst}, {time.perf_counter() - start:.0f} s",
            *row.faults,
            sep="\n    ",
            flush=True,
        )
        rows.append(row)
    return rows


def table(rows: Iterable[Row]) -> str:
    """Markdown, as docs/operators.md shows it."""
    lines = [
        "| operator | graphs | worst gap, TensorRT's placement | worst gap, ONNX Runtime's | integer kernel in |",
        "|---|--:|--:|--:|--:|",
    ]
    notes = [""]
    for row in rows:
        varied = ", ".join(f"{name} ({count})" for name, count in row.attributes.items())
        gaps = [
            f"{row.worst.get(placement.name, float('nan')):.2f} dB"
            for placement in (Placement.tensorrt, Placement.onnxruntime)
        ]
        left = "; ".join(f"{why} ({count})" for why, count in sorted(row.left.items()))
        lines.append(f"| {row.operator} | {row.cases} | {gaps[0]} | {gaps[1]} | {sum(row.kernels.values())} |")
        note = f"- {row.operator}: {varied}" + (f". In float: {left}" if left else "")
        notes += textwrap.wrap(note, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines + notes)


def main() -> None:
    """Measure the operators that are named, or all, and write benchmarks/results/operator_attributes.json."""
    parser = argparse.ArgumentParser(description="INT8 as it runs against its simulation in float64")
    parser.add_argument("operators", nargs="*", default=list(OPERATORS), help=f"of {', '.join(OPERATORS)}")
    parser.add_argument("--combinations", type=int, default=60, help="drawn beside each value alone")
    parser.add_argument("--pairs", action="store_true", help="each two values together, too")
    chosen = parser.parse_args()
    rows = measure(chosen.operators, chosen.combinations, chosen.pairs)
    print(
        table(row for row in rows if row.operator not in MIXED),
        "",
        table(row for row in rows if row.operator in MIXED),
        sep="\n",
    )
    if chosen.operators == list(OPERATORS):
        content = {
            "combinations": chosen.combinations,
            "pairs": chosen.pairs,
            "operators": [row.to_dict() for row in rows],
        }
        write_result("operator_attributes", content)
    sys.exit(any(row.faults for row in rows))


if __name__ == "__main__":
    main()
