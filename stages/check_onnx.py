"""check_onnx: whether the ONNX is sound and every runtime can take it; builds depend on the verdict."""

from enginewright import manifest
from enginewright.check_onnx import inspect
from enginewright.errors import ModelError
from enginewright.stage import Stage, script
from enginewright.views.check_onnx import show


@script
def check_onnx(stage: Stage) -> None:
    """Report and metrics are written in any case; a fail ends the stage with the first findings."""
    manifest.verify(stage.paths.model)
    report = inspect(stage.paths.model, stage.params.export.opset_version)
    show(report)
    folder = stage.paths.check_report.parent
    with manifest.replacing(folder / "graph.txt") as path:
        path.write_text(report.graph)
    with stage.output(stage.paths.check_report, [stage.paths.model]) as path:
        manifest.write_json(path, report.to_dict())
    stage.write_metrics(report.metrics())
    if report.verdict == "fail":
        raise ModelError(f"{stage.paths.model} fails its check ({stage.paths.check_report}): {report.failure()}")


if __name__ == "__main__":
    check_onnx()
