"""probe_target: what would invalidate an engine built elsewhere, and, apart from it, what identifies the calibrator."""

from __future__ import annotations

from enginewright.manifest import write_json
from enginewright.probe import probe_calibrator, probe_runtime
from enginewright.stage import Stage, script


@script
def probe_target(stage: Stage) -> None:
    """Always runs; an unchanged file leaves everything behind it alone. A machine without a runtime may still restore
    and run all that is not bound to a target, so that only what needs one refuses.
    """
    params, paths = stage.params, stage.paths
    write_json(paths.target, probe_runtime(params.runtime, params.build))
    write_json(paths.calibrator, probe_calibrator(params.calibration.runtime, params.model, paths))


if __name__ == "__main__":
    probe_target()
