"""What the metrics of a stage are of: model, images and target. Only records of the same are put side by side, and what
was edited is named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from enginewright import manifest
from enginewright.errors import StaleArtifact
from enginewright.layout import Layout
from enginewright.manifest import IMAGES_SHA256, MODEL_SHA256

DIGEST = 12  # hex digits of a sha256 that people see
WORDS = {MODEL_SHA256: "model", IMAGES_SHA256: "images"}
PATHS = Layout()
LOCK = Path("dvc.lock")
OF_IMAGES = ("validate_accuracy", "benchmark_sustained")  # an engine is built without them

Record = Mapping[str, Any]  # what a stage wrote to artifacts/metrics/<stage>.json


def foreign(stage: str, metrics: Record, anchor: Record) -> Optional[str]:
    """Why metrics of `stage` are not of the model, images and target that `anchor` is of, in words; None where they
    are.

    Metrics that do not say what they are of, as versions before 0.2 wrote them, could be of anything.
    """
    wanted = [MODEL_SHA256, *([IMAGES_SHA256] if stage in OF_IMAGES else [])]
    unsaid = [WORDS[key] for key in wanted if key not in metrics and key in anchor]
    differing = [
        f"{WORDS[key]} {str(metrics[key])[:DIGEST]} instead of {str(anchor[key])[:DIGEST]}"
        for key in wanted
        if key in metrics and key in anchor and metrics[key] != anchor[key]
    ]
    target = list(_targets(metrics.get("target", {}), anchor.get("target", {})))
    if differing or target:
        return ", ".join([*differing, *target])
    return f"it does not say of which {' and '.join(unsaid)}" if unsaid else None


def sift(records: Mapping[str, Record], anchor: Record) -> tuple[dict[str, Record], dict[str, str]]:
    """Part records into those of what the anchor is of, and the reasons why the others are not; an empty record belongs
    everywhere.
    """
    reasons = {
        stage: reason for stage, metrics in records.items() if metrics and (reason := foreign(stage, metrics, anchor))
    }
    return {stage: metrics for stage, metrics in records.items() if stage not in reasons}, reasons


def left_out(reasons: Mapping[str, str], whose: str) -> Iterator[str]:
    """A sentence for each reason, with the stages that share it."""
    for reason in dict.fromkeys(reasons.values()):
        stages = [stage for stage, why in reasons.items() if why == reason]
        yield (
            f"left out: {', '.join(stages)}{whose}, as {'it is' if len(stages) == 1 else 'they are'} of another record"
            f" ({reason})"
        )


def _targets(its: Mapping[str, str], anchors: Mapping[str, str]) -> Iterator[str]:
    if not its or not anchors:
        return
    for name in sorted({*its, *anchors}):
        if its.get(name) != anchors.get(name):
            yield f"{name} {its.get(name, 'none')} instead of {anchors.get(name, 'none')}"


def of_other_artifacts(folder: Path, read: Mapping[str, Record], builds: Iterable[str]) -> Iterator[str]:
    """Figures that were edited, or checked out without their artifacts: what measures seals a copy among its
    outputs.
    """
    for stage, sealed in {"validate_accuracy": PATHS.accuracy, "benchmark_sustained": PATHS.benchmark}.items():
        path = sealed / "metrics.json"
        if folder != PATHS.metrics or not path.is_file():
            continue
        try:
            manifest.verify(path)
        except StaleArtifact as fault:
            yield str(fault)
            continue
        if json.loads(path.read_text()) != read[stage]:
            yield (
                f"{folder / stage}.json is not what {path} holds: it was edited, or is of another commit; run `dvc"
                " repro` or `dvc checkout`"
            )
    for stage in _edited(folder, builds):
        yield (
            f"{folder / stage}.json is not what {LOCK} holds: it was edited, or its stage did not end; run `dvc repro`"
        )


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
