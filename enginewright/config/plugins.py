"""Custom operators: the libraries and files that bring their kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from enginewright.config.choices import LIBRARY_CODE
from enginewright.config.setting import setting

MOST_FILES = 2  # of each kind: dvc.yaml names each, as DVC fills no list in
SUFFIXES = {"tensorrt": ".so", "onnxruntime": ".so", "python": ".py"}


def _composed(*kinds: str) -> str:
    return "".join(
        f"\n    - ${{oc.select:model.plugins.{kind}.{place},{LIBRARY_CODE}}}"
        for kind in kinds
        for place in range(MOST_FILES)
    )


@dataclass
class PluginFiles:
    """Kernels of operators that are not standard ONNX; each kind up to two files."""

    tensorrt: list[str] = setting([], help="shared libraries (.so) with TensorRT plugins, compiled on the target")
    onnxruntime: list[str] = setting([], help="shared libraries (.so) with custom operators for ONNX Runtime")
    python: list[str] = setting(
        [], help="Python files with functions under onnxruntime_extensions.onnx_op, which ONNX Runtime calls"
    )

    def named(self) -> dict[str, list[str]]:
        """Kind -> files."""
        return {kind: list(getattr(self, kind)) for kind in SUFFIXES}


@dataclass
class TrackedPlugins:
    """Filled in from model.plugins for dvc.yaml: leave it alone."""

    portable: list[str] = setting(
        [LIBRARY_CODE] * 2 * MOST_FILES,
        help="what export depends on: model.plugins.onnxruntime and model.plugins.python",
        composed=_composed("onnxruntime", "python"),
    )
    tensorrt: list[str] = setting(
        [LIBRARY_CODE] * MOST_FILES,
        help="what builds depend on: model.plugins.tensorrt",
        composed=_composed("tensorrt"),
    )


def tracked(files: PluginFiles) -> TrackedPlugins:
    """What `Model.tracked_plugins` holds for some `plugins`; a list that is too long is cut."""

    def places(names: list[str]) -> list[str]:
        return [*names, *[LIBRARY_CODE] * MOST_FILES][:MOST_FILES]

    return TrackedPlugins([*places(files.onnxruntime), *places(files.python)], places(files.tensorrt))


def faults(files: PluginFiles, seen: TrackedPlugins) -> Iterator[tuple[str, str]]:
    """Yield what cannot work as (key, what is wrong and what to do)."""
    known: dict[str, str] = {}
    for kind, paths in files.named().items():
        key = f"model.plugins.{kind}"
        if len(paths) > MOST_FILES:
            yield key, f"{len(paths)} files, and DVC sees {MOST_FILES}; put their operators into one"
        for path in paths:
            name = PurePath(path).name
            if PurePath(path).suffix != SUFFIXES[kind]:
                yield key, f"{path} is not a {SUFFIXES[kind]} file{_instead(path, kind)}"
            elif name in known:
                yield key, f"{path} has the name of {known[name]}, and both lie beside the engine; rename one"
            known.setdefault(name, path)
    if seen != tracked(files):
        yield (
            "model.tracked_plugins",
            "is not what DVC should see of model.plugins; set model.plugins alone, with `enginewright configure`",
        )


def _instead(path: str, kind: str) -> str:
    fitting = [other for other, suffix in SUFFIXES.items() if other != kind and PurePath(path).suffix == suffix]
    if fitting:
        return f"; it belongs to {' or '.join(f'model.plugins.{other}' for other in fitting)}"
    return f"; name the {'compiled library' if SUFFIXES[kind] == '.so' else 'Python file'}"
