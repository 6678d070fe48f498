"""How many models may be run: so many, and as many as fit into so many minutes. Said before it takes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional

Clock = Callable[[], float]  # seconds since any moment

SECONDS = 60.0  # of a minute
LONG = 30.0  # minutes after which nobody should wait unasked: the settings that shorten it are named
LEAST = 3  # models of an analysis: all layers in INT8, and a block in both ways


@dataclass
class Budget:
    """What a stage may spend on models of one set of images."""

    stage: str  # which the settings are named after
    evaluations: int
    minutes: Optional[float] = None
    clock: Clock = time.monotonic
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        """The minutes begin to count."""
        self._start = self.clock()

    @property
    def spent(self) -> float:
        """Minutes."""
        return (self.clock() - self._start) / SECONDS

    def fitting(self, each: float) -> int:
        """How many models of `each` seconds are left: `evaluations` or fewer, and LEAST at least."""
        if self.minutes is None:
            return self.evaluations
        left = (self.minutes - self.spent) * SECONDS
        return min(self.evaluations, max(LEAST, int(left / max(each, 1e-9))))

    def allows(self, each: float) -> bool:
        """Whether there is time for one more model of `each` seconds."""
        return self.minutes is None or self.spent + each / SECONDS <= self.minutes

    def plan(self, models: int, images: int, each: float, at_most: bool = False) -> str:
        """Say what will be run, and how long it is expected to take.

        Args:
            models: how many are left.
            images: each is run on.
            each: seconds of one.
            at_most: whether fewer may do.
        """
        minutes = models * each / SECONDS
        expected = minutes if self.minutes is None or not at_most else min(minutes, self.minutes)
        count = f"{'up to ' if at_most else ''}{models} models"
        text = f"{self.stage}: {count} of {images} images, {each:.1f} s each: about {says(expected)}"
        if at_most:
            text += " at most"
        if expected > LONG:
            text += (
                f"; {self.stage}.minutes or {self.stage}.evaluations bounds it, and fewer data.sensitivity_images"
                " shorten it"
            )
        return text


def says(minutes: float) -> str:
    """A time for people: seconds below two minutes, hours from two on."""
    if minutes < 2:
        return f"{minutes * SECONDS:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 2 * SECONDS else f"{minutes / SECONDS:.1f} hours"
