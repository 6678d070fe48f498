"""The persistent timing cache: one file for each GPU, TensorRT version, CUDA and driver, outside of DVC's outs.

TensorRT measures each kernel once and looks it up afterwards, so that a rebuild takes a fraction of the time. Timings
of another GPU or version would choose wrong kernels: the file says what it is of, in a line of JSON before TensorRT's
own bytes, and one that is corrupt or of something else is ignored with a warning, never trusted to TensorRT.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional, cast

from enginewright.manifest import replacing
from enginewright.target import TargetFingerprint

if TYPE_CHECKING:
    import tensorrt


@dataclass(frozen=True)
class TimingCache:
    """Where the timings of one target are kept."""

    folder: Path
    target: TargetFingerprint

    @property
    def path(self) -> Path:
        """A name that a person recognises, and a hash of the whole target, as names of GPUs differ in more than
        letters.
        """
        target = self.target
        readable = (
            re.sub(
                r"[^A-Za-z0-9.]+",
                "-",
                f"{target.device}-sm{target.compute_capability}-tensorrt{target.runtime_version}",
            )
            .strip("-")
            .lower()
        )
        return self.folder / f"{readable}-{hashlib.sha256(self._key()).hexdigest()[:12]}.timing"

    def _key(self) -> bytes:
        return json.dumps(self.target.to_dict(), sort_keys=True).encode()

    def read(self) -> tuple[bytes, list[str]]:
        """The stored timings, empty if there are none that can be used, and the warnings to show."""
        try:
            head, _, timings = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return b"", []
        except OSError as fault:
            return b"", [f"the timing cache {self.path} cannot be read ({fault.strerror}) and is left out"]
        try:
            says = json.loads(head)
            whole = says["sha256"] == hashlib.sha256(timings).hexdigest()
            ours = says["target"] == self.target.to_dict()
        except (ValueError, KeyError, TypeError):
            whole, ours = False, True
        if not whole:
            return b"", [f"the timing cache {self.path} is corrupt and is left out; this build writes it again"]
        if not ours:
            return b"", [
                f"the timing cache {self.path} is of another GPU or TensorRT version and is left out; this build writes"
                " it again"
            ]
        return timings, []

    def attach(self, config: tensorrt.IBuilderConfig) -> list[str]:
        """Give the stored timings to a build, or an empty cache to fill. Returns the warnings to show."""
        timings, warnings = self.read()
        cache = cast("Optional[tensorrt.ITimingCache]", config.create_timing_cache(timings))
        if timings and (cache is None or not config.set_timing_cache(cache, False)):
            warnings.append(f"TensorRT does not take the timing cache {self.path}; this build starts with an empty one")
            timings, cache = b"", config.create_timing_cache(b"")
        if not timings and cache is not None:
            config.set_timing_cache(cache, False)
        return warnings

    def store(self, config: tensorrt.IBuilderConfig) -> None:
        """Keep what a build has measured, together with what it was given. Raises EnginewrightError if the disk is
        full.
        """
        cache = cast("Optional[tensorrt.ITimingCache]", config.get_timing_cache())
        if cache is None:
            return
        timings = bytes(memoryview(cache.serialize()))
        head = json.dumps(
            {"sha256": hashlib.sha256(timings).hexdigest(), "target": self.target.to_dict()}, sort_keys=True
        )
        with replacing(self.path) as temporary:
            temporary.write_bytes(head.encode() + b"\n" + timings)
