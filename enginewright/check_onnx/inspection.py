"""All checks of one file, in the order that names the root of a fault first."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import onnx

from enginewright.check_onnx import operators, reading as graph, structure, weights
from enginewright.check_onnx.origin import origin_of
from enginewright.check_onnx.report import Finding, Report, Severity
from enginewright.errors import ModelError
from enginewright.runtimes.onnxruntime.session import why_not_opened


def inspect(path: Path, opset_version: Optional[int] = None) -> Report:
    """Check an ONNX file: its bytes, opset, operators, weights and shapes. The report is the same on every machine.

    Args:
        path: the ONNX file; external data is looked for beside it.
        opset_version: what the model should be of, or None to accept any that a TensorRT parses.

    Returns:
        The report. A file that cannot be read is a report with that one finding: nothing is raised on account of the
        model.
    """
    try:
        model = structure.load(path)
    except ModelError as fault:
        what, _, remedy = str(fault).partition("; ")
        return Report((Finding(Severity.fail, what, remedy),))
    try:
        return _inspected(path, model, opset_version)
    except UnicodeDecodeError:  # protobuf raises it wherever such a name is read first
        return Report(
            (
                Finding(
                    Severity.fail,
                    f"{path.name} holds names that are not UTF-8",
                    "the file is damaged: take another copy, or make it again",
                ),
            )
        )


def _inspected(path: Path, model: onnx.ModelProto, opset_version: Optional[int]) -> Report:
    origin = origin_of(model, opset_version)
    damage = [*structure.garbled(model, origin), *weights.unreadable(path, model, origin)]
    if damage:  # nothing that walks the graph or reads its numbers can go on
        return Report(tuple(damage), structure.opset_version(model), origin.producer)
    found = [
        *structure.named_twice(model),
        *structure.opset(model, opset_version, origin),
        *operators.findings(model, origin),
    ]
    found += weights.external_data(path, model)
    inferred, contradictions = structure.infer_shapes(model, origin)
    refusals: list[Finding] = []
    readable = all((path.parent / name).is_file() for name in weights.external_files(model))
    if readable:
        refusals = list(structure.checker(path, model, origin))
        found += [*refusals, *weights.findings(path, model, origin)]
    found += [*contradictions, *structure.fed(model, origin)]
    if not contradictions:
        found += structure.returned(model, origin)
    valid = readable and not contradictions and not _fails(refusals)
    if (
        valid and not _fails(found) and (what := why_not_opened(path))
    ):  # a kernel that it lacks: a convolution of float64
        remedy = (
            origin.says("replace that operation in `forward`", "make the file without that operation")
            + ", or cast to float32 before it"
        )
        found.append(Finding(Severity.fail, what, remedy))
    return _report(model, inferred, found, valid)


def _fails(found: list[Finding]) -> bool:
    return any(finding.severity is Severity.fail for finding in found)


def _report(model: onnx.ModelProto, inferred: onnx.ModelProto, found: list[Finding], valid: bool) -> Report:
    order = list(Severity)
    return Report(
        findings=tuple(sorted(found, key=lambda finding: order.index(finding.severity))),
        opset_version=structure.opset_version(model),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs={value.name: graph.described(value) for value in graph.inputs(model.graph)},
        outputs={value.name: graph.described(value) for value in inferred.graph.output},
        operators=graph.inventory(model.graph),
        parameters=graph.parameters(model.graph),
        batch_normalizations=tuple(operators.batch_normalizations(model)),
        valid=valid,
        graph=graph.printable(inferred),
    )
