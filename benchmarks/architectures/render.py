"""docs/models.md: what the results say, and the configurations that made them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.architectures.project import COMMON
from benchmarks.architectures.table import ARCHITECTURES, Architecture

DOCUMENT = Path(__file__).parents[2] / "docs/models.md"
BEGIN, END = "<!-- written by `python -m benchmarks.architectures render`: {} -->", "<!-- end of {} -->"
NAMES = {"top1": "top-1", "mean_iou": "mean IoU", "lowest_cosine": "cosine", "agreement": "agreement"}
COLUMNS = 118
Results = Mapping[str, Any]


def document(text: str, results: Mapping[str, Results]) -> str:
    """The page, with each part between its marks written anew."""
    parts = {"models": models, "verdicts": verdicts, "configurations": configurations}
    for name, part in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{part(results)}{end}{rest.split(end)[1]}"
    return text


def models(results: Mapping[str, Results]) -> str:
    """What was brought."""
    rows = [
        (each.title, each.origin, each.weights, results.get(each.name, {}).get("inputs", "")) for each in ARCHITECTURES
    ]
    return _table(("", "architecture", "model", "weights", "inputs"), rows)


def verdicts(results: Mapping[str, Results]) -> str:
    """How far each came, a row each, and the sentences of those that stopped."""
    rows = [_row(each, results.get(each.name, {})) for each in ARCHITECTURES]
    head = ("", "architecture", "metric", "FP32", "INT8", "verdict", "layers", "SQNR", "mixed", "RTX", "s")
    said = [
        textwrap.fill(f"- {each.title}, {where}: {sentence}", COLUMNS, subsequent_indent="  ")
        for each in ARCHITECTURES
        for where, sentence in _sentences(results.get(each.name, {}))
    ]
    return _table(head, rows) + "".join(f"\n{line}" for line in said) + ("\n" if said else "")


def configurations(results: Mapping[str, Results]) -> str:
    """The YAML of one architecture of each kind."""
    del results
    found = [f"What all share:\n\n```yaml\n{COMMON}```\n"]
    for each in ARCHITECTURES:
        files = ", ".join(f"`{name}`" for name in each.files)
        data = "; `images/` has its images" if "root: images" in each.configuration else ""
        data = "; `samples/` has a `.npz` a sample" if "root: samples" in each.configuration else data
        path = f"conf/experiment/{each.name}.yaml"
        title = f"### {each.title}\n\nFiles: {files}{data}. `{path}`:"
        found.append(f"{title}\n\n```yaml\n# @package _global_\n{each.configuration}experiment: {each.name}\n```\n")
    return "\n".join(found)


def _row(architecture: Architecture, found: Results) -> tuple[str, ...]:
    judged, seconds = found.get("verdict", {}), f"{found['seconds']:.0f}" if "seconds" in found else ""
    if "figure" not in judged:
        return (architecture.title, "", "", "", "stopped" if judged else "", "", "", "", "", seconds)
    figure, int8, mixed = judged["figure"], judged["int8"], judged.get("int8_mixed", {})
    built = found.get("tensorrt_rtx", {})
    return (
        architecture.title,
        NAMES.get(figure, figure),
        _number(judged["fp32"], 3),
        _number(int8.get(figure), 3),
        int8.get("verdict") or "",
        _share(judged["int8_layers"]),
        _number(int8.get("sqnr_db"), 1),
        f"{mixed.get('verdict') or ''} {_number(mixed.get('sqnr_db'), 1)}".strip(),
        _share(built["int8"]) if "int8" in built else "refused",
        seconds,
    )


def _sentences(found: Results) -> Iterator[tuple[str, str]]:
    if sentence := found.get("verdict", {}).get("sentence"):
        yield "ONNX Runtime", sentence
    if sentence := found.get("tensorrt_rtx", {}).get("sentence"):
        yield "TensorRT-RTX", sentence


def _share(layers: Mapping[str, int] | None) -> str:
    return f"{layers['int8']} of {sum(layers.values())}" if layers else ""


def _number(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    numbered = [(str(number), *row) for number, row in enumerate(rows, 1)]
    lines = [head, ("---",) * len(head), *numbered]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
