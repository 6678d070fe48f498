"""The importer `pytorch`: a factory and a state dict, traced to ONNX with a dynamic batch.

The TorchScript exporter (`dynamo=False`) is used for every opset that the configuration allows: the default exporter of
PyTorch 2.9 and later writes opset 18 and converts down, and TensorRT 8.6 refuses what comes out
(github.com/NVIDIA/TensorRT/issues/3934).
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import onnx

from enginewright.config import Export, Model
from enginewright.errors import ModelError
from enginewright.feeds import Array, Feeds, Outputs
from enginewright.importers import Imported
from enginewright.importers.compare import TRACED_BATCH, first_line, random_feeds
from enginewright.importers.normalize import normalized
from enginewright.interface import BATCH, Interface, TensorSpec
from enginewright.layout import Layout
from enginewright.models.code import source_files, watching
from enginewright.models.loading import load_model
from enginewright.tasks.base import interface_of

if TYPE_CHECKING:
    import torch

ONE_FILE_LIMIT = 2**31 - 1  # bytes of a protobuf message


@contextlib.contextmanager
def pytorch(model: Model, settings: Export, paths: Layout) -> Iterator[Imported]:
    """Load the model and trace it. See `Importer`."""
    with watching(model, paths, stage_reads=True):  # what `forward` imports counts too
        files = (*source_files(model, paths), paths.file(model.weights))
        yield traced(load_model(model, paths), model, settings, files)


def to_onnx(network: torch.nn.Module, model: Model, settings: Export) -> bytes:
    """Return a network as the file that the pipeline keeps of it, see `traced` and `normalized`."""
    return normalized(traced(network, model, settings).model)


def traced(network: torch.nn.Module, model: Model, settings: Export, files: tuple[Path, ...] = ()) -> Imported:
    """Trace a network.

    Args:
        network: from what model.inputs describes to the tensors that model.outputs names, [N, ...] each; it is put in
            evaluation mode.
        model: names, shapes and dtypes.
        settings: the opset.
        files: what the network was made from.

    Raises:
        ModelError: the network is over 2 GiB, cannot run on such an input, returns what is no tensor, or has no ONNX
            form.
    """
    import torch

    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if size > ONE_FILE_LIMIT:
        raise ModelError(
            f"{model.name} holds {size / 2**30:.1f} GiB of weights and one ONNX file takes 2 GiB at most; use a smaller"
            " model"
        )
    reference = Network(network, model)
    taken = _one_input(model)
    feeds = random_feeds(Interface((taken,), ()), TRACED_BATCH, seed=0)
    # a fault of the network is told apart from one of the exporter
    interface = Interface((taken,), interface_of(reference.answer(feeds)).outputs)
    try:
        found = _trace(network, feeds[taken.name], interface, settings.opset_version)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as fault:
        later = ", or raise export.opset_version" if "was added in version" in first_line(fault) else ""
        raise ModelError(
            f"{model.name} has no ONNX form at opset {settings.opset_version}: {first_line(fault)}; replace that"
            f" operation in {model.written_in}{later}"
        ) from fault
    return Imported(model.name, model.written_in, found, interface, files, reference)


class Network:
    """The model in PyTorch. See `Reference`."""

    framework = "PyTorch"

    def __init__(self, network: torch.nn.Module, model: Model) -> None:
        """`network` is put in evaluation mode; `model` names its input and outputs."""
        self._network, self._model = network.eval(), model

    def answer(self, feeds: Feeds) -> dict[str, Array]:
        """See `Reference`; outputs are named as model.outputs has them."""
        tensors = self._run(feeds[_one_input(self._model).name])
        return self._named([tensor.float().numpy() for tensor in tensors])

    def exact(self, feeds: Feeds, answered: Outputs) -> Optional[dict[str, Array]]:
        """See `Reference`; also None where the network draws random numbers."""
        import torch

        fed, before = feeds[_one_input(self._model).name], torch.get_default_dtype()
        try:
            with torch.no_grad():
                repeated = [tensor.float().numpy() for tensor in _tensors(self._network(torch.from_numpy(fed)))]
                if not all(np.array_equal(one, other) for one, other in zip(repeated, answered.values())):
                    return None
                torch.set_default_dtype(torch.float64)  # of what `forward` makes itself
                answer = copy.deepcopy(self._network).double()(torch.from_numpy(fed).double())
        except (RuntimeError, TypeError, ValueError):  # code that insists on float32, or a module that cannot be copied
            return None
        finally:
            torch.set_default_dtype(before)
        found = self._named([tensor.double().numpy() for tensor in _tensors(answer)])
        return found if all(np.isfinite(its).all() for its in found.values()) else None

    def _named(self, arrays: list[Array]) -> dict[str, Array]:
        return dict(zip(self._model.outputs, arrays))

    def _run(self, images: Array) -> tuple[torch.Tensor, ...]:
        import torch

        model = self._model
        what = f"{model.name} ({model.written_in})"
        try:
            with torch.no_grad():  # what a model caches in inference mode cannot be traced afterwards
                output = self._network(torch.from_numpy(images))
        except (RuntimeError, TypeError, ValueError, IndexError) as fault:  # of the user's own code
            raise ModelError(
                f"{what} cannot run on a float32 input {list(images.shape)}: {first_line(fault)}; model.inputs"
                " must be what the model takes"
            ) from fault
        tensors = _tensors(output)
        if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
            raise ModelError(
                f"{what} returns a {type(output).__name__} and must return a tensor, or a tuple of tensors; wrap the"
                f" model so that it returns {', '.join(model.outputs)}"
            )
        if len(tensors) != len(model.outputs):
            raise ModelError(
                f"{what} returns {len(tensors)} tensors and model.outputs names {len(model.outputs)}"
                f" ({', '.join(model.outputs)}); name every one, in the order in which forward returns them"
            )
        for tensor in tensors:
            if tensor.ndim == 0 or tensor.shape[0] != len(images):
                raise ModelError(
                    f"{what} returns {list(tensor.shape)} for a batch of {len(images)}; the first axis of its output"
                    " must be the batch"
                )
        return tensors


def _one_input(model: Model) -> TensorSpec:
    """Raises ModelError for what is not there yet."""
    specs = model.input_specs
    if len(specs) != 1 or specs[0].dtype != np.float32 or any(isinstance(axis, str) for axis in specs[0].shape[1:]):
        raise ModelError(
            f"{model.name} ({model.written_in}): the importer pytorch takes one float32 input whose axes have sizes but"
            " for the batch; change model.inputs"
        )
    return specs[0]


def _tensors(output: Any) -> tuple[torch.Tensor, ...]:
    """One tensor, or a tuple or list of them."""
    return tuple(output) if isinstance(output, (tuple, list)) else (output,)


def _trace(network: torch.nn.Module, example: Array, interface: Interface, opset_version: int) -> onnx.ModelProto:
    import torch

    inputs, outputs = ([spec.name for spec in specs] for specs in (interface.inputs, interface.outputs))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # PyTorch's, on the exporter that the head of this module gives reasons for
        warnings.simplefilter("ignore", DeprecationWarning)
        # of a negative Slice in F.pad: it stays in the graph, and is right
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            network,
            (torch.from_numpy(example),),
            Path(folder) / "model.onnx",
            opset_version=opset_version,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: BATCH} for name in (*inputs, *outputs)},
            do_constant_folding=True,
            dynamo=False,
        )
        return onnx.load_model(Path(folder) / "model.onnx")
