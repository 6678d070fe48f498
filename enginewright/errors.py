"""Faults that a user can repair. Shown as one sentence without a traceback; the process ends with exit code 2.

EnginewrightError
├── ConfigError           params.yaml, conf/ or an override is wrong
├── DataError             images or labels cannot be used
├── ModelError            the PyTorch model, its weights or the ONNX cannot be used
├── RuntimeUnavailable    no backend here can do the task
├── StaleArtifact         an artifact no longer matches its inputs or this machine
├── CalibrationMismatch   a calibration cache and a model disagree
├── EngineInputError      an engine was fed a wrong name, dtype or shape
└── GateFailed            the metrics are written, and they miss the configured bound

Anything else that is raised is a bug of ours and keeps its traceback (exit code 1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_CHOICES = 20  # that a sentence lists


class EnginewrightError(Exception):
    """A fault the user can repair: one sentence with what is wrong, where, and what to do."""


class ConfigError(EnginewrightError):
    """A setting is unknown, has the wrong type, or contradicts another one."""


class DataError(EnginewrightError):
    """Images or labels cannot be used as the configuration asks."""


class ModelError(EnginewrightError):
    """A PyTorch model, its weights, or an ONNX model cannot be used."""


class RuntimeUnavailable(EnginewrightError):
    """No backend here can do the task."""


class StaleArtifact(EnginewrightError):
    """An artifact no longer matches its sidecar, its inputs or this machine."""


class CalibrationMismatch(EnginewrightError):
    """A calibration cache and a model disagree."""


class EngineInputError(EnginewrightError):
    """An engine was fed a wrong name, dtype or shape."""


class GateFailed(EnginewrightError):
    """A measured figure misses the bound in the configuration. The metrics are already written."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the choice closest to `word`, or a list of choices if none is close."""
    known = sorted(choices)
    if not known:
        return ""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    more = f" and {len(known) - MOST_CHOICES} more" if len(known) > MOST_CHOICES else ""
    return f"; choose one of {', '.join(known[:MOST_CHOICES])}{more}"
