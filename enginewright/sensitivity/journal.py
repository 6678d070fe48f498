"""Figures of Q/DQ models that were already measured, so that an interrupted analysis goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

FOLDER = Path(".cache/sensitivity")  # no DVC out: DVC removes these before a stage runs


class Journal:
    """A file with a line for each measured model, appended at once. `finish` removes it: what is done is in the stage's outputs."""

    def __init__(self, path: Path) -> None:
        """`path` is read if it exists; a last line that was cut short is dropped."""
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                self._known[entry["model"]] = entry["figures"]

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
            stream.write("\n" + json.dumps({"model": model, "figures": figures}))  # a line that a kill cut short is ended by the next one

    def finish(self) -> None:
        """Forget everything."""
        self._path.unlink(missing_ok=True)
