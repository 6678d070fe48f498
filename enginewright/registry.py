"""Names that an installed package may add to: runtimes, tasks, data sources, importers and recipes.

A name stands for an object: one of ours, in a module that is imported on first use, or one that a package declares as
an entry point in the group `enginewright.<kind>`::

    [project.entry-points."enginewright.tasks"]
    depth = "my_package.depth:TASK"

Entry points are read only when a name is not one of ours, because that takes longer than a stage takes to start.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from enginewright.errors import ConfigError, nearest

if TYPE_CHECKING:
    from importlib import metadata

T = TypeVar("T")


class Registry(Generic[T]):
    """The objects of one kind, by name."""

    def __init__(self, kind: str, builtin: Mapping[str, str]) -> None:
        """Declare a kind.

        Args:
            kind: plural, as in the entry-point group: "runtimes", "tasks".
            builtin: name -> "module:attribute".
        """
        self.kind, self.builtin = kind, dict(builtin)
        self._given: dict[str, T] = {}

    def get(self, name: str) -> T:
        """Return the object called `name`.

        Raises:
            ConfigError: nothing has that name, or the package that declares it cannot be imported.
        """
        if name in self._given:
            return self._given[name]
        if name in self.builtin:
            module, _, attribute = self.builtin[name].partition(":")
            return cast(T, getattr(importlib.import_module(module), attribute))
        declared = self._declared()
        if name not in declared:
            raise ConfigError(f"there is no {self._singular} '{name}'{nearest(name, {*self.builtin, *declared})}")
        try:
            return cast(T, declared[name].load())
        except (ImportError, AttributeError) as fault:
            raise ConfigError(
                f"the {self._singular} '{name}' is declared as {declared[name].value}, which cannot be loaded: {fault}"
            ) from None

    def names(self) -> tuple[str, ...]:
        """Every name: ours in the order of the table, then those of installed packages, sorted."""
        return (*self.builtin, *sorted({*self._declared(), *self._given} - set(self.builtin)))

    @contextlib.contextmanager
    def using(self, name: str, member: T) -> Iterator[T]:
        """For the length of a `with` block, let `name` stand for `member`: for tests, and for programs of one file."""
        before = dict(self._given)
        self._given[name] = member
        try:
            yield member
        finally:
            self._given = before

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self._given or name in self._declared()

    @property
    def _singular(self) -> str:
        return self.kind[:-1]

    def _declared(self) -> dict[str, metadata.EntryPoint]:
        from importlib import metadata

        group = f"enginewright.{self.kind}"
        found = metadata.entry_points()
        # Python 3.9 returns a dictionary of groups, and cannot select
        chosen = found.select(group=group) if hasattr(found, "select") else found.get(group, ())
        return {entry.name: entry for entry in chosen}


AUTO = "auto"


class OrAuto:
    """What a setting may name that takes one of a kind, or AUTO."""

    def __init__(self, registry: Registry[object]) -> None:
        self._registry = registry

    def __contains__(self, name: object) -> bool:
        return name == AUTO or name in self._registry

    def names(self) -> tuple[str, ...]:
        """AUTO and every name of the kind."""
        return (AUTO, *self._registry.names())


# Names only: whoever reads the configuration imports none of what they stand for. Literals, because the import graph is
# read off the source (enginewright/toolchain/imports.py).
RUNTIMES: Registry[object] = Registry(
    "runtimes",
    {
        "tensorrt": "enginewright.runtimes.tensorrt:RUNTIME",
        "tensorrt_rtx": "enginewright.runtimes.tensorrt_rtx:RUNTIME",
        "onnxruntime": "enginewright.runtimes.onnxruntime:RUNTIME",
        "null": "enginewright.runtimes.null:RUNTIME",
    },
)
IMPORTERS: Registry[object] = Registry(
    "importers",
    {
        "pytorch": "enginewright.importers.pytorch:pytorch",
        "onnx": "enginewright.importers.onnx:onnx_file",
    },
)
RECIPES: Registry[object] = Registry(
    "recipes",
    {
        "crop": "enginewright.data.recipes.crop:Crop",
        "letterbox": "enginewright.data.recipes.letterbox:Letterbox",
        "stretch": "enginewright.data.recipes.stretch:Stretch",
        "whole": "enginewright.data.recipes.whole:Whole",
        "none": "enginewright.data.recipes.none:AsItIs",
    },
)
SOURCES: Registry[object] = Registry(
    "sources",
    {
        "digits": "enginewright.data.sources.digits:digits",
        "digit_strokes": "enginewright.data.sources.digit_strokes:digit_strokes",
        "digit_scenes": "enginewright.data.sources.digit_scenes:digit_scenes",
        "fashion_mnist": "enginewright.data.sources.fashion_mnist:fashion_mnist",
        "photographs": "enginewright.data.sources.photographs:photographs",
        "image_folder": "enginewright.data.sources.image_folder:image_folder",
        "coco": "enginewright.data.sources.coco:coco",
        "yolo_labels": "enginewright.data.sources.yolo_labels:yolo_labels",
        "arrays": "enginewright.data.sources.arrays:arrays",
        "loader": "enginewright.data.sources.loader:loader",
    },
)
TASKS: Registry[object] = Registry(
    "tasks",
    {
        "classification": "enginewright.tasks.classification:TASK",
        "segmentation": "enginewright.tasks.segmentation:TASK",
        "outputs": "enginewright.tasks.outputs:TASK",
        "detection": "enginewright.tasks.detection.task:TASK",
    },
)
