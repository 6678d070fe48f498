"""The chain image folder -> ONNX -> calib.cache -> engine, read link by link from the sidecars."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from enginewright import manifest
from enginewright.errors import StaleArtifact, nearest
from enginewright.layout import SEALED, Layout, place_of, stage_of
from enginewright.manifest import Manifest


@dataclass(frozen=True)
class Link:
    """An artifact, or a file that one was made from."""

    path: Path
    state: str  # "ok", "changed", "missing": the bytes now, against the sha256 that is recorded
    manifest: Optional[Manifest]  # None for a file without a sidecar, such as a source or a parameter file
    inputs: tuple[Link, ...]


def artifact_of(path: Path) -> Path:
    """The artifact itself, also when its sidecar is named.

    Raises:
        StaleArtifact: there is no such file, or it is a folder.
    """
    if path.is_dir():
        inside = [str(found) for found in sealed([path])]
        hint = f"; name one of {', '.join(inside)}" if inside else " in which nothing is sealed"
        raise StaleArtifact(f"{path} is a folder{hint}")
    if path.suffix == ".json" and is_manifest(path) and (path.with_suffix("").exists() or not path.exists()):
        return path.with_suffix("")
    if not path.exists() and not manifest.sidecar(path).exists():
        raise StaleArtifact(_absent(path))
    return path


def _absent(path: Path) -> str:
    stage = stage_of(path)
    folder = Layout().artifacts
    known = sealed([folder]) if folder.is_dir() else []
    if stage and not any(stage_of(artifact) == stage for artifact in known):
        return f"{path} was not built yet; run `dvc repro {stage}`"
    if not known:
        return f"{path} does not exist, and nothing lies under {folder}; run `dvc repro`"
    return f"{path} does not exist{nearest(path.as_posix(), [artifact.as_posix() for artifact in known])}"


def is_manifest(path: Path) -> bool:
    """Whether a JSON file is a sidecar, by its keys: reports and metrics are JSON too."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"sha256", "made_by", "inputs"} <= set(content)


def sealed(roots: Iterable[Path]) -> list[Path]:
    """The artifacts under these files and folders that have a sidecar, or should have one, sorted."""
    return sorted(set(_sealed(roots)))


def _sealed(roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        if root.is_dir():
            yield from (path.with_suffix("") for path in root.rglob("*.json") if _is_sidecar(path))
            yield from _due(root)
        else:
            yield artifact_of(root)


def _due(folder: Path) -> Iterator[Path]:
    """The files below a folder that the pipeline seals, in whatever project they lie."""
    for path in folder.rglob("*"):
        if path.is_file() and not (path.suffix == ".json" and _is_sidecar(path)):
            place = place_of(path)
            if place is not None and any(place.match(pattern) for pattern in SEALED):
                yield path


def _is_sidecar(path: Path) -> bool:
    """By its keys, or by the artifact that it lies beside: a sidecar cut short is still one. `x.json` lies beside
    `x`.
    """
    return is_manifest(path) or path.with_suffix("").is_file()


def trace(artifact: Path, recorded: Optional[str] = None, above: Sequence[Path] = ()) -> Link:
    """Follow an artifact's inputs, theirs, and so on. `recorded` is the sha256 that the artifact above has for it."""
    sealed_here = manifest.read(artifact) if manifest.sidecar(artifact).exists() else None
    expected = recorded or (sealed_here.sha256 if sealed_here else None)
    state = "ok"
    if not artifact.exists():
        state = "missing"
    elif expected and manifest.sha256(artifact) != expected:
        state = "changed"
    root = manifest.root_of(artifact, sealed_here) if sealed_here else None
    inputs = dict(sealed_here.inputs) if sealed_here and artifact not in above else {}
    links = tuple(
        Link(Path(name), "missing", None, ()) if root is None else trace(root / name, digest, [*above, artifact])
        for name, digest in inputs.items()
    )
    return Link(artifact, state, sealed_here, links)
