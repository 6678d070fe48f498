"""calib.cache: TensorRT's own text format, the one calibration artifact.

First line `TRT-<version>-<algorithm>`, then one line a tensor: its name, `: ` and up to 8 hex digits, the big-endian
IEEE-754 float32 scale. real = scale * int8, scale = amax / 127 (NVIDIA TensorRT Developer Guide, "INT8 calibration").
TensorRT writes no leading zeros, so a tensor that was always zero, such as a bias of zeros, has the one digit `0`.

A name that holds a newline does not fit on a line. It is written as a JSON string, in quotes, and so is one that looks
like that already; TensorRT knows no such tensor (its builder gets other names: `enginewright.graph.names`). All
other names stay as they are.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np

from enginewright.config import CalibrationAlgorithm
from enginewright.errors import CalibrationMismatch
from enginewright.manifest import replacing


class Header(Enum):
    """What the first line says of the algorithm: which of TensorRT's calibrators takes the file.

    TensorRT refuses a cache whose header names another algorithm or version. It knows no percentile; to its MinMax
    calibrator any scale is a range, so that is what such a cache is called. Which algorithm chose the scales is in the
    sidecar's settings. (The Legacy calibrator of 8.6 writes a format of its own, without a header.)
    """

    entropy = "EntropyCalibration2"
    minmax = "MinMaxCalibration"

    @classmethod
    def of(cls, algorithm: CalibrationAlgorithm) -> Header:
        """The header of a cache whose scales this algorithm chose."""
        return cls.entropy if algorithm is CalibrationAlgorithm.entropy else cls.minmax


PORTABLE_VERSION = "8600"  # what a cache of ours is stamped with; `stamped` writes the version that builds

# A tensor that was zero in every image gets the range 1: zeros stay exact, and a value that does come is not cut to
# nothing.
RANGE_OF_ZEROS = 1.0


@dataclass(frozen=True)
class CalibrationCache:
    """INT8 scales of activation tensors, all that TensorRT's text format holds: what is written comes back equal."""

    header: Header
    scales: Mapping[str, float]  # tensor name -> scale, a float32 value
    version: str = PORTABLE_VERSION

    @classmethod
    def read(cls, path: Path) -> CalibrationCache:
        """Read a cache written by TensorRT or by us.

        Raises:
            CalibrationMismatch: it does not exist; or with file and line number if a line is not `tensor: 1 to 8 hex
                digits`.
        """
        try:
            return cls.parse(path.read_bytes(), str(path))
        except FileNotFoundError:
            raise CalibrationMismatch(f"{path} does not exist; run `dvc repro calibrate`") from None

    @classmethod
    def parse(cls, content: bytes, where: str = "calib.cache") -> CalibrationCache:
        """The same from bytes, as a TensorRT calibrator hands them over."""
        lines = content.decode("utf-8", errors="replace").split(
            "\n"
        )  # not by splitlines, which knows line breaks that a name may hold
        header = re.fullmatch(r"TRT-(\d+)-(\w+)", lines[0].strip()) if lines else None
        if header is None or header.group(2) not in {each.value for each in Header}:
            found = lines[0][:60] if lines else "nothing"
            raise CalibrationMismatch(
                f"{where}, line 1: {found!r} is no header like TRT-8600-EntropyCalibration2; run `dvc repro calibrate`"
            )
        scales: dict[str, float] = {}
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            tensor, separator, digits = line.rstrip("\r").rpartition(": ")  # a tensor's name may hold ": " itself
            cut_short = number == len(lines) and not content.endswith(b"\n") and digits != "0" and len(digits) < 8
            if not separator or cut_short or not re.fullmatch(r"[0-9a-fA-F]{1,8}", digits):
                raise CalibrationMismatch(
                    f"{where}, line {number}: is not `tensor: 1 to 8 hex digits`; run `dvc repro calibrate`"
                )
            (scale,) = struct.unpack("!f", bytes.fromhex(digits.zfill(8)))
            if not math.isfinite(scale) or scale < 0:
                raise CalibrationMismatch(
                    f"{where}, line {number}: the scale of {tensor} is {scale}; run `dvc repro calibrate`"
                )
            scales[_unquoted(tensor)] = scale
        return cls(Header(header.group(2)), scales, header.group(1))

    def to_bytes(self) -> bytes:
        """The file's content; equal scales give equal bytes."""
        lines = [f"TRT-{self.version}-{self.header.value}"]
        lines += [f"{_quoted(tensor)}: {struct.pack('!f', scale).hex()}" for tensor, scale in self.scales.items()]
        return ("\n".join(lines) + "\n").encode()

    def write(self, path: Path) -> None:
        """Write the file through a temporary one."""
        with replacing(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    def stamped(self, version: str) -> CalibrationCache:
        """The same scales under another TensorRT version's header: TensorRT calibrates again when its own is not
        there.
        """
        return replace(self, version=version)

    def renamed(self, names: Mapping[str, str]) -> CalibrationCache:
        """The same for a model some of whose tensors are called otherwise: old name -> new."""
        return replace(self, scales={names.get(tensor, tensor): scale for tensor, scale in self.scales.items()})


def _quoted(tensor: str) -> str:
    """A tensor's name as a line may hold it."""
    return json.dumps(tensor) if "\n" in tensor or (tensor[:1] == '"' and tensor[-1:] == '"') else tensor


def _unquoted(written: str) -> str:
    """The tensor's name again: what `_quoted` would have written so, and anything else as it stands."""
    try:
        tensor = json.loads(written) if written[:1] == '"' else written
    except ValueError:
        return written
    return tensor if isinstance(tensor, str) and _quoted(tensor) == written else written


def scale_of(tensor: str, amax: float) -> float:
    """The float32 scale amax / 127. Raises CalibrationMismatch if the range is no number."""
    if not np.isfinite(amax):
        raise CalibrationMismatch(
            f"the values of {tensor} have the range {amax}; look for NaN or infinity in the weights and in the"
            " calibration images"
        )
    scale = float(np.float32(amax / 127))
    return scale if scale >= np.finfo(np.float32).tiny else float(np.float32(RANGE_OF_ZEROS / 127))
