"""What may be calibrated, built and measured: a whole ONNX that check_onnx passed, and engines that belong to it and to
each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from enginewright import manifest
from enginewright.config import QUANTIZED, Precision
from enginewright.errors import ModelError, StaleArtifact
from enginewright.interface import AxisRange
from enginewright.layout import Layout
from enginewright.manifest import Manifest
from enginewright.plugins import beside
from enginewright.target import TargetFingerprint


def require_checked(paths: Layout) -> Manifest:
    """Check that a project's model is whole and that check_onnx passed this one, and return its manifest.

    Raises:
        StaleArtifact: the model or the report is missing or changed.
        ModelError: the model did not pass.
    """
    made, report = manifest.verify(paths.model), manifest.verify(paths.check_report)
    if report.inputs.get(paths.name(paths.model)) != made.sha256:
        raise StaleArtifact(f"{paths.check_report} is not the report on {paths.model}; run `dvc repro -f check_onnx`")
    try:
        verdict = json.loads(paths.check_report.read_text())["verdict"]
    except (ValueError, KeyError, TypeError):
        raise StaleArtifact(f"{paths.check_report} is missing or no report; run `dvc repro check_onnx`") from None
    if verdict != "pass":
        raise ModelError(
            f"{paths.model} did not pass check_onnx; read {paths.check_report}, mend the model or its export, and run"
            " `dvc repro`"
        )
    return made


def require_engine(engine: Path, here: Optional[TargetFingerprint]) -> Manifest:
    """Check an engine before it is loaded, wherever it was carried: bytes, machine, and that no folder of another
    precision holds it.

    The project around it does not matter, nor does the current folder.

    Raises:
        StaleArtifact: naming what differs.
    """
    made = manifest.verify_alone(engine, here)
    _require_precision(engine, made)
    for plugin in beside(engine, made).files:
        plugin.verified()  # an engine may be carried without its build log, but not without these
    return made


def axes_of(engine: Path, made: Manifest) -> dict[str, AxisRange]:
    """The range of each axis that an engine was built for, as its sidecar has them. Raises StaleArtifact."""
    try:
        return {str(name): AxisRange(**sizes) for name, sizes in made.settings["axes"].items()}
    except (KeyError, TypeError, AttributeError):
        raise StaleArtifact(
            f"the sidecar of {engine} does not say which batches it was built for; run `dvc repro {made.made_by}` to"
            " build it again"
        ) from None


def is_quantized(made: Manifest) -> bool:
    """Whether an engine computes in INT8, which turns NaN into a number."""
    return made.settings.get("precision") in {precision.name for precision in QUANTIZED}


def require_engines(engines: Mapping[Precision, Path], target: TargetFingerprint) -> dict[Precision, Manifest]:
    """Check the engines of a project before they are measured side by side: each is the one of its folder, and all come
    from the same files.

    Returns:
        The manifest of each.

    Raises:
        StaleArtifact: naming what differs, and the stage to run again.
    """
    made = {precision: manifest.verify(path, target) for precision, path in engines.items()}
    for precision, path in engines.items():
        _require_precision(path, made[precision])
    require_same_inputs({path: made[precision] for precision, path in engines.items()})
    return made


def require_same_inputs(made: Mapping[Path, Manifest]) -> None:
    """Check that engines come from the same files. Raises StaleArtifact naming two that do not."""
    seen: dict[str, tuple[Path, str]] = {}
    for path, engine in made.items():
        for name, digest in engine.inputs.items():
            other, known = seen.setdefault(name, (path, digest))
            if known != digest:
                raise StaleArtifact(
                    f"{path} and {other} were built from two versions of {name}; run `dvc repro {engine.made_by}`"
                )


def _require_precision(engine: Path, made: Manifest) -> None:
    folder, says = Path(engine).absolute().parent.name, made.settings.get("precision")
    if says and folder in Precision.__members__ and folder != says:
        raise StaleArtifact(
            f"{engine} lies in the folder of {folder} and is the engine of {says}; run `dvc repro build_{folder}` to"
            " make the right one"
        )
