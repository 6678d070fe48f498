"""Figures of Q/DQ models that were already measured, so that an interrupted analysis goes on where it stopped.

Its file is named after everything that decides the figures but the model: images, settings, code, versions, processor.
Each line holds a hash over that name, the model and the figures: a line that was cut short, changed by hand, or copied
from another journal is measured again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional


class Journal:
    """A file with a line for each measured model, appended at once. `finish` removes it: what is done is in the stage's
    outputs.
    """

    def __init__(self, path: Path) -> None:
        """`path` is read if it exists; `dropped` counts the lines that do not hold what they held when they were
        written.
        """
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        self.dropped = 0
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
                model, figures, digest = entry["model"], entry["figures"], entry["sha256"]
            except (ValueError, KeyError, TypeError, RecursionError):
                self.dropped += bool(line)
                continue
            if digest == self._digest(model, figures):
                self._known[model] = figures
            else:
                self.dropped += 1

    def _digest(self, model: str, figures: Mapping[str, Any]) -> str:
        return hashlib.sha256(json.dumps([self._path.stem, model, figures], sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, model: str) -> Optional[dict[str, Any]]:
        """The figures of the model with this sha256, or None."""
        return self._known.get(model)

    def add(self, model: str, figures: Mapping[str, Any]) -> None:
        """Remember the figures of a model, on disk too."""
        self._known[model] = dict(figures)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as stream:
            entry = {"model": model, "figures": figures, "sha256": self._digest(model, figures)}
            stream.write("\n" + json.dumps(entry))  # a line that a kill cut short is ended by the next one

    def finish(self) -> None:
        """Forget everything."""
        self._path.unlink(missing_ok=True)
