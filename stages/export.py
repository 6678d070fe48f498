"""export: PyTorch to one ONNX file with a dynamic batch, compared with PyTorch on 1, 2 and 7 calibration images."""

from enginewright.data import Feeding, ImageSet
from enginewright.feeds import FloatInput
from enginewright.importers.pytorch import BATCHES, compare, metrics, require_equal, require_task, to_onnx
from enginewright.interface import Interface
from enginewright.manifest import Usage
from enginewright.models.code import watching
from enginewright.models.loading import load_model
from enginewright.stage import Stage, script


@script
def export(stage: Stage) -> None:
    """The metrics are written before the tolerance is held, so that a failed stage shows by how much."""
    import onnx

    interface, settings = stage.params.model, stage.params.export
    feeding = Feeding(ImageSet.open(stage.paths.calibration_images), stage.params.data.preprocessing)
    fed = next(feeding.batches([FloatInput(interface.input_name)], max(BATCHES)), None)
    images = fed[interface.input_name] if fed else None
    with watching(interface, stage.paths, stage_reads=True):  # what `forward` imports counts too
        model = load_model(interface, stage.paths)
        require_task(model, interface)
        exported = to_onnx(model, interface, settings)
        comparison = compare(model, exported, interface, stage.params.seed, images=images, tolerance=settings.tolerance)
    stage.write_metrics(metrics(exported, comparison))
    require_equal(comparison, interface, settings.tolerance)
    inputs = [stage.paths.file(interface.code), stage.paths.file(interface.weights)]
    found = Interface.from_onnx(onnx.load_from_string(exported)).with_batch()
    usage = Usage(found, feeding.preprocessing.to_dict(), feeding.images.classes)
    origin = {"opset_version": settings.opset_version}
    with stage.output(stage.paths.model, inputs, settings=origin, usage=usage) as path:
        path.write_bytes(exported)


if __name__ == "__main__":
    export()
