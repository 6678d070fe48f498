"""What may be calibrated and built: a whole ONNX that check_onnx passed."""

from __future__ import annotations

import json
from pathlib import Path

from enginewright import artifacts, manifest
from enginewright.errors import ModelError, StaleArtifact


def require_checked(model: Path) -> None:
    """Check that a model is whole and passed check_onnx. Raises StaleArtifact, ModelError."""
    manifest.verify(model)
    try:
        verdict = json.loads(artifacts.CHECK_REPORT.read_text())["verdict"]
    except (OSError, ValueError, KeyError, TypeError):
        raise StaleArtifact(f"{artifacts.CHECK_REPORT} is missing or no report; run `dvc repro check_onnx`") from None
    if verdict != "pass":
        raise ModelError(f"{model} did not pass check_onnx; read {artifacts.CHECK_REPORT}, mend the model or its export, and run `dvc repro`")
