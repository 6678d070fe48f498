"""Where samples come from: one module for each source, found by the name that `data.source` has. All are lazy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from enginewright.config import Data
from enginewright.data.samples import Source
from enginewright.registry import SOURCES

Opener = Callable[[Data, Path], Source]  # what the registry `enginewright.sources` holds; called as `open_source`


def open_source(data: Data, project: Path = Path()) -> Source:
    """Find the samples of `data.source`.

    Args:
        data: what lies in `data.root` is for the source to say.
        project: the project's root, which `data.root` is relative to.

    Raises:
        ConfigError: there is no such source.
        DataError: the samples are not there, and how to get them.
    """
    return cast(Opener, SOURCES.get(data.source))(data, project)
