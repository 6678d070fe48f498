"""All checks of one file, in the order that names the root of a fault first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Optional

import onnx

from enginewright.check_onnx import importable, operators, reading as graph, structure, weights
from enginewright.check_onnx.custom import NOTHING, Declared, declared
from enginewright.check_onnx.origin import Origin, origin_of
from enginewright.check_onnx.report import Finding, Report, Severity
from enginewright.errors import ModelError
from enginewright.graph.custom import custom_nodes
from enginewright.graph.foreign import ANOTHER_COPY, foreign
from enginewright.graph.licence import licence
from enginewright.graph.unquantized import BRING_FLOAT
from enginewright.runtimes.onnxruntime.session import why_not_opened

A_NODE = "node '"  # how a finding about one begins


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
    origin = origin_of(model, opset_version)
    known = declared(path)
    return _whole(path, model, origin, lambda: _configured(path, model, origin, opset_version), known)


def judge(path: Path) -> Report:
    """Check a file that this pipeline did not export, for what `model.source: onnx` can make of it.

    Args:
        path: any file; weights outside of it are read from its own folder alone.

    Returns:
        The report. Whatever is wrong with the file is a finding.
    """
    other = foreign(path)
    if other is not None:
        return Report((Finding(Severity.fail, f"{path.name} is {other.what}", other.remedy or ANOTHER_COPY),))
    try:
        model = structure.load(path)
    except ModelError as fault:
        return Report((Finding(Severity.fail, str(fault).partition("; ")[0], ANOTHER_COPY),))
    origin = origin_of(model, None)
    report = _whole(path, model, origin, lambda: _alone(path, model, origin))
    integers = any(each.remedy == BRING_FLOAT for each in report.findings)
    kept = [each for each in report.findings if not integers or each.remedy != operators.QUANTIZED]
    return replace(report, findings=tuple(together(kept)))


def together(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Findings in their order; of nodes that one remedy mends, the first and how many more there are."""
    alike = Counter((each.severity, each.remedy) for each in findings if each.what.startswith(A_NODE))
    said: set[tuple[Severity, str]] = set()
    for each in findings:
        kind = (each.severity, each.remedy)
        if not each.what.startswith(A_NODE) or alike[kind] == 1:
            yield each
        elif kind not in said:
            said.add(kind)
            yield replace(each, what=f"{each.what}, and {alike[kind] - 1} more such nodes")


class _Rules(NamedTuple):
    """What a stage and an import ask differently of a file."""

    damage: list[Finding]  # of stored tensors: nothing that reads their numbers can go on
    opset: list[Finding]
    stored: list[Finding]
    fed: list[Finding]
    readable: bool  # every weight outside of the file
    of_valid: Callable[[], Iterator[Finding]] = lambda: iter(())  # asked of sound ONNX alone


def _configured(path: Path, model: onnx.ModelProto, origin: Origin, opset_version: Optional[int]) -> _Rules:
    """Of what the stage export wrote."""
    return _Rules(
        list(weights.unreadable(path, model, origin)),
        list(structure.opset(model, opset_version, origin)),
        [*operators.quantized(model), *weights.external_data(path, model)],
        list(structure.fed(model, origin)),
        all((path.parent / name).is_file() for name in weights.external_files(model)),
    )


def _alone(path: Path, model: onnx.ModelProto, origin: Origin) -> _Rules:
    """Of a file to import."""
    outside = list(importable.external(path, model))
    return _Rules(
        [] if _fails(outside) else list(weights.unreadable(path, model, origin)),
        list(importable.opset(model, origin)),
        [*importable.quantized(model, path.name), *importable.halves(model), *outside],
        list(importable.fed(model, origin, path.name)),
        not _fails(outside),
        lambda: importable.converted(path),
    )


def _whole(
    path: Path, model: onnx.ModelProto, origin: Origin, rules: Callable[[], _Rules], known: Declared = NOTHING
) -> Report:
    try:
        return _inspected(path, model, origin, rules, known)
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


def _inspected(
    path: Path, model: onnx.ModelProto, origin: Origin, asked: Callable[[], _Rules], known: Declared
) -> Report:
    garbled = list(structure.garbled(model, origin))
    rules = _Rules([], [], [], [], False) if garbled else asked()
    if damage := [*garbled, *rules.damage]:
        return Report(tuple(damage), structure.opset_version(model), origin.producer, ir_version=model.ir_version)
    found = [*structure.named_twice(model), *rules.opset, *operators.findings(model, origin, known), *rules.stored]
    inferred, contradictions = structure.infer_shapes(model, origin)
    refusals: list[Finding] = []
    if rules.readable:
        refusals = list(structure.checker(path, model, origin))
        found += [*refusals, *weights.findings(path, model, origin)]
    found += [*contradictions, *rules.fed]
    if not contradictions:
        found += structure.returned(model, origin)
    valid = rules.readable and not contradictions and not _fails(refusals)
    if valid and not _fails(found) and (what := _not_opened(path, model, known)):  # a kernel that it lacks
        remedy = (
            origin.says("replace that operation in `forward`", "make the file without that operation")
            + ", or cast to float32 before it"
        )
        found.append(Finding(Severity.fail, what, remedy))
    if valid and not _fails(found):
        found += rules.of_valid()
    return _report(model, inferred, found, valid)


def _not_opened(path: Path, model: onnx.ModelProto, known: Declared) -> Optional[str]:
    """Why ONNX Runtime opens no session, where it should: it is not asked about what TensorRT alone has kernels for."""
    if known.tensorrt and not known.plugins.files and custom_nodes(model):
        return None
    return why_not_opened(path, known.plugins)


def _fails(found: list[Finding]) -> bool:
    return any(finding.severity is Severity.fail for finding in found)


def _report(model: onnx.ModelProto, inferred: onnx.ModelProto, found: list[Finding], valid: bool) -> Report:
    return Report(
        findings=(),
        opset_version=structure.opset_version(model),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs={value.name: graph.described(value) for value in graph.inputs(model.graph)},
        outputs={value.name: graph.described(value) for value in inferred.graph.output},
        operators=graph.inventory(model.graph),
        parameters=graph.parameters(model.graph),
        batch_normalizations=tuple(operators.batch_normalizations(model)),
        valid=valid,
        graph=graph.printable(inferred),
        ir_version=model.ir_version,
        tensors={
            "inputs": [graph.tensor(value) for value in graph.inputs(model.graph)],
            "outputs": [graph.tensor(value) for value in inferred.graph.output],
        },
        licence=licence(model),
    ).with_more(found)
