"""probe_target: what would invalidate an engine built elsewhere, and, apart from it, what identifies the calibrator."""

from collections.abc import Callable, Mapping
from typing import Any

from enginewright.errors import RuntimeUnavailable
from enginewright.manifest import write_json
from enginewright.runtimes import AUTO, get_runtime, runtime_named
from enginewright.runtimes.base import Capability
from enginewright.stage import Stage, script
from enginewright.target import WHY_NOT


@script
def probe_target(stage: Stage) -> None:
    """Always runs; an unchanged file leaves everything behind it alone. A machine without a runtime may still restore
    and run all that is not bound to a target, so that only what needs one refuses.
    """
    write_json(stage.paths.target, _or_why_not(lambda: _target(stage)))
    write_json(stage.paths.calibrator, _or_why_not(lambda: _calibrator(stage)))


def _or_why_not(probe: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return probe()
    except RuntimeUnavailable as fault:
        return {WHY_NOT: str(fault)}


def _target(stage: Stage) -> Mapping[str, Any]:
    """A runtime that is named may build for another machine; `auto` must be able to measure what it builds."""
    name = stage.params.runtime
    runtime = get_runtime(name, Capability.build, *([Capability.run] if name == AUTO else []))
    return runtime.target_for(stage.params.build).to_dict()


def _calibrator(stage: Stage) -> Mapping[str, Any]:
    """A calibrator that is named need not be here: on a target the cache may come from where it was made, and only
    `calibrate` needs the tool.
    """
    name = stage.params.calibration.runtime
    calibrator = get_runtime(name, Capability.calibrate) if name == AUTO else runtime_named(name)
    return {"runtime": calibrator.name, **calibrator.calibrator_identity()}


if __name__ == "__main__":
    probe_target()
