"""Metrics and terminal table of validate_accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enginewright.accuracy.evaluate import Evaluation
from enginewright.accuracy.gate import Verdict
from enginewright.accuracy.metrics import summary
from enginewright.accuracy.statistics import compare
from enginewright.config import Precision
from enginewright.manifest import Manifest
from enginewright.target import TargetFingerprint

DIGEST = 12  # hex digits of a sha256 that people see


def precision_metrics(evaluations: Mapping[Precision, Evaluation], manifests: Mapping[Precision, Manifest], confidence: float) -> dict[str, dict[str, Any]]:
    """Metrics nested by precision; all but FP32 hold the paired comparison with it. `evaluations` has FP32."""
    fp32 = evaluations[Precision.fp32].rows
    found = {}
    for precision, evaluation in evaluations.items():
        figures = summary(evaluation.rows, evaluation.classes)
        if precision is not Precision.fp32 and "correct" in fp32:
            figures.update(compare(evaluation.rows["correct"].to_numpy(), fp32["correct"].to_numpy(), confidence))
        found[precision.value] = {**figures, "engine_sha256": manifests[precision].sha256}
    return found


def identity(target: TargetFingerprint) -> dict[str, str]:
    """The target's known fields as text, to stand beside every figure."""
    fields = {**target.to_dict(), "instruction_sets": " ".join(target.instruction_sets)}
    return {name: str(value) for name, value in fields.items() if value}


def show(metrics: Mapping[str, Any], manifests: Mapping[Precision, Manifest], verdicts: Sequence[Verdict]) -> None:
    """Print the precisions side by side, the chain of hashes behind them, and the verdicts."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    target, labelled = metrics["target"], metrics["labels"]
    table = Table(title=f"Accuracy on {metrics['images']} images, {target['device']}, {target['runtime']} {target['runtime_version']}", title_justify="left")
    table.add_column("")
    for precision in manifests:
        table.add_column(precision.value, justify="right")
    rows = {"top-1": ("top1", ".4f"), "top-5": ("top5", ".4f"), "cross-entropy loss": ("cross_entropy_loss", ".4f")} if labelled else {}
    rows.update(
        {
            "agreement with fp32": ("agreement", ".4f"),
            "SQNR (dB)": ("sqnr_db", ".1f"),
            "cosine": ("cosine", ".6f"),
            "KL divergence": ("kl_divergence_mean", ".2e"),
        }
    )
    for name, (key, form) in rows.items():
        table.add_row(name, *(format(metrics[precision.value][key], form) if key in metrics[precision.value] else "-" for precision in manifests))
    if labelled:
        name = f"top-1 difference, {metrics['confidence']:.0%} interval"
        table.add_row(name, *(_difference(metrics[precision.value]) for precision in manifests))
    table.add_row("engine sha256", *(made.sha256[:DIGEST] for made in manifests.values()))
    console.print(table)
    for precision, made in manifests.items():
        console.print(f"{precision.value} was made from " + ", ".join(f"{name} {digest[:DIGEST]}" for name, digest in made.inputs.items()), highlight=False)
    if not labelled:
        console.print("The validation images have no labels: there is no top-1, and the gate holds agreement with FP32.")
    if target["runtime"] == "null":
        console.print("The null runtime computes nothing: these are the figures of zeros, whatever the model.")
    for verdict in verdicts:
        console.print(verdict.sentence, highlight=False)


def _difference(figures: Mapping[str, Any]) -> str:
    if "top1_difference" not in figures:
        return "-"
    return f"{figures['top1_difference']:+.4f} ({figures['top1_difference_low']:+.4f} to {figures['top1_difference_high']:+.4f})"
