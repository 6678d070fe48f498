"""check_drift: whether the validation images are like the calibration images, in every tensor that INT8 rounds."""

from __future__ import annotations

from enginewright import drift, manifest
from enginewright.stage import Metrics, Stage, script
from enginewright.views import drift as view, metrics


@script
def check_drift(stage: Stage) -> Metrics:
    """Record table, report and metrics; drift is a warning, and with check_drift.fail `gate` stops the pipeline."""
    report, folder = drift.check(stage.params, stage.paths), stage.paths.drift
    stage.tables(folder, report.tables(), [], sealed=None)
    with stage.output(folder / "report.json", report.inputs, settings=report.settings) as temporary:
        manifest.write_json(temporary, report.result.to_json())
    view.show(report)
    return metrics.of_drift(report.result)


if __name__ == "__main__":
    check_drift()
