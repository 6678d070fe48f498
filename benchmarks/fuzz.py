"""Random graphs through check_onnx, calibration, both placements and every precision: python -m benchmarks.fuzz
--graphs 1000 --seed 0

What is drawn, and what counts as a fault, stands in tests/support/fuzz.py and fuzz_trial.py; the tests run 300 of
these.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.project_copy import ROOT, write_result

sys.path.insert(0, str(ROOT / "tests"))

from enginewright.graph.reasons import COMPANIONS, QUANTIZABLE
from support.fuzz import sample
from support.fuzz_trial import Outcome, trial

RTX_EVERY = 25
SHOWN = 5


def kind(sentence: str) -> str:
    """A sentence without what differs from graph to graph."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|[\w/.]*\d[\w/.]*", "*", sentence)[:80]


def summed_up(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Counts over all graphs, and the least decibels of each precision and placement."""
    operators = Counter(operator for outcome in outcomes for operator in outcome.operators)
    lowest: dict[str, list[float]] = {}
    for outcome in outcomes:
        for what, value in outcome.decibels.items():
            lowest.setdefault(what, []).append(min(value, 200.0))
    return {
        "graphs": len(outcomes),
        "refused": sum(bool(outcome.refusals) for outcome in outcomes),
        "refusals": dict(Counter(kind(text) for outcome in outcomes for text in outcome.refusals)),
        "problems": dict(Counter(kind(text) for outcome in outcomes for text in outcome.problems)),
        "builds": sum(outcome.builds for outcome in outcomes),
        "layers": sum(outcome.layers for outcome in outcomes),
        "layers_in_int8": sum(outcome.integer_layers for outcome in outcomes),
        "decibels": {
            what: {"least": min(all_), "median": statistics.median(all_)} for what, all_ in sorted(lowest.items())
        },
        "operators": {operator: operators[operator] for operator in (*QUANTIZABLE, *COMPANIONS)},
        "other_operators": dict(
            sorted(
                (item for item in operators.items() if item[0] not in (*QUANTIZABLE, *COMPANIONS)),
                key=lambda item: -item[1],
            )
        ),
    }


def main() -> None:
    """Run the graphs, show the first faults of each kind, and write benchmarks/results/fuzz.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first graph; each next one has the next seed")
    arguments = parser.parse_args()
    outcomes, seen = [], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seed, arguments.seed + arguments.graphs):
            outcome = trial(sample(seed), Path(folder), asks_rtx=seed % RTX_EVERY == 0)
            outcomes.append(outcome)
            for text in (*outcome.problems, *(f"refused: {refusal}" for refusal in outcome.refusals)):
                seen[kind(text)] += 1
                if seen[kind(text)] <= SHOWN:
                    print(f"{seed}: {text}", flush=True)
    write_result("fuzz", {"seed": arguments.seed, **summed_up(outcomes)})


if __name__ == "__main__":
    main()
