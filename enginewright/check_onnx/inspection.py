"""All checks of one file, in the order that names the root of a fault first."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import onnx

from enginewright.check_onnx import operators, reading as graph, structure, weights
from enginewright.check_onnx.origin import Origin, origin_of
from enginewright.check_onnx.report import Finding, Report, Severity
from enginewright.errors import ModelError
from enginewright.runtimes.parsers import PARSERS, ParserAnswer, parser_answers, session_refusal


def inspect(path: Path, opset_version: Optional[int] = None) -> Report:
    """Check an ONNX file: its bytes, opset, operators, weights, shapes, and the parsers of this machine.

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
    # TensorRT-RTX 1.7's parser was seen to end the whole process on a node with a wrong number of inputs.
    valid = readable and not contradictions and not _fails(refusals)
    answers = (
        parser_answers(path)
        if valid
        else {name: ParserAnswer(why_not="not asked, as the model is not valid ONNX") for name in PARSERS}
    )
    if (
        valid and not _fails(found) and (what := session_refusal(path))
    ):  # a kernel that it lacks: a convolution of float64
        remedy = (
            origin.says("replace that operation in `forward`", "make the file without that operation")
            + ", or cast to float32 before it"
        )
        found.append(Finding(Severity.fail, what, remedy))
    found += _refusals(answers, {finding.node for finding in found if finding.severity is Severity.fail}, origin)
    return _report(model, inferred, found, answers)


def _fails(found: list[Finding]) -> bool:
    return any(finding.severity is Severity.fail for finding in found)


def _report(
    model: onnx.ModelProto, inferred: onnx.ModelProto, found: list[Finding], answers: dict[str, ParserAnswer]
) -> Report:
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
        parsers=answers,
        graph=graph.printable(inferred),
    )


def _refusals(answers: dict[str, ParserAnswer], known: set[Optional[str]], origin: Origin) -> list[Finding]:
    """What a parser refuses beyond what is known to fail already, so that the report says the same where no parser is
    installed.
    """
    return [
        Finding(
            Severity.fail,
            f"the parser of {package} {answer.version} refuses"
            f" {f'node {error.node!r} ({error.operator})' if error.operator else 'the model'}: {error.message}",
            origin.says(
                "replace that operation in `forward`, or try another opset",
                "make the file without that operation, or at another opset",
            ),
            error.node,
        )
        for package, answer in answers.items()
        for error in answer.errors
        if error.node is None or error.node not in known
    ]
