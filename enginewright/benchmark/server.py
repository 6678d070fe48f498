"""The search for the highest Poisson rate at which an engine holds its latency bound (MLPerf Inference, Server)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

CLOSE = 1.05  # the search ends when the lowest rate that failed is within this factor of the highest that held
MOST_PROBES = 14


@dataclass(frozen=True)
class Probe:
    """One rate that was tried."""

    queries_per_s: float  # scheduled
    queries: int
    latency_ms_at_percentile: float
    held: bool


def highest_rate(probe: Callable[[float], Probe], start: float) -> list[Probe]:
    """Double or halve from `start` until one rate holds and one fails, then halve the interval, geometrically.

    Returns:
        Every probe in the order tried; the answer is the highest that held, and there may be none.
    """
    tried: list[Probe] = []
    held = failed = None
    rate = start
    while len(tried) < MOST_PROBES:
        tried.append(probe(rate))
        if tried[-1].held:
            held = rate
        else:
            failed = rate
        if held is None:
            rate /= 2
        elif failed is None:
            rate *= 2
        elif failed / held <= CLOSE:
            break
        else:
            rate = (held * failed) ** 0.5
    return tried


def best(probes: list[Probe]) -> float:
    """The highest rate that held, in queries a second; 0 if none did."""
    return max((probe.queries_per_s for probe in probes if probe.held), default=0.0)


def table(probes: list[Probe]) -> pd.DataFrame:
    """The probes in the order tried."""
    import pandas as pd

    return pd.DataFrame(
        [vars(probe) for probe in probes], columns=["queries_per_s", "queries", "latency_ms_at_percentile", "held"]
    )
