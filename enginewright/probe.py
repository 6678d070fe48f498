"""What probe_target looks for: the target that engines are for, and the calibrator; where one is missing, why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enginewright.config import Build, Model
from enginewright.errors import ConfigError, RuntimeUnavailable
from enginewright.layout import Layout
from enginewright.runtimes import AUTO, get_runtime, runtime_named
from enginewright.runtimes.base import Capability
from enginewright.runtimes.kernels import calibrator_identity
from enginewright.target import WHY_NOT


def probe_runtime(name: str, settings: Build) -> Mapping[str, Any]:
    """What makes an engine built elsewhere invalid here, or WHY_NOT.

    A runtime that is named may build for another machine; `auto` must be able to measure what it builds.
    """
    try:
        runtime = get_runtime(name, Capability.build, *([Capability.run] if name == AUTO else []))
        return runtime.target_for(settings).to_dict()
    except RuntimeUnavailable as fault:
        return {WHY_NOT: str(fault)}


def probe_calibrator(name: str, model: Model, paths: Layout) -> Mapping[str, Any]:
    """What identifies the calibrator, or WHY_NOT.

    A calibrator that is named need not be here: on a target the cache may come from where it was made, and only
    `calibrate` needs the tool.
    """
    try:
        calibrator = get_runtime(name, Capability.calibrate) if name == AUTO else runtime_named(name)
        return calibrator_identity(calibrator, model, paths)
    except (RuntimeUnavailable, ConfigError) as fault:
        return {WHY_NOT: str(fault)}
