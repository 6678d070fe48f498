"""No sample is lost between driver, windows and totals; a stall and a slowdown show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from enginewright.benchmark.samples import Recorder, Samples
from enginewright.benchmark.windows import window_table

MS = 1_000_000


def back_to_back(latencies_ms: list[float], batch: int = 1) -> Samples:
    ends = np.cumsum(np.array(latencies_ms) * MS).astype(np.int64)
    return Samples(np.concatenate([[0], ends[:-1]]), ends, batch)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * MS), st.integers(1, 50 * MS)), min_size=1, max_size=300),
    st.floats(0.001, 0.3),
    st.integers(1, 32),
    st.integers(1, 64),
)
def test_no_sample_is_lost_between_recorder_windows_and_totals(
    queries: list[tuple[int, int]], window: float, batch: int, capacity: int
) -> None:
    recorder, clock = Recorder(capacity), 10**15
    for gap, latency in queries:
        clock += gap
        recorder.record(clock, clock + latency)
        clock += latency
    samples = recorder.samples(batch, True)
    windows = window_table(samples, window)
    lengths = np.diff(windows["seconds"], prepend=0.0)
    assert len(samples) == len(queries)
    assert windows["queries"].sum() == len(queries)
    assert (lengths > 0).all()
    assert lengths.sum() == pytest.approx(samples.seconds)
    assert (windows["throughput_images_per_s"] * lengths).sum() == pytest.approx(len(queries) * batch)
    assert samples.latency_seconds.sum() == pytest.approx(sum(latency for _, latency in queries) / 1e9)


def test_stall_shows_as_a_window_without_throughput() -> None:
    windows = window_table(back_to_back([1.0] * 100 + [350.0] + [1.0] * 100), 0.1)
    assert windows["throughput_images_per_s"].min() == 0
    assert windows["latency_ms_p50"].isna().any()
    assert windows["queries"].sum() == 201


def test_remainder_joins_the_last_window() -> None:
    windows = window_table(back_to_back([10.0] * 25), 0.1)
    assert windows["seconds"].tolist() == [0.1, 0.25]
    assert windows["queries"].tolist() == [
        9,
        16,
    ]  # the tenth query ends on the border, and a border belongs to what follows


def test_no_query_gives_no_window() -> None:
    empty = Recorder(4).samples(1, False)
    assert window_table(empty, 1.0).empty
    assert empty.images_per_second == 0
