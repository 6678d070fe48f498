"""Findings, and the verdict that builds depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, Optional

MOST_NAMED = 3  # findings in the sentence of a failed check


class Severity(Enum):
    """`fail`: a runtime cannot take the model, or would compute nonsense; `warning`: some version or precision is
    affected; `note`: good to know.
    """

    fail = "fail"
    warning = "warning"
    note = "note"


def one_line(text: str) -> str:
    """Text with line breaks and other characters that do not print as Python writes them."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


@dataclass(frozen=True)
class Finding:
    """One thing that the check found, and what to do about it."""

    severity: Severity
    what: str
    remedy: str
    node: Optional[str] = None  # name of the node, tensor, input or output that it is about

    def __post_init__(self) -> None:
        """Names of a model may hold anything; a sentence stays on one line."""
        for name in ("what", "remedy"):
            object.__setattr__(self, name, one_line(getattr(self, name)))

    def sentence(self) -> str:
        """`what; remedy` in one line."""
        return f"{self.what}; {self.remedy}"


@dataclass(frozen=True)
class BatchNormalization:
    """One that the exporter left in the graph."""

    node: str
    into: Optional[str]  # the layer that INT8 builds fold it into
    why_not: Optional[str] = None  # why they cannot


@dataclass(frozen=True)
class Report:
    """What is known about a model after the check, the same on every machine."""

    findings: tuple[Finding, ...]
    opset_version: Optional[int] = None
    producer: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)  # name -> "float32 [batch, 1, 28, 28]"
    outputs: Mapping[str, str] = field(default_factory=dict)
    operators: Mapping[str, int] = field(default_factory=dict)  # operator -> nodes
    parameters: int = 0
    batch_normalizations: tuple[BatchNormalization, ...] = ()
    valid: bool = False  # so far sound ONNX that a parser can be asked: TensorRT-RTX 1.7's ends the process on others
    graph: str = ""  # a printable table: node, operator, shape, dtype
    ir_version: Optional[int] = None
    tensors: Mapping[str, Any] = field(default_factory=dict)  # "inputs" and "outputs": name, dtype and shape of each
    licence: Optional[str] = None  # that the file's metadata names

    @property
    def verdict(self) -> str:
        """`fail` if one finding is, else `pass`."""
        return "fail" if self.count(Severity.fail) else "pass"

    def with_more(self, found: Sequence[Finding]) -> Report:
        """The same with more findings, the most severe first."""
        order = list(Severity)
        return replace(
            self, findings=tuple(sorted((*self.findings, *found), key=lambda each: order.index(each.severity)))
        )

    @property
    def judgement(self) -> str:
        """The verdict on a file to import: `fail`, `warn` where it needs a line of configuration or a look, `pass`."""
        return "warn" if self.verdict == "pass" and self.count(Severity.warning) else self.verdict

    def count(self, severity: Severity) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """What report.json holds: verdict, findings and the model's figures."""
        return {
            "verdict": self.verdict,
            "findings": [{**asdict(finding), "severity": finding.severity.value} for finding in self.findings],
            "opset_version": self.opset_version,
            "producer": self.producer,
            "inputs": dict(self.inputs),
            "outputs": dict(self.outputs),
            "operators": dict(self.operators),
            "parameters": self.parameters,
            "batch_normalization": [asdict(found) for found in self.batch_normalizations],
        }

    def metrics(self) -> dict[str, Any]:
        """Counts for `dvc metrics show`."""
        foldable = sum(found.why_not is None for found in self.batch_normalizations)
        return {
            "verdict": self.verdict,
            "nodes": sum(self.operators.values()),
            "operators": len(self.operators),
            "parameters": self.parameters,
            "findings": {severity.value: self.count(severity) for severity in Severity},
            "batchnorm": {
                "total": len(self.batch_normalizations),
                "foldable": foldable,
                "unfoldable": len(self.batch_normalizations) - foldable,
            },
        }

    def failure(self) -> str:
        """One sentence with the first failing findings, for the exception of a failed check."""
        failed = [finding for finding in self.findings if finding.severity is Severity.fail]
        more = f"; and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
        return "; ".join(finding.sentence() for finding in failed[:MOST_NAMED]) + more
