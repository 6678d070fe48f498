"""What the stage export does: import the model, hold it to its task and to its original, and say how it is used."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from enginewright.config import Params, ranges
from enginewright.data import Feeding, ImageSet
from enginewright.importers import Imported, importer_named
from enginewright.importers.compare import Comparison, compare
from enginewright.importers.custom import Kernels
from enginewright.importers.examples import BATCHES
from enginewright.importers.normalize import normalized
from enginewright.interface import Interface
from enginewright.layout import Layout
from enginewright.manifest import Usage
from enginewright.plugins import PORTABLE, configured
from enginewright.tasks import judged, task_of
from enginewright.tasks.classes import require_classes


@dataclass(frozen=True)
class Exported:
    """The file that the pipeline keeps of a model, and how far it is from its original."""

    model: onnx.ModelProto  # its large weights in files (`enginewright.graph.stored`)
    imported: Imported
    comparison: Comparison
    usage: Usage
    kernels: Kernels


def export_model(params: Params, paths: Layout) -> Exported:
    """Import the model and compare it with its original on calibration samples.

    Raises:
        ConfigError: a file of model.plugins does not exist, the task judges one output and none is chosen, or a dynamic
            axis has no range in `axes`.
        ModelError: the model cannot be imported, its task cannot judge it, or it does not take a size of its axes.
        DataError: the classes of the data are not the model's, or a calibration sample is out of the range of an axis.
        StaleArtifact: the calibration samples are not whole.
    """
    model, settings, axes = params.model, params.export, ranges(params.axes)
    feeding = Feeding(ImageSet.open(paths.calibration_images), params.data.preprocessing)
    sources = configured(model, paths, *PORTABLE)
    kernels = Kernels(sources.copy_beside(paths.model), tuple(model.plugins.tensorrt))
    with importer_named(model.source)(model, settings, paths, axes) as imported:
        task, answers = task_of(model), judged(model, imported.interface)
        task.check(answers, f"{imported.name} ({imported.origin})")
        require_classes(task, answers, feeding.images)
        imported.interface.shapes(axes)  # refuses an axis without a range
        feeding.require_within(imported.interface, axes)
        samples = next(feeding.batches(imported.interface.inputs, max(BATCHES)), None)
        typed = kernels.with_types(imported.model, imported.interface, axes, samples)
        exported = normalized(typed)
        found = compare(
            imported,
            exported,
            seed=params.seed,
            axes=axes,
            samples=samples,
            tolerance=settings.tolerance,
            kernels=kernels,
        )
    interface = Interface.from_onnx(exported).with_batch()
    usage = Usage(interface, feeding.preprocessing.to_dict(), feeding.images.classes)
    files = (*imported.files, *sources.paths)
    return Exported(exported, replace(imported, files=files), found, usage, kernels)
