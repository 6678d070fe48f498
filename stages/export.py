"""export: the model as one ONNX file with a dynamic batch, compared with the original on 1, 2 and 7 samples."""

from enginewright.data import Feeding, ImageSet
from enginewright.importers import importer_named
from enginewright.importers.compare import BATCHES, compare, require_equal
from enginewright.importers.metrics import metrics
from enginewright.importers.normalize import normalized
from enginewright.interface import Interface
from enginewright.manifest import Usage
from enginewright.stage import Stage, script
from enginewright.tasks import get_task, judged


@script
def export(stage: Stage) -> None:
    """The metrics are written before the tolerance is held, so that a failed stage shows by how much."""
    import onnx

    model, settings = stage.params.model, stage.params.export
    feeding = Feeding(ImageSet.open(stage.paths.calibration_images), stage.params.data.preprocessing)
    with importer_named(model.source)(model, settings, stage.paths) as imported:
        get_task(model.task).check(judged(model, imported.interface), f"{imported.name} ({imported.origin})")
        samples = next(feeding.batches(imported.interface.inputs, max(BATCHES)), None)
        exported = normalized(imported.model)
        comparison = compare(imported, exported, seed=stage.params.seed, samples=samples, tolerance=settings.tolerance)
    stage.write_metrics(metrics(exported, comparison))
    require_equal(comparison, imported, settings.tolerance)
    found = Interface.from_onnx(onnx.load_from_string(exported)).with_batch()
    usage = Usage(found, feeding.preprocessing.to_dict(), feeding.images.classes)
    origin = {"opset_version": settings.opset_version}
    with stage.output(stage.paths.model, imported.files, settings=origin, usage=usage) as path:
        path.write_bytes(exported)


if __name__ == "__main__":
    export()
