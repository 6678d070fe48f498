"""What figures are of: only those of the same model, images and target are put side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from enginewright.results.record import Record

ORIGIN_KEYS = ("model_sha256", "images_sha256", "target")  # among figures


@dataclass(frozen=True)
class Origin(Record):
    """Hashes of the model and of the image set, and the target's known fields as text; None where it is not said."""

    target: Mapping[str, str]
    model_sha256: Optional[str] = None
    images_sha256: Optional[str] = None

    @property
    def machine(self) -> str:
        """Device and runtime, for titles."""
        return f"{self.target['device']}, {self.target['runtime']} {self.target['runtime_version']}"

    def to_figures(self) -> dict[str, Any]:
        """As it lies beside figures."""
        return {key: value for key, value in self.to_json().items() if value is not None}

    @classmethod
    def from_figures(cls, content: Mapping[str, Any]) -> Origin:
        """What figures say that they are of."""
        return cls(dict(content.get("target", {})), content.get("model_sha256"), content.get("images_sha256"))
