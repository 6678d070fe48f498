"""An engine with real images ready to be fed: what the scenarios and LoadGen load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from enginewright.config import Preprocessing
from enginewright.data import ImageSet, to_input
from enginewright.errors import DataError
from enginewright.runtimes.base import Engine, as_input

Feeds = Mapping[str, npt.NDArray[Any]]

ROTATION_BYTES = 64 << 20  # of preprocessed images held ready: more than a CPU's caches, little beside a board's memory
LEAST_BATCHES = 2


class EngineSystem:
    """See `enginewright.benchmark.schedule.System`. A query is a batch of real images, the next ones of the validation
    set in turn.
    """

    def __init__(
        self, engine: Engine, images: ImageSet, preprocessing: Preprocessing, batch: int, largest: int = 0
    ) -> None:
        """Preprocess and lay out the images where the engine copies from fastest.

        Args:
            engine: loaded, with one input.
            images: in stored order; repeated where there are fewer than a query needs.
            preprocessing: of `data`.
            batch: images of a query.
            largest: queries that `answer` may be given at once; 0 as many as one.

        Raises:
            DataError: there is no image.
        """
        if len(images) == 0:
            raise DataError(
                "the validation set holds no image to load the engines with; raise data.validation_images, or check"
                " data.root"
            )
        (spec,) = engine.inputs
        one = as_input(to_input(np.asarray(images.pixels[:1]), preprocessing), spec).nbytes
        self._engine, self._batch, self._name = engine, batch, spec.name
        self._count = max(LEAST_BATCHES, min(-(-len(images) // batch), ROTATION_BYTES // (one * batch)))
        rows = batch * (
            self._count + max(largest - 1, 0)
        )  # the first come again at the end, for several queries that begin near it
        self._pool = engine.pinned_inputs(rows)[spec.name]
        for row in range(
            min(batch * self._count, rows)
        ):  # one at a time: float32 images of the largest batch need not fit beside the pool
            pixels = np.asarray(images.pixels[row % len(images)])[None]
            self._pool[row : row + 1] = as_input(to_input(pixels, preprocessing), spec)
        self._pool[batch * self._count :] = self._pool[: rows - batch * self._count]
        self._feeds = [self._slice(number, 1) for number in range(self._count)]

    @property
    def images(self) -> int:
        """Different images (or repetitions of them) that are fed in turn."""
        return self._count * self._batch

    def feeds(self, number: int = 0) -> Feeds:
        """The images of query `number`."""
        return self._feeds[number % self._count]

    def answer(self, number: int, count: int = 1) -> object:
        """See `System`."""
        position = number % self._count
        return self._engine.infer(self._feeds[position] if count == 1 else self._slice(position, count))

    def answer_all(self, numbers: Iterable[int]) -> Iterator[object]:
        """See `System`."""
        feeds, count = self._feeds, self._count
        return self._engine.infer_many(feeds[number % count] for number in numbers)

    def _slice(self, position: int, count: int) -> Feeds:
        return {self._name: self._pool[position * self._batch : (position + count) * self._batch]}
