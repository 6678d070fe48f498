"""Sidecars: `<artifact>.json`, written last, is the sign that an artifact is whole, and says what it was made from.

The chain image folder -> ONNX -> calib.cache -> engine -> metrics can be checked link by link: each manifest holds the
sha256 of its inputs. Paths are relative to the project's root, that of the artifact included: an artifact that lies
elsewhere than where it was made, such as the INT8 engine in the folder of the FP32 one, is told from the right one, and
inputs are looked for in the artifact's own project.
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
from enginewright.layout import Layout
from enginewright.target import TargetFingerprint

HERE = Layout()


@dataclass(frozen=True)
class Manifest:
    """Sidecar `<artifact>.json`: the artifact's hash, what it was made from, by which stage, for which target."""

    sha256: str
    made_by: str  # stage name
    inputs: Mapping[str, str]  # path -> sha256
    target: Optional[TargetFingerprint]  # None for portable artifacts (ONNX, calib.cache)
    settings: Mapping[str, Any] = field(default_factory=dict)  # versions, profile shapes, precision, ...
    path: str = ""  # where the artifact was made, relative to the project's root

    @property
    def files(self) -> Mapping[str, str]:
        """Files that were written beside the artifact and belong to it: name -> sha256."""
        found = self.settings.get("files", {})
        return found if isinstance(found, Mapping) else {}


MODEL_SHA256, IMAGES_SHA256 = "model_sha256", "images_sha256"  # in metrics: what they are of


def record(engine: Manifest, images: Iterable[Path] = ()) -> dict[str, str]:
    """What metrics of an engine are of: the model that it was built from, and the sealed files of the images."""
    found = {}
    if model := engine.inputs.get(Layout().model.as_posix()):
        found[MODEL_SHA256] = model
    if digests := [read(path).sha256 for path in images]:
        found[IMAGES_SHA256] = hashlib.sha256("".join(digests).encode()).hexdigest()
    return found


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


def seal(
    artifact: Path,
    made_by: str,
    inputs: Iterable[Path],
    target: Optional[TargetFingerprint] = None,
    settings: Optional[Mapping[str, Any]] = None,
    project: Layout = HERE,
) -> Manifest:
    """Hash artifact and inputs, write the sidecar last: a sidecar that exists means a whole artifact.

    Paths in it are relative to `project`.
    """
    made_from = {project.name(path): sha256(path) for path in inputs}
    manifest = Manifest(sha256(artifact), made_by, made_from, target, dict(settings or {}), _place(artifact, project))
    write_json(sidecar(artifact), {**asdict(manifest), "target": target.to_dict() if target else None})
    return manifest


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
        StaleArtifact: the sidecar is missing or is no manifest.
    """
    try:
        manifest = _parsed(sidecar(artifact).read_text())
    except FileNotFoundError:
        missing = (
            "it does not exist"
            if not artifact.exists()
            else f"its sidecar {sidecar(artifact).name} is missing, so it may be half-written"
        )
        raise StaleArtifact(f"{artifact} cannot be used: {missing}; run `dvc repro` to make it again") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        manifest = None
    if manifest is None:
        raise StaleArtifact(
            f"{sidecar(artifact)} is not a manifest; remove it and run `dvc repro` to make {artifact.name} again"
        )
    return manifest


def _parsed(text: str) -> Optional[Manifest]:
    content = json.loads(text)
    target = content.pop("target")
    manifest = Manifest(**content, target=TargetFingerprint.from_dict(target) if target else None)
    texts = (manifest.path, manifest.sha256, manifest.made_by)
    typed = all(isinstance(value, str) for value in texts) and all(
        isinstance(value, dict) for value in (manifest.inputs, manifest.settings)
    )
    return (
        manifest
        if typed
        and _named(manifest.inputs)
        and _named(manifest.files)
        and not any("/" in name for name in manifest.files)
        else None
    )


def _named(digests: Mapping[str, Any]) -> bool:
    return all(isinstance(value, str) for pair in digests.items() for value in pair)


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
        made_as = (
            f"that of {manifest.path}" if manifest.path else "of an earlier version and does not say where it was made"
        )
        raise StaleArtifact(
            f"{artifact} cannot be used: its sidecar is {made_as}; run `dvc repro` to put the right one there (`dvc"
            " repro -f` if DVC calls it up to date)"
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
    for name, digest in manifest.files.items():
        if artifact.with_name(name).is_file() and sha256(artifact.with_name(name)) != digest:
            raise StaleArtifact(f"{artifact} cannot be used: {name} beside it was changed; {_again(manifest)}")
    if here and manifest.target and (differences := manifest.target.differences(here)):
        raise StaleArtifact(f"{artifact} cannot be used on this machine: {', '.join(differences)}; {_again(manifest)}")
    return manifest


def _again(manifest: Manifest) -> str:
    return f"run `dvc repro {manifest.made_by}` to make it again (`dvc repro -f` if DVC calls it up to date)"
