"""Sidecars: `<artifact>.json`, written last, is the sign that an artifact is whole, and says what it was made from.

The chain image folder -> ONNX -> calib.cache -> engine -> metrics can be checked link by link: each manifest holds the
sha256 of its inputs. Paths are relative to the project's root, that of the artifact included: an artifact that lies
elsewhere than where it was made, such as the INT8 engine in the folder of the FP32 one, is told from the right one, and
inputs are looked for in the artifact's own project.

A model's and an engine's manifest also says how to use it: its interface, its preprocessing and its classes. Whoever
receives the two files needs nothing of the project. `schemas/manifest-1.json` describes the format for other programs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from enginewright.errors import EnginewrightError, StaleArtifact
from enginewright.interface import Interface
from enginewright.layout import Layout, stage_of
from enginewright.target import TargetFingerprint

FORMAT = 1  # of the sidecars that this version writes and reads
HERE = Layout()


@dataclass(frozen=True)
class FileRecord:
    """A file that was written beside an artifact and belongs to it."""

    sha256: str
    size: int  # bytes
    role: str  # what it is to the artifact, in a word or two: "table", "layers", "build log"


@dataclass(frozen=True)
class Usage:
    """What an application needs to know of a model or an engine."""

    interface: Optional[Interface] = None
    preprocessing: Optional[Mapping[str, Any]] = None  # `data.preprocessing`, as params.yaml holds it
    classes: tuple[str, ...] = ()  # names in the order of the output's classes; empty without labels


@dataclass(frozen=True)
class Manifest:
    """Sidecar `<artifact>.json`: the artifact's hash, what it was made from, by which stage, for which target, and how
    to use it.
    """

    sha256: str
    made_by: str  # stage name
    inputs: Mapping[str, str]  # path -> sha256
    target: Optional[TargetFingerprint]  # None for portable artifacts (ONNX, calib.cache)
    settings: Mapping[str, Any] = field(default_factory=dict)  # versions, profile shapes, precision, ...
    path: str = ""  # where the artifact was made, relative to the project's root
    files: Mapping[str, FileRecord] = field(default_factory=dict)  # beside the artifact: name -> record
    usage: Usage = field(default_factory=Usage)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        interface = self.usage.interface
        return {
            "format": FORMAT,
            "sha256": self.sha256,
            "made_by": self.made_by,
            "inputs": dict(self.inputs),
            "files": {name: asdict(record) for name, record in self.files.items()},
            "target": self.target.to_dict() if self.target else None,
            "interface": interface.to_dict() if interface else None,
            "preprocessing": dict(self.usage.preprocessing) if self.usage.preprocessing is not None else None,
            "classes": list(self.usage.classes),
            "settings": dict(self.settings),
            "path": self.path,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError on anything else."""
        target, interface, preprocessing = values["target"], values["interface"], values["preprocessing"]
        manifest = cls(
            sha256=values["sha256"],
            made_by=values["made_by"],
            inputs=values["inputs"],
            target=TargetFingerprint.from_dict(target) if target else None,
            settings=values["settings"],
            path=values["path"],
            files={name: FileRecord(**record) for name, record in values["files"].items()},
            usage=Usage(Interface.from_dict(interface) if interface else None, preprocessing, tuple(values["classes"])),
        )
        typed = manifest._is_typed() and isinstance(values["classes"], list) and type(values["format"]) is int
        if not typed or set(values) != set(manifest.to_dict()) or values["format"] != FORMAT:
            raise TypeError("a field has another type, or is not known")
        return manifest

    def _is_typed(self) -> bool:
        texts = [self.sha256, self.made_by, self.path, *self.inputs, *self.inputs.values(), *self.usage.classes]
        texts += [text for record in self.files.values() for text in (record.sha256, record.role)]
        return (
            all(isinstance(text, str) for text in texts)
            and isinstance(self.settings, dict)
            and isinstance(self.usage.preprocessing, (dict, type(None)))
            and all(type(record.size) is int for record in self.files.values())
            and not any("/" in name or name in ("", ".", "..") for name in self.files)
        )


def sidecar(artifact: Path) -> Path:
    """The path of an artifact's manifest."""
    return artifact.with_name(artifact.name + ".json")


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is synced to disk and renamed to `path`, else removed.

    Raises:
        EnginewrightError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)  # mkstemp made it 0600
        temporary.replace(path)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EnginewrightError(
                f"no space left on the disk of {path.parent.resolve()} while writing {path.name}; free some and run"
                " `dvc repro` again"
            ) from None
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write sorted, indented JSON through a temporary file. Raises ValueError on NaN or infinity: JSON has neither."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text)


def seal(  # noqa: PLR0913  each is a field of the sidecar
    artifact: Path,
    made_by: str,
    inputs: Iterable[Path],
    target: Optional[TargetFingerprint] = None,
    settings: Optional[Mapping[str, Any]] = None,
    *,
    files: Optional[Mapping[str, str]] = None,
    usage: Optional[Usage] = None,
    project: Layout = HERE,
) -> Manifest:
    """Hash an artifact and what belongs to it, and write the sidecar last: if it exists, the artifact is whole.

    Args:
        artifact: the file.
        made_by: the stage.
        inputs: what it was made from.
        target: the machine that it is for, None if it runs anywhere.
        settings: what else decided it, JSON-ready.
        files: name -> role of the files beside it that belong to it.
        usage: how to use it.
        project: paths in the sidecar are relative to its root.
    """
    manifest = Manifest(
        sha256(artifact),
        made_by,
        {project.name(path): sha256(path) for path in inputs},
        target,
        dict(settings or {}),
        _place(artifact, project),
        {name: _recorded(artifact.with_name(name), role) for name, role in (files or {}).items()},
        usage or Usage(),
    )
    write_json(sidecar(artifact), manifest.to_dict())
    return manifest


def _recorded(path: Path, role: str) -> FileRecord:
    return FileRecord(sha256(path), path.stat().st_size, role)


def _place(artifact: Path, project: Layout) -> str:
    name = Path(project.name(artifact))
    return name.name if name.is_absolute() or ".." in name.parts else name.as_posix()


def root_of(artifact: Path, manifest: Manifest) -> Optional[Path]:
    """The root of the project that the artifact lies in, or None if it does not lie where it was made."""
    place = Path(manifest.path).parts
    for parts in (artifact.parts, Path(os.path.abspath(artifact)).parts):
        if place and parts[-len(place) :] == place:
            return Path(*parts[: -len(place)])
    return None


def read(artifact: Path) -> Manifest:
    """Read an artifact's sidecar without looking at the artifact's bytes.

    Raises:
        StaleArtifact: the sidecar is missing, is not a manifest, or has a format that this version does not read.
    """
    if artifact.is_dir():
        raise StaleArtifact(f"{artifact} is a folder; give a file in it")
    try:
        values = json.loads(sidecar(artifact).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StaleArtifact(f"{artifact} cannot be used: {_absent(artifact)}") from None
    except ValueError:
        values = None
    try:
        if isinstance(values, dict) and {"sha256", "made_by", "inputs"} <= set(values) and _is_another_format(values):
            raise StaleArtifact(_of_another_format(artifact, values))
        return Manifest.from_dict(values)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StaleArtifact(
            f"{sidecar(artifact)} is not a manifest; remove it and run `dvc repro` to make {artifact.name} again"
        ) from None


def _absent(artifact: Path) -> str:
    stage = stage_of(artifact)
    if artifact.exists():
        again = f"`dvc repro {stage}`" if stage else "`dvc repro`"
        return (
            f"its sidecar {sidecar(artifact).name} is missing, so it may be half-written; run {again} to make it again"
        )
    if stage is None:
        return "it does not exist; check the path, or run `dvc repro` in its project"
    return f"it was not built yet; run `dvc repro {stage}`"


def _is_another_format(values: Mapping[str, Any]) -> bool:
    return "format" not in values or (type(values["format"]) is int and values["format"] != FORMAT)


def _of_another_format(artifact: Path, values: Mapping[str, Any]) -> str:
    again = f"run `dvc repro -f {values['made_by']}` to make {artifact.name} again"
    if "format" not in values:
        return f"{sidecar(artifact)} is of an earlier version of Enginewright, which wrote no format; {again}"
    return (
        f"{sidecar(artifact)} has format {values['format']}, and this version of Enginewright reads format {FORMAT};"
        f" update Enginewright, or {again}"
    )


def verify(artifact: Path, here: Optional[TargetFingerprint] = None) -> Manifest:
    """Return the manifest of an artifact of the pipeline if it is the one that was made here, from what lies here.

    Its bytes, its place, the files beside it, the recorded inputs that are present, and the target must match.

    Args:
        artifact: the file that the sidecar lies beside.
        here: this machine, or None for a portable artifact and wherever the target does not matter.

    Raises:
        StaleArtifact: naming what differs and the stage to run again.
    """
    manifest = verify_alone(artifact, here)
    root = root_of(artifact, manifest)
    if root is None:
        raise StaleArtifact(
            f"{artifact} cannot be used: its sidecar is that of {manifest.path}; run `dvc repro` to put the right one"
            " there (`dvc repro -f` if DVC calls it up to date)"
        )
    for name in manifest.files:
        if not artifact.with_name(name).is_file():
            raise StaleArtifact(f"{artifact} cannot be used: {name} is missing beside it; {_again(manifest)}")
    for name, digest in manifest.inputs.items():
        if (root / name).is_file() and sha256(root / name) != digest:
            raise StaleArtifact(f"{artifact} cannot be used: it was made from another {name}; {_again(manifest)}")
    return manifest


def verify_alone(artifact: Path, here: Optional[TargetFingerprint] = None) -> Manifest:
    """As `verify`, for an artifact that may have been carried elsewhere: the project around it, if there is one, does
    not matter.

    Raises:
        StaleArtifact: naming what differs and the stage to run again.
    """
    manifest = read(artifact)
    if not artifact.exists():
        raise StaleArtifact(f"{artifact} cannot be used: it does not exist, only its sidecar; {_again(manifest)}")
    if sha256(artifact) != manifest.sha256:
        raise StaleArtifact(
            f"{artifact} cannot be used: its bytes differ from the sha256 in {sidecar(artifact).name};"
            f" {_again(manifest)}"
        )
    for name, record in manifest.files.items():
        if artifact.with_name(name).is_file() and sha256(artifact.with_name(name)) != record.sha256:
            raise StaleArtifact(f"{artifact} cannot be used: {name} beside it was changed; {_again(manifest)}")
    if here and manifest.target and (differences := manifest.target.differences(here)):
        raise StaleArtifact(f"{artifact} cannot be used on this machine: {', '.join(differences)}; {_again(manifest)}")
    return manifest


def _again(manifest: Manifest) -> str:
    return f"run `dvc repro {manifest.made_by}` to make it again (`dvc repro -f` if DVC calls it up to date)"
