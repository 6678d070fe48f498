"""The registry of runtimes. Each of ours is a package here that exports RUNTIME, imported on first use; an installed
package adds one as an entry point in the group `enginewright.runtimes`.
"""

from __future__ import annotations

from typing import cast

from enginewright.errors import RuntimeUnavailable
from enginewright.registry import AUTO as AUTO, RUNTIMES as RUNTIMES
from enginewright.runtimes.base import Capability, Runtime

AUTO_ORDER = ("tensorrt", "tensorrt_rtx", "onnxruntime")  # what `auto` tries; others are reached by name only


def runtime_named(name: str) -> Runtime:
    """Return the runtime `name` without asking what it can do here. Raises ConfigError: there is none."""
    return cast(Runtime, RUNTIMES.get(name))


def get_runtime(name: str, *capabilities: Capability) -> Runtime:
    """Return the runtime `name`, or for `auto` the first that has all `capabilities` here.

    Raises:
        ConfigError: there is no such runtime.
        RuntimeUnavailable: with each runtime's reason.
    """
    reasons = []
    for candidate in AUTO_ORDER if name == AUTO else (name,):
        runtime = runtime_named(candidate)
        reason = next((why for capability in capabilities if (why := runtime.why_not(capability))), None)
        if reason is None:
            return runtime
        reasons.append(f"{candidate}: {reason}")
    wanted = " and ".join(capability.value for capability in capabilities)
    raise RuntimeUnavailable(f"nothing here can {wanted} ({'; '.join(reasons)})")
