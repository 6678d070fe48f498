"""A load cut into windows of time: whether the engine holds its speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enginewright.benchmark.clock import NS
from enginewright.benchmark.percentiles import PER_MILLE, rank
from enginewright.benchmark.samples import Samples

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["seconds", "queries", "throughput_images_per_s", "latency_ms_p50", "latency_ms_p99"]


def window_table(samples: Samples, window_seconds: float) -> pd.DataFrame:
    """A row a window; every query is in the one window that it completed in.

    What remains after the last full window belongs to that one, which is then longer, so that no window is too short to
    mean anything.

    Returns:
        Columns seconds (end of the window, from the first issue), queries, throughput_images_per_s, latency_ms_p50,
        latency_ms_p99 (empty where
        no query completed: a stall shows as throughput 0).
    """
    import pandas as pd

    if not len(samples):
        return pd.DataFrame(columns=COLUMNS)
    count = max(int(samples.seconds / window_seconds), 1)
    ends = np.append(window_seconds * np.arange(1, count), samples.seconds)  # seconds
    of_query = np.minimum((samples.completed_ns - samples.due_ns[0]) // int(window_seconds * NS), count - 1)
    borders = np.searchsorted(of_query, np.arange(count + 1))  # completion times ascend
    latency, rows, start = samples.latency_seconds, [], 0.0
    for first, last, end in zip(borders[:-1], borders[1:], ends):
        ordered = 1e3 * np.sort(latency[first:last])
        p50, p99 = (
            (float(ordered[rank(len(ordered), PER_MILLE[name])]) if len(ordered) else np.nan) for name in ("p50", "p99")
        )
        rows.append((end, len(ordered), len(ordered) * samples.batch / (end - start), p50, p99))
        start = end
    return pd.DataFrame(rows, columns=COLUMNS)
