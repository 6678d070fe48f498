"""Puts an engine under load with real images, and keeps everything that was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.benchmark.clock import Interruption, garbage_collection_paused
from enginewright.benchmark.observer import Observer
from enginewright.benchmark.percentiles import latency_metrics, too_few
from enginewright.benchmark.samples import Recorder, Samples
from enginewright.benchmark.schedule import Answer, Plan, Scenario
from enginewright.benchmark.telemetry import rss_mib
from enginewright.benchmark.windows import stability, window_table
from enginewright.config import Benchmark, Preprocessing
from enginewright.data import ImageSet, to_input
from enginewright.errors import DataError
from enginewright.runtimes.base import Engine, TensorSpec, as_input

if TYPE_CHECKING:
    import pandas as pd

Feeds = Mapping[str, npt.NDArray[Any]]

ROTATION_BYTES = 64 << 20  # of preprocessed images held ready: more than a CPU's caches, little beside a board's memory
LEAST_WARMUP_QUERIES = 3  # the first queries allocate and compile
LEAST_CURVE_QUERIES = 3
DEVICE_SECONDS = 1.0  # spent on device time
LARGEST_CAPACITY = 1 << 24  # queries preallocated; beyond, the recorder doubles


@dataclass(frozen=True)
class Measurement:
    """What the load on one engine showed. Parts that an interruption prevented are empty."""

    samples: Samples
    windows: pd.DataFrame
    device_seconds: npt.NDArray[np.float64]
    curve: pd.DataFrame
    resident_mib: Mapping[str, float]
    complete: bool

    def metrics(self) -> dict[str, Any]:
        """Figures for DVC: latency in milliseconds, throughput per second, memory in MiB."""
        figures: dict[str, Any] = {
            "queries": len(self.samples),
            "seconds": self.samples.seconds,
            "throughput_queries_per_s": self.samples.queries_per_second,
            "throughput_images_per_s": self.samples.images_per_second,
            **latency_metrics(self.samples.latency_seconds),
            **latency_metrics(self.device_seconds, "device_ms"),
            **stability(self.windows),
            **{f"resident_mib_{moment}": value for moment, value in self.resident_mib.items()},
        }
        missing = too_few(len(self.samples))
        return {**figures, "percentiles_left_out": missing} if missing else figures


def rotation(images: ImageSet, preprocessing: Preprocessing, spec: TensorSpec, batch: int) -> list[Feeds]:
    """Batches of real images in stored order, to be fed in turn: as many as ROTATION_BYTES hold, two at least.

    Raises:
        DataError: there is no image.
    """
    if len(images) == 0:
        raise DataError("the validation set holds no image to load the engines with; raise data.validation_images, or check data.root")
    one = to_input(np.asarray(images.pixels[:1]), preprocessing).nbytes
    count = max(2, min(-(-len(images) // batch), ROTATION_BYTES // (one * batch)))
    feeds: list[Feeds] = []
    for number in range(count):
        chosen = np.arange(number * batch, (number + 1) * batch) % len(images)
        feeds.append({spec.name: as_input(to_input(np.asarray(images.pixels[chosen]), preprocessing), spec)})
    return feeds


class Bench:
    """The settings of a benchmark, with the images, the scenario, and who watches."""

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        settings: Benchmark,
        *,
        scenario: Scenario,
        interruption: Interruption,
        observer: Observer,
    ) -> None:
        """`interruption` and `observer` are entered already."""
        self._images, self._preprocessing, self._settings = images, preprocessing, settings
        self._scenario, self._interruption, self._observer = scenario, interruption, observer

    def measure(self, engine: Engine, precision: str, resident_before_mib: float) -> Measurement:
        """Warm up, load, then device time and the batch-size curve; the process's resident memory is noted on the way."""
        import pandas as pd

        settings = self._settings
        feeds = rotation(self._images, self._preprocessing, engine.inputs[0], settings.batch_size)
        answer = _answerer(engine, feeds)
        self._observer.phase(precision, "warm-up", settings.warmup_seconds)
        warm = self.drive(answer, settings.batch_size, settings.warmup_seconds, LEAST_WARMUP_QUERIES)
        recorder = Recorder(min(int(1.5 * settings.seconds * warm.queries_per_second), LARGEST_CAPACITY))
        resident = {"before": resident_before_mib, "loaded": rss_mib()}
        self._observer.phase(precision, "load", settings.seconds)
        samples = self.drive(answer, settings.batch_size, settings.seconds, 1, recorder) if warm.complete else recorder.samples(settings.batch_size, False)
        resident["after"] = rss_mib()
        device_seconds: npt.NDArray[np.float64] = np.empty(0)
        if samples.complete:
            self._observer.phase(precision, "device time", DEVICE_SECONDS)
            device_seconds = engine.device_seconds(feeds[0], int(np.clip(DEVICE_SECONDS * samples.queries_per_second, 10, 1000)))
        curve = self._curve(engine, precision) if samples.complete else pd.DataFrame()
        complete = samples.complete and len(curve) == len(settings.batch_curve)
        return Measurement(samples, window_table(samples, settings.window_seconds), device_seconds, curve, resident, complete)

    def drive(self, answer: Answer, batch: int, seconds: float, least: int, recorder: Optional[Recorder] = None) -> Samples:
        """Run the scenario once, with the garbage collector held still."""
        recorder = recorder or Recorder(1 << 12)
        with garbage_collection_paused():
            complete = self._scenario.drive(answer, Plan(seconds, self._interruption, least), recorder)
        return recorder.samples(batch, complete)

    def _curve(self, engine: Engine, precision: str) -> pd.DataFrame:
        import pandas as pd

        seconds, rows = self._settings.batch_curve_seconds, []
        for batch in self._settings.batch_curve:
            self._observer.phase(precision, f"batch {batch}", 1.1 * seconds)
            answer = _answerer(engine, rotation(self._images, self._preprocessing, engine.inputs[0], batch))
            self.drive(answer, batch, 0.1 * seconds, LEAST_WARMUP_QUERIES)
            samples = self.drive(answer, batch, seconds, LEAST_CURVE_QUERIES)
            if not samples.complete:
                break
            latency = latency_metrics(samples.latency_seconds)
            rows.append({"batch": batch, "throughput_images_per_s": samples.images_per_second, **{key: latency.get(key) for key in CURVE_LATENCIES}})
        return pd.DataFrame(rows)


CURVE_LATENCIES = ("latency_ms_mean", "latency_ms_p50", "latency_ms_p99")


def _answerer(engine: Engine, feeds: Sequence[Feeds]) -> Answer:
    infer, count = engine.infer, len(feeds)

    def answer(number: int) -> object:
        return infer(feeds[number % count])

    return answer
