"""The importer `onnx`: an existing ONNX file, brought into the form that the pipeline takes.

Names, dtypes and axes are read from the file. Its opset becomes the configured one, other floating point types become
float32, Q/DQ nodes are taken out, and a batch of 1 is freed. After that it answers as the file does, or is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import onnx

from enginewright.config import Export, Model
from enginewright.errors import ModelError, nearest
from enginewright.graph.batch import free_batch
from enginewright.graph.constants import names_of
from enginewright.graph.cut import cut_to, drop_dead, keep_used_domains, without_functions
from enginewright.graph.ends import unusable
from enginewright.graph.licence import author, licence, notice
from enginewright.graph.names import name_nodes
from enginewright.graph.opset import at_opset
from enginewright.graph.precision import other_floats, to_float32
from enginewright.graph.unquantized import BRING_FLOAT, integer_operators, integers_said, unquantize
from enginewright.importers import Imported
from enginewright.importers.examples import feeds_at
from enginewright.importers.files import files_of, located, read
from enginewright.importers.naming import fixed_batch, name_axes, require_ranges, shown
from enginewright.importers.original import WITHOUT_PAIRS, Original
from enginewright.importers.proof import Proof, decibel, usual_sizes
from enginewright.interface import BATCH, Axes, Interface
from enginewright.layout import Layout

# How far a model in float32 may be from one of these types, relative to the largest output: what the type rounds.
COARSENESS = {"float16": 0.02, "bfloat16": 0.1}


@contextlib.contextmanager
def onnx_file(model: Model, settings: Export, paths: Layout, axes: Axes) -> Iterator[Imported]:
    """Read the file and prepare it. See `Importer`."""
    path = located(model, paths)
    yield imported(path, model, settings, axes)


def interface_of_file(path: Path, model: Model, axes: Axes) -> Interface:
    """The interface that a file will have, from a look at it without its weights: for `configure`.

    Raises:
        ModelError: as `imported`, for what shows without running it.
    """
    found = read(path, model, weights=False)
    _choose_outputs(found, model, path.name)
    _require_tensors(found, path.name)
    name_axes(found, model, path.name)
    require_ranges(found, axes, path.name)
    to_float32(found)
    return Interface.from_onnx(found)


def imported(path: Path, model: Model, settings: Export, axes: Axes) -> Imported:
    """Return a file as the pipeline takes it.

    Args:
        path: the ONNX file.
        model: path, and what it says of inputs, outputs and axes.
        settings: the opset and the tolerance.
        axes: the range of each named axis.

    Raises:
        ModelError: the file cannot be used, in a sentence that says what to write or how to make it again.
    """
    files = files_of(path, read(path, model, weights=False))
    work = _Work(path, model, settings, axes, read(path, model))
    work.run()
    return Imported(
        model.name,
        model.path,
        work.found,
        Interface.from_onnx(work.found),
        files,
        work.original,
        coarseness=work.coarseness,
        notices=tuple(work.notices),
        licence=work.licence,
    )


@dataclass
class _Work:
    """One file on its way."""

    path: Path
    model: Model
    settings: Export
    axes: Axes
    found: onnx.ModelProto  # edited step by step
    notices: list[str] = field(default_factory=list)
    coarseness: float = 0.0
    original: Optional[Original] = None
    licence: dict[str, str] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """The file, for sentences."""
        return self.path.name

    def run(self) -> None:
        """Each step needs what the ones before it made."""
        self.note_licence()
        self.found = without_functions(self.found)
        shared = name_nodes(self.found)
        _choose_outputs(self.found, self.model, self.called)
        drop_dead(self.found)
        unread = self.drop_unread()
        _require_tensors(self.found, self.called)
        # what the file's answers are: of the whole file, if nothing was left out and ONNX Runtime takes its names
        part = _copy(self.found) if unread or shared or self.model.outputs else None
        freed = name_axes(self.found, self.model, self.called)
        require_ranges(self.found, self.axes, self.called)
        stripped = self.unquantize()
        floats = other_floats(self.found)
        self.found = at_opset(self.found, self.settings.opset_version, self.called)
        keep_used_domains(self.found)
        self.to_float32(floats)
        freed = self.free(freed)
        interface = Interface.from_onnx(self.found)
        if stripped is not None:
            self.original = Original(stripped, self.called, interface, WITHOUT_PAIRS)
        else:
            self.original = Original(part or self.path, self.called, interface)
        Proof(self.original, self.called, self.tolerance, self.axes, tuple(freed)).declare(self.found)
        self.require_as_configured()

    @property
    def tolerance(self) -> float:
        """How far answers may be from the file's."""
        return max(self.settings.tolerance, self.coarseness)

    def note_licence(self) -> None:
        """Whoever builds an engine should know what the file's metadata says."""
        if (said := notice(self.found)) is not None:
            self.notices.append(said)
        named = {"licence": licence(self.found), "author": author(self.found)}
        self.licence = {key: value for key, value in named.items() if value}

    def drop_unread(self) -> bool:
        """Drop inputs that no node reads, as they need no data; whether there are any."""
        graph = self.found.graph
        read_ = names_of(graph.node) | {value.name for value in graph.output}
        unread = [value for value in graph.input if value.name not in read_]
        for value in unread:
            graph.input.remove(value)
            self.notices.append(f"no output depends on the input '{value.name}', which is left out")
        return bool(unread)

    def unquantize(self) -> Optional[onnx.ModelProto]:
        """Take Q/DQ nodes out; the model without them, if there were any."""
        if operators := integer_operators(self.found):
            raise ModelError(f"{integers_said(self.called, operators)}; {BRING_FLOAT}")
        quantized = _copy(self.found)
        try:
            pairs = unquantize(self.found)
        except ValueError as fault:
            raise ModelError(
                f"the node '{fault}' of {self.called} is half of a Q/DQ pair, as an input or output is of integers;"
                " bring the float model that it was quantized from"
            ) from None
        if not pairs.activations and not pairs.weights:
            return None
        stripped = _copy(self.found)
        interface = Interface.from_onnx(stripped)
        feeds = feeds_at(interface, {**usual_sizes(self.axes), BATCH: 1}, seed=0)
        real = Original(stripped, self.called, interface).answer(feeds)
        noise = decibel(Original(quantized, self.called, interface).answer(feeds), real)
        self.notices.append(
            f"{pairs.activations} Q/DQ pairs are taken out and {pairs.weights} weights dequantized: the model without"
            f" them is FP32 here, and is calibrated again; the file's own INT8 has an SQNR of {noise:.1f} dB against"
            " it, on random input"
        )
        return stripped

    def to_float32(self, floats: tuple[str, ...]) -> None:
        """Bring other floating point types to float32."""
        if not floats:
            return
        to_float32(self.found)
        self.coarseness = max((COARSENESS.get(kind, 0.0) for kind in floats), default=0.0)
        held = f", and answers may differ from the file's by {self.coarseness:g}" if self.coarseness else ""
        self.notices.append(
            f"{' and '.join(floats)} become float32, inputs and outputs too: engines are built of that{held}"
        )

    def free(self, asked: dict[str, int]) -> dict[str, int]:
        """Free a batch of 1 if `axes` asks for more; the inputs where it was."""
        fixed, batch = fixed_batch(self.found), self.axes.get(BATCH)
        for value in self.found.graph.input:
            first = value.type.tensor_type.shape.dim[0]
            if fixed is not None and first.dim_value != fixed and value.name not in asked:
                raise ModelError(
                    f"the input {shown(value)} of {self.called} does not begin with a batch of {fixed} as the others"
                    " do, and the pipeline puts samples together along axis 0; export the model with the batch there"
                )
        places = dict(asked)
        if fixed == 1 and batch is not None and batch.max > 1:
            places = {
                value.name: 0
                for value in self.found.graph.input
                if value.type.tensor_type.shape.dim[0].dim_value == 1 or value.name in asked
            }
        if places:
            free_batch(self.found, places)
            self.notices.append(f"the batch of 1 in {' and '.join(map(repr, places))} is freed")
        elif fixed is not None and batch is not None and (batch.min, batch.max) != (fixed, fixed):
            value = next(one for one in self.found.graph.input)
            raise ModelError(
                f"the input {shown(value)} of {self.called} has a fixed batch of {fixed}, and only a batch of 1 can be"
                f" freed; set axes.batch={{min: {fixed}, opt: {fixed}, max: {fixed}}}, or export the model again with a"
                " dynamic batch"
            )
        return places

    def require_as_configured(self) -> None:
        """Hold model.inputs, where it is given, to the file."""
        own, asked = {spec.name: spec for spec in Interface.from_onnx(self.found).inputs}, self.model.input_specs
        out = "leave model.inputs out, as it is read from the file"
        for spec in asked:
            if spec.name not in own:
                raise ModelError(
                    f"model.inputs names '{spec.name}', which {self.called} has not{nearest(spec.name, own)}"
                )
            its = own[spec.name]
            if (spec.shape, spec.dtype) != (its.shape, its.dtype):
                raise ModelError(
                    f"model.inputs.{spec.name} is {spec.dtype} {_listed(spec.shape)}, and in {self.called} it is"
                    f" {its.dtype} {_listed(its.shape)}; {out}"
                )
        missing = [name for name in own if name not in {spec.name for spec in asked}]
        if asked and missing:
            raise ModelError(f"model.inputs leaves out '{missing[0]}' of {self.called}; add it, or {out}")


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def _listed(shape: tuple[object, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _choose_outputs(found: onnx.ModelProto, model: Model, called: str) -> None:
    """Cut to model.outputs, if it names any. Raises ModelError for what the file has not."""
    own = [value.name for value in found.graph.output]
    for name in model.outputs:
        if name not in own:
            raise ModelError(f"model.outputs names '{name}', which is no output of {called}{nearest(name, own)}")
    if model.outputs:
        cut_to(found, model.outputs)


def _require_tensors(found: onnx.ModelProto, called: str) -> None:
    """Raises ModelError for an input or output that is no tensor of numbers with a batch."""
    weights = {tensor.name for tensor in found.graph.initializer}
    if all(value.name in weights for value in found.graph.input):
        raise ModelError(f"{called} has no input that an output depends on; give another file")
    for fault in unusable(found, called):
        raise ModelError(f"{fault.what}; {fault.remedy}")
