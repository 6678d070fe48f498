"""The whole way of an image: preprocessing, engine and postprocessing, one after the other, each timed apart.

An image begins as pixels in the size that it had, and ends as what the task makes of the outputs; between them is what
an application calls. A file is not decoded: image sets hold no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import numpy.typing as npt

from enginewright.benchmark.clock import NS, Interruption, garbage_collection_paused, now_ns
from enginewright.benchmark.percentiles import Seconds, percentiles
from enginewright.benchmark.system import ROTATION_BYTES
from enginewright.config import ChannelOrder, Model
from enginewright.data import Feeding
from enginewright.data.geometry import Geometry
from enginewright.data.preprocessing import Pixels
from enginewright.data.recipes import IMAGES, feeds_of
from enginewright.errors import DataError
from enginewright.feeds import Array, Feeds
from enginewright.interface import BATCH
from enginewright.results.speed import ENGINE, PARTS, POSTPROCESS, PREPROCESS, WholeSpeed
from enginewright.runtimes.base import TimedEngine
from enginewright.tasks import task_of

LEAST_ROUNDS = 5  # in each a batch goes the whole way
Rows = npt.NDArray[np.int64]
Fed = tuple[Feeds, list[Geometry]]
Feed = Callable[[Rows], Fed]
Decode = Callable[[Mapping[str, Array], Feeds, list[Geometry]], object]


@dataclass(frozen=True)
class WholeTimes:
    """What batches of one size took on their way."""

    batch: int
    seconds: Mapping[str, Seconds]  # part -> [rounds], of a batch
    absent: Mapping[str, str]  # part -> why there is none
    complete: bool = True

    def speed(self) -> WholeSpeed:
        """The figures: percentiles of each part, and images per second of the engine and of all parts in turn."""
        figures: dict[str, float] = {"rounds": len(self.seconds[ENGINE])}
        for part, seconds in self.seconds.items():
            figures.update({f"{part}_ms_{name}": 1e3 * value for name, value in percentiles(seconds).items()})
        engine = float(self.seconds[ENGINE].sum())
        if engine > 0:
            images = self.batch * len(self.seconds[ENGINE])
            figures["images_per_s_engine"] = images / engine
            if len(self.seconds) > 1:
                figures["images_per_s_whole"] = images / float(sum(part.sum() for part in self.seconds.values()))
        return WholeSpeed(self.batch, figures, self.absent)


class WholeWay:
    """Images as they were before the recipe, and what an application calls to know what is in them."""

    def __init__(self, feeding: Feeding, model: Model) -> None:
        """Rebuild the images. `model` says what is made of the outputs."""
        self._feeding, self._model, self._task = feeding, model, task_of(model)
        self._chosen = feeding.images.commonest()
        self._sources = sources(feeding, self._chosen)

    def measure(
        self, engine: TimedEngine, batch: int, seconds: float, interruption: Interruption
    ) -> Optional[WholeTimes]:
        """Send batches of images along the whole way, after one that does not count.

        Returns:
            What they took, at least LEAST_ROUNDS of them and `seconds` of all parts together; None if the engine does
                not take such a batch.
        """
        axis = engine.axes.get(BATCH)
        if not (axis.min <= batch <= axis.max if axis else batch == engine.interface.rows(engine.axes)):
            return None
        absent: dict[str, str] = {}
        feed, absent[PREPROCESS] = self._feed(engine, batch)
        decode, absent[POSTPROCESS] = self._decode(engine)
        absent = {part: why for part, why in absent.items() if why}
        spent: dict[str, list[int]] = {part: [] for part in PARTS if part not in absent}
        number, total, complete = 0, 0, True
        with garbage_collection_paused():
            self._round(engine, self._rows(0, batch), feed, decode)
            while complete and (number < LEAST_ROUNDS or total < seconds * NS):
                taken = self._round(engine, self._rows(number, batch), feed, decode)
                for part, its in spent.items():
                    its.append(taken[part])
                    total += taken[part]
                number, complete = number + 1, not interruption.requested
        times = {part: np.array(its, np.float64) / NS for part, its in spent.items()}
        return WholeTimes(batch, times, absent, complete)

    def _round(self, engine: TimedEngine, rows: Rows, feed: Feed, decode: Decode) -> dict[str, int]:
        """Send one batch along the way; nanoseconds of each part."""
        begun = now_ns()
        feeds, geometry = feed(rows)
        fed = now_ns()
        outputs = engine.infer(feeds)
        answered = now_ns()
        decode(outputs, feeds, geometry)
        return {PREPROCESS: fed - begun, ENGINE: answered - fed, POSTPROCESS: now_ns() - answered}

    def _rows(self, number: int, batch: int) -> Rows:
        """Which images go in this round: places in the rebuilt ones, or in the chosen ones where there are none."""
        return np.arange(number * batch, (number + 1) * batch) % (len(self._sources) or len(self._chosen))

    def _feed(self, engine: TimedEngine, batch: int) -> tuple[Feed, str]:
        """What makes feeds of images by their rows, or takes those of the set, and why."""
        preprocessing, inputs = self._feeding.preprocessing, engine.interface.inputs

        def preprocessed(rows: Rows) -> Fed:
            return feeds_of([self._sources[row] for row in rows], preprocessing, inputs)

        def stored(rows: Rows) -> Fed:
            chosen, geometry = self._chosen[rows], self._feeding.images.geometry
            where = [] if geometry is None else [Geometry.from_row(row) for row in geometry[chosen]]
            return self._feeding.rows(chosen, inputs), where

        if not self._sources:
            return stored, f"data.preprocessing.recipe {preprocessing.recipe} keeps no sizes of images"
        try:
            preprocessed(self._rows(0, batch))
        except DataError as fault:  # Pillow is not there, or a recipe of the user's takes no pixels
            return stored, str(fault)
        return preprocessed, ""

    def _decode(self, engine: TimedEngine) -> tuple[Decode, str]:
        """What the task makes of outputs, or nothing, and why."""
        if self._task.every_output:
            return lambda *_: None, f"the task {self._task.name} takes the outputs as they are"
        names = self._task.choose(engine.interface, self._model.judged)

        def decoded(outputs: Mapping[str, Array], feeds: Feeds, geometry: list[Geometry]) -> object:
            return self._task.decode({name: outputs[name] for name in names}, geometry, self._feeding.size(feeds))

        return decoded, ""


def sources(feeding: Feeding, chosen: Rows) -> Sequence[Pixels]:
    """Rebuild images in the sizes that they had, of the pixels that the set stores; empty where it keeps no sizes.

    Each pixel is that of the input which it falls into, so a recipe makes nearly the stored input again. What the
    recipe cut off repeats the edge.

    Args:
        feeding: of the set.
        chosen: rows of it, [n]; the first ones, up to ROTATION_BYTES.

    Returns:
        uint8 [H, W, C] each: gray, RGB or RGBA.
    """
    images, room = feeding.images, ROTATION_BYTES
    found: list[Pixels] = []
    if images.geometry is None or IMAGES not in images.arrays:
        return []
    for row in chosen:
        image = _rebuilt(images.rows(np.array([row]))[IMAGES][0], Geometry.from_row(images.geometry[row]))
        room -= image.nbytes
        if found and room < 0:
            break
        bgr = feeding.preprocessing.channels is ChannelOrder.bgr
        found.append(np.ascontiguousarray(image[..., ::-1] if bgr else image))
    return found


def _rebuilt(stored: Pixels, geometry: Geometry) -> Pixels:
    """The image [H, W, C] that lies in stored pixels [h, w, C]."""
    rows, columns = (
        np.clip(np.floor((np.arange(length) + 0.5) * scale + offset).astype(np.int64), 0, limit - 1)
        for length, scale, offset, limit in zip(geometry.size, geometry.scale, geometry.offset, stored.shape)
    )
    return np.asarray(stored[np.ix_(rows, columns)])
