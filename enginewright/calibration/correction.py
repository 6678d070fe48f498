"""bias_correction.json: what INT8 weights add to the output of each layer on average, to be taken off its bias.

Why, and how it is applied: `enginewright.graph.bias`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from enginewright.errors import CalibrationMismatch

REMEDY = "run `dvc repro calibrate`"


@dataclass(frozen=True, eq=False)
class BiasCorrection:
    """What to subtract from the biases of the layers that run in INT8."""

    layers: Mapping[str, npt.NDArray[np.float32]]  # name of a layer -> one number an output channel, [channels]

    def __eq__(self, other: object) -> bool:
        """Whether both have the same layers, in the same order, and the same bits."""
        return isinstance(other, BiasCorrection) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        """Equal corrections have equal hashes."""
        return hash(self.to_bytes())

    @classmethod
    def read(cls, path: Path) -> BiasCorrection:
        """Read a file of `to_bytes`.

        Raises:
            CalibrationMismatch: it does not exist, or is not a JSON object of lists of finite numbers.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise CalibrationMismatch(f"{path} does not exist; {REMEDY}") from None
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, where: str = "bias_correction.json") -> BiasCorrection:
        """The same from bytes."""
        try:
            layers = {name: np.asarray(values, np.float32) for name, values in json.loads(content).items()}
        except (ValueError, TypeError, AttributeError) as fault:
            said = " ".join(str(fault).split())
            raise CalibrationMismatch(f"{where} is not a bias correction ({said}); {REMEDY}") from None
        for name, values in layers.items():
            if values.ndim != 1 or not np.isfinite(values).all():
                raise CalibrationMismatch(f"{where} has no list of finite numbers for '{name}'; {REMEDY}")
        return cls(layers)

    def to_bytes(self) -> bytes:
        """The file's content; equal corrections give equal bytes, and every float32 comes back as it was."""
        numbers = {name: [float(f"{value:.9g}") for value in each.tolist()] for name, each in self.layers.items()}
        return (json.dumps(numbers, indent=0) + "\n").encode()

    def renamed(self, names: Mapping[str, str]) -> BiasCorrection:
        """The same for a model some of whose layers are called otherwise: old name -> new."""
        return BiasCorrection({names.get(layer, layer): values for layer, values in self.layers.items()})
