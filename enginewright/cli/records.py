"""Figures in artifacts/metrics/ that are not what their stages wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from enginewright import manifest
from enginewright.errors import StaleArtifact
from enginewright.layout import Layout
from enginewright.results.accuracy import AccuracyResult
from enginewright.results.speed import SpeedResult
from enginewright.views import metrics

PATHS = Layout()
SEALED = {
    "validate_accuracy": PATHS.accuracy / "metrics.json",
    "benchmark_sustained": PATHS.benchmark / "metrics.json",
}
LOCK = Path("dvc.lock")

Record = Mapping[str, Any]  # what a stage wrote to artifacts/metrics/<stage>.json


def of_other_artifacts(folder: Path, read: Mapping[str, Record], builds: Iterable[str]) -> Iterator[str]:
    """Figures that were edited, or checked out without their artifacts: what measures seals a copy among its
    outputs.
    """
    for stage, path in SEALED.items():
        if folder != PATHS.metrics or not path.is_file():
            continue
        try:
            manifest.verify(path)
            shown = _shown(stage, path)
        except StaleArtifact as fault:
            yield str(fault)
            continue
        if shown != read[stage]:
            yield (
                f"{folder / stage}.json is not what {path} holds: it was edited, or is of another commit; run `dvc"
                " repro` or `dvc checkout`"
            )
    for stage in _edited(folder, builds):
        yield (
            f"{folder / stage}.json is not what {LOCK} holds: it was edited, or its stage did not end; run `dvc repro`"
        )


def _shown(stage: str, path: Path) -> Record:
    """The metrics of the record that a stage sealed among its outputs."""
    if stage == "validate_accuracy":
        return metrics.of_accuracy(AccuracyResult.read(path, stage))
    return metrics.of_speed(SpeedResult.read(path, stage))


def _edited(folder: Path, stages: Iterable[str]) -> Iterator[str]:
    """Stages whose metrics DVC knows with another hash; none where DVC knows of none."""
    import yaml

    try:
        locked = yaml.safe_load(LOCK.read_text())["stages"] if folder == PATHS.metrics else {}
        for stage in stages:
            path = folder / f"{stage}.json"
            known = [
                out.get("md5") for out in locked.get(stage, {}).get("outs", []) if out.get("path") == path.as_posix()
            ]
            if known and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() not in known:
                yield stage
    except (OSError, AttributeError, KeyError, TypeError, yaml.YAMLError):
        return  # it is DVC's to say that its file is broken
