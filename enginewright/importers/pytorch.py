"""The importer `pytorch`: a factory and a state dict, exported to ONNX with the axes that model.inputs names."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import onnx

from enginewright.config import Export, Exporter, Model, WeightsFrom, default_axes
from enginewright.errors import EnginewrightError, ModelError
from enginewright.feeds import Array, Feeds, Outputs
from enginewright.graph import stored
from enginewright.importers import Imported, Tried, dynamo, torchscript
from enginewright.importers.compare import first_line
from enginewright.importers.examples import (
    CannotRun,
    Sizes,
    another_size,
    example_sizes,
    feeds_at,
    moved_axes,
)
from enginewright.importers.normalize import normalized
from enginewright.importers.returned import picked, returning
from enginewright.interface import BATCH, Axes, Interface, TensorSpec
from enginewright.layout import Layout
from enginewright.models.code import source_files, watching
from enginewright.models.loading import load_model, make_model
from enginewright.usercode.faults import told

if TYPE_CHECKING:
    import torch

LIBRARY = __name__.partition(".")[0]
ONE_FILE_LIMIT = 2**31 - 1  # bytes of a protobuf message


class PyTorch:
    """The importer. See `Importer` and `DryRun`."""

    @contextlib.contextmanager
    def __call__(self, model: Model, settings: Export, paths: Layout, axes: Axes) -> Iterator[Imported]:
        """Load the model and export it."""
        with watching(model, paths, stage_reads=True):  # what `forward` imports counts too
            files = (*source_files(model, paths), paths.file(model.weights))
            yield traced(load_model(model, paths), model, settings, files, axes=axes)

    def dry_run(self, model: Model, paths: Layout, axes: Axes) -> Tried:
        """Make the model, load weights that are there, and run it. The library's own models are not tried."""
        if not model.own_code and model._target_.startswith(f"{LIBRARY}."):
            return Tried()
        if importlib.util.find_spec("torch") is None:
            return Tried(note="torch is not installed here, so `export` is the first to run the model")
        has_weights = model.weights_from is WeightsFrom.file and paths.file(model.weights).is_file()
        with watching(model, paths, stage_reads=True):
            network = (load_model if has_weights else make_model)(model, paths)
            return Tried(described(Network(network, model), axes))


pytorch = PyTorch()


def to_onnx(network: torch.nn.Module, model: Model, settings: Export, axes: Optional[Axes] = None) -> bytes:
    """Return a network as the file that the pipeline keeps of it, see `traced` and `normalized`."""
    return stored.serialized(normalized(traced(network, model, settings, axes=axes).model))


def traced(
    network: torch.nn.Module,
    model: Model,
    settings: Export,
    files: tuple[Path, ...] = (),
    *,
    axes: Optional[Axes] = None,
) -> Imported:
    """Trace a network.

    Args:
        network: from what model.inputs describes to the tensors that model.outputs names, [N, ...] each; it is put in
            evaluation mode.
        model: names, shapes and dtypes.
        settings: the opset.
        files: what the network was made from.
        axes: the range of each named axis; None is the configuration's default.

    Raises:
        ModelError: the network is over 2 GiB, cannot run on such inputs, returns what is no tensor, or has no ONNX
            form.
    """
    import torch

    axes = default_axes() if axes is None else axes
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if size > ONE_FILE_LIMIT:
        raise ModelError(
            f"{model.name} holds {size / 2**30:.1f} GiB of weights and one ONNX file takes 2 GiB at most; use a smaller"
            " model"
        )
    # a fault of the network is told apart from one of the exporter
    reference = Network(network, model)
    interface = described(reference, axes)
    taken, sizes = Interface(interface.inputs, ()), example_sizes(interface, axes)
    try:
        found = _exported(reference, feeds_at(taken, sizes, seed=0), interface, settings, axes)
    # ValueError: of an operator without a symbolic function
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as fault:
        later = ", or raise export.opset_version" if "was added in version" in first_line(fault) else ""
        raise ModelError(
            f"{model.name} has no ONNX form at opset {settings.opset_version}: {first_line(fault)}; replace that"
            f" operation in {model.written_in}{later}{_own_operators(settings)}"
        ) from fault
    return Imported(model.name, model.written_in, found, interface, files, reference)


def _own_operators(settings: Export) -> str:
    """How an operator of the user's own gets an ONNX form, where the exporter has no way for it."""
    if settings.exporter is Exporter.torchscript:
        return ""
    return ", or set export.exporter=torchscript, which uses torch.onnx.register_custom_op_symbolic"


def described(reference: Network, axes: Axes) -> Interface:
    """Run a network at the sizes of an example and at others, and return what it takes and gives.

    Raises:
        ModelError: it does not run, or returns what is no tensor.
    """
    _require_order(reference.network, reference.model)
    taken = Interface(reference.model.input_specs, ())
    return Interface(taken.inputs, _outputs(reference, taken, axes, example_sizes(taken, axes)))


class Network:
    """The model in PyTorch. See `Reference`."""

    framework = "PyTorch"

    def __init__(self, network: torch.nn.Module, model: Model) -> None:
        """`network` is put in evaluation mode; `model` names its inputs and outputs."""
        self.network, self.model = network.eval(), model
        self.what = f"{model.name} ({model.written_in})"

    def answer(self, feeds: Feeds) -> dict[str, Array]:
        """See `Reference`; outputs are named as model.outputs has them, and numbers are float32, or integers."""
        tensors, batch = picked(self.returned(feeds), self.model.outputs, self.what), len(next(iter(feeds.values())))
        for tensor in tensors:
            if tensor.ndim == 0 or tensor.shape[0] != batch:
                raise ModelError(
                    f"{self.what} returns {list(tensor.shape)} for a batch of {batch}; the first axis of its output"
                    f" must"
                    " be the batch"
                )
        return self._named([_array(tensor) for tensor in tensors])

    def exact(self, feeds: Feeds, answered: Outputs) -> Optional[dict[str, Array]]:
        """See `Reference`; also None where the network draws random numbers."""
        import torch

        outputs, given, before = self.model.outputs, self.arguments(feeds), torch.get_default_dtype()
        wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in given]
        try:
            with torch.no_grad():
                repeated = [_array(tensor) for tensor in picked(self.network(*given), outputs, self.what)]
                if not all(np.array_equal(one, other) for one, other in zip(repeated, answered.values())):
                    return None
                torch.set_default_dtype(torch.float64)  # of what `forward` makes itself
                answer = picked(copy.deepcopy(self.network).double()(*wide), outputs, self.what)
        except (RuntimeError, TypeError, ValueError):  # code that insists on float32, or a module that cannot be copied
            return None
        finally:
            torch.set_default_dtype(before)
        found = self._named([tensor.double().numpy() for tensor in answer])
        return found if all(np.isfinite(its).all() for its in found.values()) else None

    def returned(self, feeds: Feeds) -> Any:
        """What `forward` returns. Raises CannotRun."""
        import torch

        try:
            with torch.no_grad():  # what a model caches in inference mode cannot be traced afterwards
                return self.network(*self.arguments(feeds))
        except (RuntimeError, TypeError, ValueError, IndexError) as fault:  # of the user's own code
            reason = first_line(fault)
            raise CannotRun(
                f"{self.what} cannot run on {_described(feeds)}: {reason}; model.inputs must be what the model takes",
                reason,
            ) from fault
        except EnginewrightError:
            raise
        except (Exception, SystemExit) as fault:
            reason = told(fault)
            raise CannotRun(f"{self.what} cannot run on {_described(feeds)}: {reason}", reason) from fault

    def arguments(self, feeds: Feeds) -> tuple[torch.Tensor, ...]:
        """The arguments of `forward`."""
        import torch

        return tuple(torch.from_numpy(feeds[spec.name]) for spec in self.model.input_specs)

    def _named(self, arrays: list[Array]) -> dict[str, Array]:
        return dict(zip(self.model.outputs, arrays))


def _array(tensor: torch.Tensor) -> Array:
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def _described(feeds: Feeds) -> str:
    """Such as "a float32 input [2, 3, 224, 224]"."""
    if len(feeds) == 1:
        (values,) = feeds.values()
        return f"a {values.dtype} input {list(values.shape)}"
    return f"the inputs {', '.join(f'{name} {values.dtype} {list(values.shape)}' for name, values in feeds.items())}"


def _require_order(network: torch.nn.Module, model: Model) -> None:
    """Raises ModelError if model.inputs names parameters of `forward` in another order: each would get another's."""
    try:
        taken = list(inspect.signature(network.forward).parameters)
    except (TypeError, ValueError):  # of a forward written in C
        return
    if any(name in taken and taken.index(name) != place for place, name in enumerate(model.inputs)):
        raise ModelError(
            f"model.inputs names {', '.join(model.inputs)} and forward of {model.name} ({model.written_in}) takes"
            f" {', '.join(taken)}; write the inputs in forward's order and leave none out in between, or wrap the model"
        )


def _outputs(reference: Network, taken: Interface, axes: Axes, sizes: Sizes) -> tuple[TensorSpec, ...]:
    """Run the network at the sizes of the example and at others, and name the axes of its outputs by what they follow.

    An axis that moves in another way, such as an eighth of a height, gets a name of its own.

    Raises:
        ModelError: it does not run at one of the sizes.
    """
    base = _run_at(reference, taken, axes, sizes)
    names: dict[tuple[str, int], set[str]] = {}
    for axis in taken.axes():
        other = another_size(axis, axes[axis], sizes[axis])
        if other is None:
            continue
        try:
            answer = reference.answer(feeds_at(taken, {**sizes, axis: other}, seed=0))
        except CannotRun as fault:
            raise fault.at(reference.what, axis, other, sizes[axis]) from None
        for name, place, equal in moved_axes(base, answer, sizes[axis], other):
            names.setdefault((name, place), set()).add(axis if equal else f"{name}_{place}")
    specs = []
    for name, array in base.items():
        shape: list[Union[int, str]] = [BATCH, *array.shape[1:]]
        for place in range(1, array.ndim):
            followed = names.get((name, place), set())
            if followed:
                shape[place] = followed.pop() if len(followed) == 1 else f"{name}_{place}"
        specs.append(TensorSpec(name, array.dtype, tuple(shape)))
    return tuple(specs)


def _run_at(reference: Network, taken: Interface, axes: Axes, sizes: Sizes) -> dict[str, Array]:
    """The answer to the example. Raises ModelError; a network that runs on one sample alone is told so."""
    try:
        return reference.answer(feeds_at(taken, sizes, seed=0))
    except CannotRun as fault:
        if BATCH not in sizes or sizes[BATCH] == 1 or axes[BATCH].min > 1:
            raise
        try:
            reference.returned(feeds_at(taken, {**sizes, BATCH: 1}, seed=0))
        except CannotRun:
            raise fault from None
        raise fault.at(reference.what, BATCH, sizes[BATCH], 1) from None


def _exported(
    reference: Network, example: Feeds, interface: Interface, settings: Export, axes: Axes
) -> onnx.ModelProto:
    exporter = dynamo.exported if settings.exporter is Exporter.dynamo else torchscript.exported
    flat = returning(reference.network, reference.model.outputs, reference.what, reference.returned(example))
    with flat:
        return exporter(reference.network, reference.arguments(example), interface, settings.opset_version, axes)
