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
from enginewright.tasks import get_task
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
        network: from [N, *model.input_shape] float32 to one tensor [N, ...], or for a task of `every_output` several;
            it is put in evaluation mode.
        model: names of input and output, the input's shape without the batch, and the task.
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
    taken = TensorSpec(model.input_name, np.dtype(np.float32), (BATCH, *model.input_shape))
    feeds = random_feeds(Interface((taken,), ()), TRACED_BATCH, seed=0)
    # a fault of the network is told apart from one of the exporter
    interface = Interface((taken,), interface_of(reference.answer(feeds)).outputs)
    try:
        found = _trace(network, feeds[model.input_name], interface, settings.opset_version)
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
        """See `Reference`; outputs are named model.output_name, and from the second on with a number behind it."""
        tensors = self._run(feeds[self._model.input_name])
        return self._named([tensor.float().numpy() for tensor in tensors])

    def exact(self, feeds: Feeds, answered: Outputs) -> Optional[dict[str, Array]]:
        """See `Reference`; also None where the network draws random numbers."""
        import torch

        fed, before = feeds[self._model.input_name], torch.get_default_dtype()
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
        first = self._model.output_name
        return {first if number == 1 else f"{first}_{number}": array for number, array in enumerate(arrays, 1)}

    def _run(self, images: Array) -> tuple[torch.Tensor, ...]:
        import torch

        model = self._model
        what = f"{model.name} ({model.written_in})"
        try:
            with torch.no_grad():  # what a model caches in inference mode cannot be traced afterwards
                output = self._network(torch.from_numpy(images))
        except (RuntimeError, TypeError, ValueError, IndexError) as fault:  # of the user's own code
            raise ModelError(
                f"{what} cannot run on a float32 input {list(images.shape)}: {first_line(fault)}; model.input_shape"
                " must be what the model takes"
            ) from fault
        several = get_task(model.task).every_output
        tensors = _tensors(output) if several else (output,)
        if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
            alone = "return a tensor, or a tuple of tensors" if several else "return one tensor"
            raise ModelError(
                f"{what} returns a {type(output).__name__} and must {alone}; wrap the model so that it returns"
                f" '{model.output_name}' alone"
                + ("" if several else ", or set model.task=outputs, which judges every tensor of a tuple")
            )
        for tensor in tensors:
            if tensor.ndim == 0 or tensor.shape[0] != len(images):
                raise ModelError(
                    f"{what} returns {list(tensor.shape)} for a batch of {len(images)}; the first axis of its output"
                    " must be the batch"
                )
        return tensors


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
