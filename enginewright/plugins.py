"""Files that bring the kernels of custom operators: they travel beside a model or an engine, and its sidecar names
them, so that they are verified before any of their code runs.

They are never serialized into a plan: whoever deserialized such a plan would run code that nothing had verified.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from enginewright import manifest
from enginewright.config import Model
from enginewright.errors import ConfigError, StaleArtifact
from enginewright.layout import Layout
from enginewright.manifest import Manifest

TENSORRT, ONNXRUNTIME, PYTHON = "tensorrt", "onnxruntime", "python"
PORTABLE = (ONNXRUNTIME, PYTHON)  # what export ships with the model
# of the settings in a model's sidecar: node -> its operator, and the names of libraries that lie on the target
CUSTOM_NODES, TENSORRT_FILES = "custom_nodes", "tensorrt_plugins"
ROLE = "plugin of "  # how a sidecar says what such a file is


@dataclass(frozen=True)
class Plugin:
    """One file."""

    kind: str  # TENSORRT, ONNXRUNTIME or PYTHON
    path: Path
    sha256: str

    def verified(self) -> Path:
        """The file, if its bytes are still those that were recorded. Raises StaleArtifact, before any of its code
        runs.
        """
        if not self.path.is_file():
            raise StaleArtifact(f"{self.path} is missing, which brings the kernels of a custom operator; {AGAIN}")
        if manifest.sha256(self.path) != self.sha256:
            raise StaleArtifact(
                f"{self.path} was changed: its bytes differ from the sha256 that was recorded, and it is not loaded;"
                f" {AGAIN}"
            )
        return self.path


AGAIN = "put the recorded file back, or run `dvc repro` in its project (`dvc repro -f` if DVC calls it up to date)"


@dataclass(frozen=True)
class Plugins:
    """All that a model or an engine needs, in the order in which they are loaded."""

    files: tuple[Plugin, ...] = ()

    def of(self, *kinds: str) -> Plugins:
        """Those of some kinds."""
        return Plugins(tuple(plugin for plugin in self.files if plugin.kind in kinds))

    def and_also(self, others: Plugins) -> Plugins:
        """Both."""
        return Plugins((*self.files, *others.files))

    @property
    def paths(self) -> list[Path]:
        """Where they lie."""
        return [plugin.path for plugin in self.files]

    @property
    def roles(self) -> dict[str, str]:
        """File name -> role, for `manifest.seal`."""
        return {plugin.path.name: f"{ROLE}{plugin.kind}" for plugin in self.files}

    def copy_beside(self, artifact: Path) -> Plugins:
        """Copy each file into the folder of an artifact, verified, and return the copies. Raises StaleArtifact."""
        copies = Plugins(tuple(replace(each, path=artifact.with_name(each.path.name)) for each in self.files))
        for plugin, copy in zip(self.files, copies.files):
            with manifest.replacing(copy.path) as temporary:
                shutil.copyfile(plugin.verified(), temporary)
            copy.verified()
        return copies


NO_PLUGINS = Plugins()


def configured(model: Model, project: Layout, *kinds: str) -> Plugins:
    """What the configuration names of these kinds. Raises ConfigError if a file does not exist."""
    return Plugins(tuple(_hashed(kind, project.file(name)) for kind in kinds for name in getattr(model.plugins, kind)))


def beside(artifact: Path, made: Optional[Manifest] = None) -> Plugins:
    """What the sidecar of a model or an engine names; nothing where there is no sidecar.

    Args:
        artifact: the file.
        made: its sidecar, if it was read already.
    """
    if made is None:
        if not manifest.sidecar(artifact).is_file():
            return NO_PLUGINS
        made = manifest.read(artifact)
    records = [(name, record) for name, record in made.files.items() if record.role.startswith(ROLE)]
    return Plugins(
        tuple(Plugin(each.role[len(ROLE) :], artifact.with_name(name), each.sha256) for name, each in records)
    )


def _hashed(kind: str, path: Path) -> Plugin:
    try:
        return Plugin(kind, path, manifest.sha256(path))
    except OSError as fault:
        raise ConfigError(
            f"model.plugins.{kind}: {path} cannot be read ({fault.strerror}); compile or restore it"
        ) from None
