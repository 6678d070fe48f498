"""The verdict over a load: what is steady passes, and a stall, a slowdown and a slow end are named with their
window.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from enginewright.benchmark.clock import Interruption
from enginewright.benchmark.samples import Recorder, Samples
from enginewright.benchmark.schedule import LoadLimits, SingleStream
from enginewright.benchmark.stability import stability
from enginewright.benchmark.windows import window_table
from enginewright.config import Stability
from support.waiting import Clock

MS = 1_000_000
BOUNDS = Stability()


def back_to_back(latencies_ms: list[float], batch: int = 1) -> Samples:
    ends = np.cumsum(np.array(latencies_ms) * MS).astype(np.int64)
    return Samples(np.concatenate([[0], ends[:-1]]), ends, batch)


def series(rates: list[float], window: float = 10.0) -> pd.DataFrame:
    return pd.DataFrame({"seconds": window * np.arange(1, len(rates) + 1), "throughput_images_per_s": rates})


@pytest.mark.parametrize(
    "seconds", [2.0, 2.001, 2.05, 2.099], ids=["whole", "just over", "half a window over", "almost another window"]
)
def test_a_steady_load_is_stable_wherever_it_ends(seconds: float) -> None:
    found = stability(window_table(back_to_back([0.7] * int(seconds / 0.0007)), 0.1), BOUNDS)
    assert (found["stable"], found["stability"]) == (True, "held its speed")
    assert found["last_to_first"] == pytest.approx(1, abs=0.01)
    assert found["throughput_drift_percent"] == pytest.approx(0, abs=0.5)


def test_noise_within_the_bounds_is_stable() -> None:
    noisy = np.random.default_rng(0).normal(1000, 10, 60)
    assert stability(series(list(noisy)), BOUNDS)["stable"]


def test_a_slowdown_is_a_drift_with_its_size() -> None:
    found = stability(window_table(back_to_back(list(np.linspace(1.0, 2.0, 5000))), 0.5), BOUNDS)
    assert found["stable"] is False
    assert found["throughput_drift_percent"] < -40
    assert "throughput drifts by -" in found["stability"]
    assert "the last half has 0." in found["stability"]


def test_one_stall_is_no_drift_and_its_window_is_named() -> None:
    found = stability(window_table(back_to_back([1.0] * 5000 + [300.0] + [1.0] * 5000), 0.5), BOUNDS)
    assert abs(found["throughput_drift_percent"]) < 1
    assert found["stable"] is False
    assert "the slowest, 5-5.5 s, has 0." in found["stability"]
    assert "drifts" not in found["stability"]


def test_a_sleep_injected_in_the_runtime_is_flagged_with_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    class Sleepy:
        def answer(self, number: int, count: int = 1) -> object:
            del count
            clock.sleep(0.12 if number == 200 else 0.001)
            return None

        answer_all = None

    recorder = Recorder(1 << 12)
    SingleStream().drive(Sleepy(), LoadLimits(0.8, Interruption()), recorder)  # type: ignore[arg-type]
    samples = recorder.samples(1, True)
    stalled = float(samples.completed_ns[200] - samples.due_ns[0]) / 1e9
    found = stability(window_table(samples, 0.08), BOUNDS)
    assert found["stable"] is False
    start, end = (float(edge) for edge in found["stability"].split("the slowest, ")[1].split(" s")[0].split("-"))
    assert start - 0.13 <= stalled <= end + 0.13


def test_a_slow_last_minute_is_told_from_the_first() -> None:
    found = stability(series([1000.0] * 54 + [940.0] * 6), BOUNDS)
    assert found["last_to_first"] == pytest.approx(0.94)
    assert "the last minute has 0.940 of the throughput of the first" in found["stability"]


def test_figures_are_those_of_scipy_and_numpy() -> None:
    rates = np.random.default_rng(1).normal(100, 3, 40) + 0.2 * np.arange(40)
    windows = series(list(rates))
    found = stability(windows, BOUNDS)
    seconds = windows["seconds"].to_numpy()
    assert found["drift_p_value"] == pytest.approx(stats.kendalltau(seconds, rates).pvalue)
    assert found["throughput_drift_percent"] == pytest.approx(
        100 * stats.theilslopes(rates, seconds).slope * 390 / np.median(rates)
    )
    assert found["throughput_coefficient_of_variation"] == pytest.approx(stats.variation(rates))


@pytest.mark.parametrize(("count", "judged"), [(7, False), (8, True)])
def test_too_few_windows_are_not_judged(count: int, judged: bool) -> None:
    found = stability(series([100.0] * count), BOUNDS)
    assert ("stable" in found) is judged
    assert judged or found["stability"] == "too short to judge: 7 windows, and 8 are needed"


def test_the_bounds_are_the_users() -> None:
    rates = list(np.linspace(100, 92, 30))
    assert not stability(series(rates), BOUNDS)["stable"]
    assert stability(series(rates), Stability(10.0, 0.1, 0.9))["stable"]


def test_no_window_gives_no_verdict() -> None:
    assert stability(window_table(Recorder(4).samples(1, False), 1.0), BOUNDS) == {}
