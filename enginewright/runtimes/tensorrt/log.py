"""What TensorRT says while it parses and builds: warnings for the manifest, the last error for the user, layer lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    import tensorrt

    from enginewright.runtimes.tensorrt.bindings import Bindings

MAXIMUM_WARNINGS = 50  # distinct ones that are kept; TensorRT repeats itself by layer
LAYER_HEADS = ("Layers:", "Engine Layer Information:")  # TensorRT 10 and later, 8.6: the layers of the finished engine, one a line
# Said of the machine that builds, not of the engine; without a GPU TensorRT-RTX says it at every build.
NOT_ABOUT_THE_ENGINE = re.compile(r"Unable to determine GPU memory usage|CUDA lazy loading|cudaGetDeviceCount|Functionality provided through tensorrt")


class BuildLog:
    """Collects a build's messages; `listen` is told of every one as it comes."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.layer_text = ""  # the layers of the engine as the VERBOSE log prints them, if profiling verbosity is DETAILED
        self.listen: Optional[Callable[[str, str], None]] = None
        self._warnings: list[str] = []

    def add(self, severity: str, message: str) -> None:
        """Take one message; `severity` is the name of an ILogger.Severity. May be called from TensorRT's threads."""
        if severity in ("VERBOSE", "INFO") and message.lstrip().startswith(LAYER_HEADS):
            self.layer_text = message
        if severity == "VERBOSE" and self.listen is None:
            return  # hundred thousands of them
        text = " ".join(message.split())
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(text)
        elif severity == "WARNING" and not NOT_ABOUT_THE_ENGINE.search(text):
            self._warnings.append(text)
        if self.listen:
            self.listen(severity, text)

    def warnings(self) -> list[str]:
        """Each warning once, in the order of first appearance; errors that did not stop the build come first."""
        return fold([f"error: {text}" for text in self.errors] + self._warnings)

    def reason(self) -> str:
        """The first and the last error in one line: the cause is mostly the first, unless a tactic was skipped before."""
        ends = dict.fromkeys([*self.errors[:1], *self.errors[-1:]])
        return "; ".join(re.sub(r"^\[?[\w.:]*::\w+::\d+\]?\s*", "", text).rstrip(". ") for text in ends) or "it gave no reason"


def fold(messages: Iterable[str]) -> list[str]:
    """Messages that differ in numbers alone (not in names of tensors) become one, with their count: some come once a weight."""
    groups: dict[str, list[str]] = {}
    for message in messages:
        groups.setdefault(re.sub(r"(?<![\w/.])[-+]?\d[\w.+-]*", "#", message), []).append(message)
    folded = [group[0] if len(group) == 1 else f"{group[0]} (and {len(group) - 1} more like it)" for group in groups.values()]
    left_out = len(folded) - MAXIMUM_WARNINGS
    return folded if left_out <= 0 else [*folded[:MAXIMUM_WARNINGS], f"and {left_out} more"]


def as_logger(trt: Bindings, log: BuildLog) -> tensorrt.ILogger:
    """An ILogger of this library that writes to `log`. It must outlive every object made with it."""

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]  # the base is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
            log.add(severity.name, msg)

    return Logger()
