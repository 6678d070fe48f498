"""Whether a difference in top-1 between two engines, seen on the same images, is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Correct = npt.NDArray[np.bool_]  # [images]


@dataclass(frozen=True)
class PairedCounts:
    """Images by who was right: the paired 2 x 2 table."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: Correct, second: Correct) -> PairedCounts:
        """Count images; both arrays are bool [images] in the same order."""
        return cls(int((first & second).sum()), int((first & ~second).sum()), int((~first & second).sum()), int((~first & ~second).sum()))

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.both + self.only_first + self.only_second + self.neither


def paired_interval(counts: PairedCounts, confidence: float) -> tuple[float, float]:
    """Confidence interval of the difference in the proportion right, first minus second.

    Newcombe's method 10: squares and adds Wilson score intervals, with a continuity-corrected correlation phi
    (R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired data",
    Statistics in Medicine 17, 1998, 2635-2650). Unlike Wald's, it keeps a width where the engines never differ.

    Raises:
        ValueError: there is no image.
    """
    images = counts.images
    if images == 0:
        raise ValueError("no image to compare the engines on")
    first, second = counts.both + counts.only_first, counts.both + counts.only_second
    p1, p2 = first / images, second / images
    (low1, high1), (low2, high2) = proportion_interval(first, images, confidence), proportion_interval(second, images, confidence)
    phi = _correlation(counts)

    def squared_and_added(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    low = p1 - p2 - squared_and_added(p1 - low1, high2 - p2)
    high = p1 - p2 + squared_and_added(high1 - p1, p2 - low2)
    return max(low, -1.0), min(high, 1.0)


def proportion_interval(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, Journal of the American Statistical Association 22, 1927), by SciPy. Raises ValueError."""
    from scipy.stats import binomtest

    found = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def _correlation(counts: PairedCounts) -> float:
    product = (
        (counts.both + counts.only_first) * (counts.only_second + counts.neither) * (counts.both + counts.only_second) * (counts.only_first + counts.neither)
    )
    if product == 0:
        return 0.0
    determinant = counts.both * counts.neither - counts.only_first * counts.only_second
    corrected = max(determinant - counts.images / 2, 0.0) if determinant > 0 else float(determinant)
    return corrected / math.sqrt(product)


def mcnemar_p(counts: PairedCounts) -> float:
    """Two-sided p-value of McNemar's exact test that both engines are right equally often (Q. McNemar, Psychometrika 12, 1947)."""
    from scipy.stats import binomtest

    differing = counts.only_first + counts.only_second
    return float(binomtest(counts.only_first, differing, 0.5).pvalue) if differing else 1.0


def compare(engine: Correct, fp32: Correct, confidence: float) -> dict[str, Any]:
    """Metrics of an engine against FP32 on the same images, both bool [images]; the difference is engine minus FP32."""
    counts = PairedCounts.of(engine, fp32)
    low, high = paired_interval(counts, confidence)
    return {
        "top1_difference": (counts.only_first - counts.only_second) / counts.images,
        "top1_difference_low": low,
        "top1_difference_high": high,
        "images_gained": counts.only_first,  # right here, wrong in FP32
        "images_lost": counts.only_second,
        "mcnemar_p": mcnemar_p(counts),
    }
