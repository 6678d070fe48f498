"""Where models come from: one module for each importer, found by the name that `model.source` has.

An importer gives a model as ONNX and its interface. What all share is beside them: `normalize` makes the file that the
pipeline keeps, `compare` holds it to the original, `metrics` says what became of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Protocol, cast, runtime_checkable

from enginewright.config import Export, Model
from enginewright.feeds import Feeds, Outputs
from enginewright.interface import Axes, Interface
from enginewright.layout import Layout
from enginewright.registry import IMPORTERS

if TYPE_CHECKING:
    import onnx


class Reference(Protocol):
    """A model in the framework that it comes from."""

    framework: str  # "PyTorch"

    def answer(self, feeds: Feeds) -> Outputs:
        """Answer one batch, float32 or integers by output name. Raises ModelError, and CannotRun of `examples`."""

    def exact(self, feeds: Feeds, answered: Outputs) -> Optional[Outputs]:
        """Answer the same batch in float64; None where that is not possible, or float32 is not as `answered` again."""


@dataclass(frozen=True)
class Imported:
    """A model that an importer has read."""

    name: str  # for sentences
    origin: str  # the file to look at, for sentences
    model: onnx.ModelProto  # its first axes are the dynamic axis `batch`
    interface: Interface
    files: tuple[Path, ...]  # what it was made from, for the sidecar
    reference: Optional[Reference] = None  # what the ONNX is compared with; without one it is only run
    coarseness: float = 0.0  # a tolerance that the original's own types ask for, such as float16
    notices: tuple[str, ...] = ()  # sentences that the stage prints
    licence: Mapping[str, str] = field(
        default_factory=dict
    )  # "licence" and "author", as the file's metadata names them


class Importer(Protocol):
    """What the registry `enginewright.importers` holds: a function of a configuration."""

    def __call__(self, model: Model, settings: Export, paths: Layout, axes: Axes) -> AbstractContextManager[Imported]:
        """Import the model. The reference answers within the `with` block, which watches the user's own code.

        Args:
            model: the configuration.
            settings: of the ONNX.
            paths: of the project; files that `model` names are relative to its root.
            axes: the range of each axis that the inputs name.

        Raises:
            ModelError: what is wrong with the model, and what to do.
        """


@dataclass(frozen=True)
class Tried:
    """What a dry run found."""

    interface: Optional[Interface] = None  # None if the model was not run
    note: str = ""  # what was left out and why, a sentence


@runtime_checkable
class DryRun(Protocol):
    """What an importer may offer beside the import: a try that takes seconds, for `enginewright configure`."""

    def dry_run(self, model: Model, paths: Layout, axes: Axes) -> Tried:
        """Read or run the model as far as that takes seconds.

        Raises:
            ModelError: as the import would.
        """


def importer_named(name: str) -> Importer:
    """Return the importer of this name. Raises ConfigError if there is none."""
    return cast(Importer, IMPORTERS.get(name))
