"""Sidecars: `<artifact>.json`, written last, is the sign that an artifact is whole, and says what it was made from.

The chain image folder -> ONNX -> calib.cache -> engine -> metrics can be checked link by link: each manifest holds the
sha256 of its inputs. Paths are as given, relative to the project's root.
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
from enginewright.target import TargetFingerprint


@dataclass(frozen=True)
class Manifest:
    """Sidecar `<artifact>.json`: the artifact's hash, what it was made from, by which stage, for which target."""

    sha256: str
    made_by: str  # stage name
    inputs: Mapping[str, str]  # path -> sha256
    target: Optional[TargetFingerprint]  # None for portable artifacts (ONNX, calib.cache)
    settings: Mapping[str, Any] = field(default_factory=dict)  # versions, profile shapes, precision, ...


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
                f"no space left on the disk of {path.parent.resolve()} while writing {path.name}; free some and run `dvc repro` again"
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
) -> Manifest:
    """Hash artifact and inputs, write the sidecar last: a sidecar that exists means a whole artifact."""
    manifest = Manifest(sha256(artifact), made_by, {str(path): sha256(path) for path in inputs}, target, dict(settings or {}))
    write_json(sidecar(artifact), {**asdict(manifest), "target": target.to_dict() if target else None})
    return manifest


def read(artifact: Path) -> Manifest:
    """Read an artifact's sidecar without looking at the artifact's bytes.

    Raises:
        StaleArtifact: the sidecar is missing or is no manifest.
    """
    try:
        content = json.loads(sidecar(artifact).read_text())
        target = content.pop("target")
        return Manifest(**content, target=TargetFingerprint.from_dict(target) if target else None)
    except FileNotFoundError:
        missing = "it does not exist" if not artifact.exists() else f"its sidecar {sidecar(artifact).name} is missing, so it may be half-written"
        raise StaleArtifact(f"{artifact} cannot be used: {missing}; run `dvc repro` to make it again") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StaleArtifact(f"{sidecar(artifact)} is not a manifest; remove it and run `dvc repro` to make {artifact.name} again") from None


def verify(artifact: Path, here: Optional[TargetFingerprint] = None) -> Manifest:
    """Return the manifest if bytes, recorded inputs that are present, and target match.

    Args:
        artifact: the file that the sidecar lies beside.
        here: this machine, or None for a portable artifact and wherever the target does not matter.

    Raises:
        StaleArtifact: naming what differs and the stage to run again.
    """
    manifest = read(artifact)
    again = f"run `dvc repro {manifest.made_by}` to make it again (`dvc repro -f` if DVC calls it up to date)"
    if not artifact.exists():
        raise StaleArtifact(f"{artifact} cannot be used: it does not exist, only its sidecar; {again}")
    if sha256(artifact) != manifest.sha256:
        raise StaleArtifact(f"{artifact} cannot be used: its bytes differ from the sha256 in {sidecar(artifact).name}; {again}")
    for name, digest in manifest.inputs.items():
        if Path(name).exists() and sha256(Path(name)) != digest:
            raise StaleArtifact(f"{artifact} cannot be used: it was made from another {name}; {again}")
    if here and manifest.target and (differences := manifest.target.differences(here)):
        raise StaleArtifact(f"{artifact} cannot be used on this machine: {', '.join(differences)}; {again}")
    return manifest
