"""probe_target: what would invalidate an engine built elsewhere, and, apart from it, what identifies the calibrator."""

from enginewright.config import RuntimeName
from enginewright.manifest import write_json
from enginewright.runtimes import get_runtime, runtime_named
from enginewright.runtimes.base import Task
from enginewright.stage import Stage, script


@script
def probe_target(stage: Stage) -> None:
    """Always runs; an unchanged file leaves everything behind it alone."""
    name = stage.params.runtime
    # A backend that is named may build for another machine; `auto` must be able to measure what it builds.
    runtime = get_runtime(name, Task.build, *([Task.run] if name is RuntimeName.auto else []))
    write_json(stage.paths.target, runtime.fingerprint(stage.params.build).to_dict())
    # A calibrator that is named need not be here: on a target the cache may come from where it was made, and only
    # `calibrate` needs the tool.
    wanted = stage.params.calibration.runtime
    calibrator = get_runtime(wanted, Task.calibrate) if wanted is RuntimeName.auto else runtime_named(wanted)
    write_json(stage.paths.calibrator, {"runtime": calibrator.name, **calibrator.calibrator()})


if __name__ == "__main__":
    probe_target()
