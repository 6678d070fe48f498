"""export: the model as one ONNX file, compared with the original on 1, 2 and 7 samples and at each axis' ends."""

from enginewright.graph import stored
from enginewright.importers.compare import require_equal
from enginewright.importers.export import export_model
from enginewright.importers.metrics import metrics
from enginewright.stage import Stage, script


@script
def export(stage: Stage) -> None:
    """The metrics are written before the tolerance is held, so that a failed stage shows by how much."""
    made, settings = export_model(stage.params, stage.paths), stage.params.export
    for notice in made.imported.notices:
        print(f"export: {notice}")
    if made.comparison.not_run:
        print(f"export: not compared: {made.comparison.not_run}")
    stage.write_metrics(metrics(made.model, made.comparison, made.imported.licence))
    require_equal(made.comparison, made.imported, settings.tolerance)
    inputs, kernels = made.imported.files, made.kernels
    origin = {
        "opset_version": settings.opset_version,
        **made.imported.licence,
        **kernels.described(made.model, made.comparison.not_run),
    }
    beside = kernels.plugins.roles
    with stage.output(stage.paths.model, inputs, settings=origin, files=beside, usage=made.usage) as path:
        stored.write(made.model, path)


if __name__ == "__main__":
    export()
