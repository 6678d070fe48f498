"""How sure a metric of an engine is, from the images that it was measured on: intervals, and how many images would
narrow them.

An `Estimate` is what the gate holds against its bound. Two kinds are enough: the mean of a value of each image that has
few possible values (`Shares`: top-1, agreement), and a metric of the whole set whose images are drawn again
(`Resampled`: mean IoU, cosine). Both keep a width where nothing differs, because three equal answers say little about
the fourth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Protocol

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000  # of the bootstrap: the standard error of a 95 % bound is then a sixtieth of the interval
DRAWN_AT_ONCE = 4_000_000  # images of all resamples in memory together

Correct = npt.NDArray[np.bool_]  # [images]
Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # how often each image was drawn, [resamples, images] -> [resamples]


class Estimate(Protocol):
    """A number, and how far the images leave it open."""

    @property
    def value(self) -> float:
        """The point."""

    @property
    def images(self) -> int:
        """How many images it was measured on."""

    def interval(self, confidence: float, images: Optional[int] = None) -> tuple[float, float]:
        """Two-sided confidence interval; with `images`, the one that so many images like these would give."""


@dataclass(frozen=True)
class Shares:
    """The mean of a value that each image has, of a few possible ones: every one of these is listed, also those that no
    image had.

    Its interval is the score interval: the means that a test with the variance under the hypothesis does not reject.
    For two values that is Wilson's interval of a proportion (E. B. Wilson, Journal of the American Statistical
    Association 22, 1927), for the difference of paired proportions Tango's (T. Tango, Statistics in Medicine 17, 1998,
    891-908), and where p1 - r p2 touches 0 the limits of r are those of the ratio of paired proportions (N.-S. Tang,
    M.-L. Tang, I. S. F. Chan, Statistics in Medicine 22, 2003, 1217-1233). Where no pair differs it reaches z^2 / (n +
    z^2) from the point: at 95 %, 3.8 images.
    """

    values: tuple[float, ...]
    counts: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ValueError if there is no image."""
        if sum(self.counts) <= 0:
            raise ValueError("no image to measure on")

    @property
    def value(self) -> float:
        """The mean."""
        return sum(value * count for value, count in zip(self.values, self.counts)) / sum(self.counts)

    @property
    def images(self) -> int:
        """The sum of the counts."""
        return round(sum(self.counts))

    def interval(self, confidence: float, images: Optional[int] = None) -> tuple[float, float]:
        """See `Estimate`."""
        values, counts = np.array(self.values), np.array(self.counts, np.float64)
        if images is not None:
            counts = counts * images / counts.sum()
        low, high = _score_limit(values, counts, z_of(confidence)), -_score_limit(-values, counts, z_of(confidence))
        return low + 0.0, high + 0.0  # without the sign of a zero


@dataclass(frozen=True)
class Resampled:
    """A metric of a whole set, and what it was on sets of as many images drawn from it, with replacement (the
    percentile bootstrap).

    Images are what is drawn, as the pixels or numbers of one are not independent (B. Efron, R. Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 13). Drawing again cannot show an image that was not there: the
    interval reaches at least as far as that of `Shares` where none of n images differed, so that equal answers on a few
    images prove nothing. One image leaves everything open.
    """

    value: float
    images: int
    drawn: Floats  # [RESAMPLES], empty of one image
    least: float
    most: float  # no set can have a value beyond these two

    def interval(self, confidence: float, images: Optional[int] = None) -> tuple[float, float]:
        """See `Estimate`; a width falls with the root of the number of images."""
        if not len(self.drawn) and images is None:
            return self.least, self.most
        count = self.images if images is None else images
        if not len(self.drawn):
            room = unseen(confidence, count)
            return max(self.value - room, self.least), min(self.value + room, self.most)
        low, high = (float(limit) for limit in np.quantile(self.drawn, [(1 - confidence) / 2, (1 + confidence) / 2]))
        narrower, room = math.sqrt(self.images / count), unseen(confidence, count)
        low, high = (
            self.value - max((self.value - low) * narrower, room),
            self.value + max((high - self.value) * narrower, room),
        )
        return max(low, self.least), min(high, self.most)


@dataclass(frozen=True)
class Lowest:
    """The lowest of several estimates of the same images."""

    estimates: Sequence[Estimate]

    @property
    def value(self) -> float:
        """The lowest point."""
        return min(estimate.value for estimate in self.estimates)

    @property
    def images(self) -> int:
        """The same of all."""
        return self.estimates[0].images

    def interval(self, confidence: float, images: Optional[int] = None) -> tuple[float, float]:
        """See `Estimate`: the lowest of both ends."""
        found = [estimate.interval(confidence, images) for estimate in self.estimates]
        return min(low for low, _ in found), min(high for _, high in found)


def resampled(statistic: Statistic, images: int, least: float, most: float) -> Resampled:
    """Draw `images` images from as many, RESAMPLES times, always the same ones."""
    value, random = float(statistic(np.ones((1, images)))[0]), np.random.default_rng(0)
    together = max(1, min(RESAMPLES, DRAWN_AT_ONCE // images))
    drawn = []
    for start in range(0, RESAMPLES if images > 1 else 0, together):
        count = min(together, RESAMPLES - start)
        times = np.stack([np.bincount(random.integers(0, images, images), minlength=images) for _ in range(count)])
        drawn.append(statistic(times.astype(np.float64)))
    found = np.concatenate(drawn) if drawn else np.empty(0)
    return Resampled(value, images, found[np.isfinite(found)], least, most)


def z_of(confidence: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 at 0.95."""
    from scipy.stats import norm

    return float(norm.ppf((1 + confidence) / 2))


def unseen(confidence: float, images: int) -> float:
    """The share of all images that may do what none of `images` did: the limit of Wilson's interval of 0 of n."""
    square = z_of(confidence) ** 2
    return square / (images + square)


def _score_limit(values: Floats, counts: Floats, z: float) -> float:
    """The lower limit of the mean of a multinomial distribution over `values`."""
    from scipy.optimize import brentq

    images, least = float(counts.sum()), float(values.min())
    mean = float((values * counts).sum()) / images
    if mean - least < 1e-12:
        return least

    def excess(hypothesis: float) -> float:
        return images * (mean - hypothesis) ** 2 - z * z * _variance(values, counts / images, hypothesis)

    start = least + 1e-9 * (mean - least)
    return float(brentq(excess, start, mean - 1e-12 * (mean - least), xtol=1e-13)) if excess(start) > 0 else least


def _variance(values: Floats, shares: Floats, mean: float) -> float:
    """The variance of the distribution with this mean, below the observed one, under which `shares` are likeliest.

    That is shares / (1 + t (values - mean)) for the t that gives the mean. Where no t does without a negative
    probability, the lowest value, which no image had, takes the rest.
    """
    from scipy.optimize import brentq

    distance = values - mean
    seen, lowest = shares > 0, distance == distance.min()
    latest = -1 / float(distance.min())

    def moment(t: float) -> float:
        return float((shares[seen] * distance[seen] / (1 + t * distance[seen])).sum())

    if not seen[lowest].any() and moment(latest) >= 0:
        weights = np.where(seen, shares / np.where(seen, 1 + latest * distance, 1.0), 0.0)
        weights[np.argmax(lowest)] = 1 - weights.sum()
    else:
        t = brentq(moment, 0.0, latest * (1 - 1e-12))
        weights = shares / (1 + t * distance)
    return float((weights * distance**2).sum())


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
        return cls(
            int((first & second).sum()),
            int((first & ~second).sum()),
            int((~first & second).sum()),
            int((~first & ~second).sum()),
        )

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.both + self.only_first + self.only_second + self.neither

    def difference(self, ratio: float = 1.0) -> Shares:
        """The proportion right of the first, minus `ratio` times that of the second."""
        return Shares((1 - ratio, 1.0, -ratio, 0.0), (self.both, self.only_first, self.only_second, self.neither))


def proportion(successes: int, trials: int, minus: float = 0.0) -> Shares:
    """A proportion, less a constant."""
    return Shares((1 - minus, -minus), (successes, trials - successes))


def mcnemar_p(counts: PairedCounts) -> float:
    """Two-sided p-value of McNemar's exact test that both engines are right equally often (Q. McNemar, Psychometrika
    12, 1947).
    """
    from scipy.stats import binomtest

    differing = counts.only_first + counts.only_second
    return float(binomtest(counts.only_first, differing, 0.5).pvalue) if differing else 1.0


def compare(engine: Correct, fp32: Correct, confidence: float) -> dict[str, Any]:
    """Metrics of an engine against FP32 on the same images, both bool [images]; the difference is engine minus FP32."""
    counts = PairedCounts.of(engine, fp32)
    low, high = counts.difference().interval(confidence)
    return {
        "top1_difference": (counts.only_first - counts.only_second) / counts.images,
        "top1_difference_low": low,
        "top1_difference_high": high,
        "images_gained": counts.only_first,  # right here, wrong in FP32
        "images_lost": counts.only_second,
        "mcnemar_p": mcnemar_p(counts),
    }
