"""What TensorRT says while it parses and builds: warnings for the manifest, the last error for the user, layer
lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    import tensorrt

    from enginewright.runtimes.tensorrt.bindings import Bindings

MAXIMUM_WARNINGS = 50  # distinct ones that are kept; TensorRT repeats itself by layer
LAYER_HEADS = (
    "Layers:",
    "Engine Layer Information:",
)  # TensorRT 10 and later, 8.6: the layers of the finished engine, one a line
# What TensorRT says at warning or error level and what says nothing about the engine: each with the reason. Texts as
# 8.6, 10 and TensorRT-RTX 1.7 write them.
HARMLESS = (
    ("Unable to determine GPU memory usage", "of the machine that builds: TensorRT-RTX without a GPU"),
    ("CUDA lazy loading", "of the machine that builds: a setting that saves memory"),
    ("cudaGetDeviceCount", "of the machine that builds: there is no GPU, and TensorRT-RTX needs none"),
    ("Functionality provided through tensorrt", "a deprecation in the bindings, of what we do not use"),
    (r"myelinCache\.h::deserializeFromBuffer", "8.6 cannot read Myelin's part of a stored timing cache (docs/h100.md)"),
    ("The timing cache will not be used", "says the same again; the rest of the cache is used (docs/h200.md)"),
    ("generated with INT64 weights", "indices and sizes, which fit into INT32; others have a warning of their own"),
    ("Check verbose logs for the list of affected weights", "points to a log that nobody keeps"),
    ("If this is not the desired behavior, please modify the weights", "advice for the lines beside it"),
    ("encountered issues when converting weights between types", "heads the lines that name the issues"),
    (r"Using kFASTER_DYNAMIC_SHAPES\w* preview feature", "the default of 8.6 for a dynamic batch"),
    ("Calibrator won't be used in explicit precision mode", "the scales are in the Q/DQ nodes"),
    ("Calibrator is not being used", "the scales are in the Q/DQ nodes; a build without any is refused before"),
    ("Int8 mode specified but no calibrator specified", "the same"),
    (r"Make sure (input|output) .* has Int64 binding", "engines give and take each tensor in its own type"),
    ("Empty initializer .* was provided with non-empty data", "an input that is left out, such as a Resize's sizes"),
)
# A kernel that was left out is no reason for a build to fail: it stands among the warnings, and not in front of the
# cause.
SKIPPED = re.compile(
    r"insufficient to use tactic|[Ss]kipping tactic|Tactic Device request|due to insufficient (memory on requested"
    r" size|workspace)"
)
# The device or its memory failed, not the model: the same build may succeed in a minute.
OF_THE_DEVICE = re.compile(
    r"out of memory|OutOfMemory|could not be allocated|[Cc]uda (Runtime|Driver|Error)|CUDA[_ ](ERROR|error)|cudaError"
)
_HARMLESS = re.compile("|".join(f"(?:{pattern})" for pattern, _ in HARMLESS))


class BuildLog:
    """Collects a build's messages; `listen` is told of every one as it comes."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        # the layers of the engine as the VERBOSE log prints them, if profiling verbosity is DETAILED
        self.layer_text = ""
        self.listen: Optional[Callable[[str, str], None]] = None
        self._warnings: list[str] = []

    def add(self, severity: str, message: str) -> None:
        """Take one message; `severity` is the name of an ILogger.Severity. May be called from TensorRT's threads."""
        if severity in ("VERBOSE", "INFO") and message.lstrip().startswith(LAYER_HEADS):
            self.layer_text = message
        if severity == "VERBOSE" and self.listen is None:
            return  # hundred thousands of them
        text = " ".join(message.split())
        if _HARMLESS.search(text):
            pass
        elif severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(text)
        elif severity == "WARNING":
            self._warnings.append(text)
        if self.listen:
            self.listen(severity, text)

    def warnings(self) -> list[str]:
        """Each warning once, in the order of first appearance; errors that did not stop the build come first."""
        return fold([f"error: {text}" for text in self.errors] + self._warnings)

    def device_fault(self) -> Optional[str]:
        """The first error of the device or its memory, None if there was none."""
        return next((text for text in self.errors if OF_THE_DEVICE.search(text)), None)

    def reason(self) -> str:
        """The first and the last error in one line, as the cause is mostly the first; of kernels that were skipped only
        if there is nothing else.
        """
        causes = [text for text in self.errors if not SKIPPED.search(text)] or self.errors
        ends = dict.fromkeys([*causes[:1], *causes[-1:]])
        return (
            "; ".join(re.sub(r"^\[?[\w.:]*::\w+::\d+\]?\s*", "", text).rstrip(". ") for text in ends)
            or "it gave no reason"
        )


def fold(messages: Iterable[str]) -> list[str]:
    """Messages that differ in numbers alone (not in names of tensors) become one, with their count: some come once a
    weight.
    """
    groups: dict[str, list[str]] = {}
    for message in messages:
        groups.setdefault(re.sub(r"(?<![\w/.])[-+]?\d[\w.+-]*", "#", message), []).append(message)
    folded = [
        group[0] if len(group) == 1 else f"{group[0]} (and {len(group) - 1} more like it)" for group in groups.values()
    ]
    left_out = len(folded) - MAXIMUM_WARNINGS
    return folded if left_out <= 0 else [*folded[:MAXIMUM_WARNINGS], f"and {left_out} more"]


def as_logger(trt: Bindings, log: BuildLog) -> tensorrt.ILogger:
    """An ILogger of this library that writes to `log`. It must outlive every object made with it."""

    class Logger(trt.ILogger):  # type: ignore[name-defined]  # the base is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
            log.add(severity.name, msg)

    return Logger()
