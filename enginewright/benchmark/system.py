"""An engine with real images ready to be fed: what the scenarios and LoadGen load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from enginewright.data import Feeding
from enginewright.errors import DataError
from enginewright.feeds import Feeds
from enginewright.runtimes.base import TimedEngine

ROTATION_BYTES = 64 << 20  # of preprocessed images held ready: more than a CPU's caches, little beside a board's memory
LEAST_BATCHES = 2


class EngineSystem:
    """See `enginewright.benchmark.schedule.System`. A query is a batch of real images, the next ones of the validation
    set in turn.
    """

    def __init__(self, engine: TimedEngine, feeding: Feeding, batch: int, largest: int = 0) -> None:
        """Preprocess and lay out the images where the engine copies from fastest.

        Args:
            engine: loaded.
            feeding: of images in stored order, of which those of the commonest shape are fed; repeated where there are
                fewer than a query needs.
            batch: images of a query.
            largest: queries that `answer` may be given at once; 0 as many as one.

        Raises:
            DataError: there is no image.
        """
        if len(feeding) == 0:
            raise DataError(
                "the validation set holds no image to load the engines with; raise data.validation_images, or check"
                " data.root"
            )
        chosen = feeding.images.commonest()
        first = feeding.rows(chosen[:1], engine.interface.inputs)
        one = sum(array.nbytes for array in first.values())
        sizes = engine.interface.sizes({name: array.shape for name, array in first.items()})
        self._engine, self._batch = engine, batch
        self._count = max(LEAST_BATCHES, min(-(-len(chosen) // batch), ROTATION_BYTES // (one * batch)))
        rows = batch * (
            self._count + max(largest - 1, 0)
        )  # the first come again at the end, for several queries that begin near it
        self._pool = engine.pinned_inputs(rows, sizes)
        for row in range(
            min(batch * self._count, rows)
        ):  # one at a time: float32 images of the largest batch need not fit beside the pool
            for name, array in feeding.rows(chosen[[row % len(chosen)]], engine.interface.inputs).items():
                self._pool[name][row : row + 1] = array
        for pool in self._pool.values():
            pool[batch * self._count :] = pool[: rows - batch * self._count]
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
        rows = slice(position * self._batch, (position + count) * self._batch)
        return {name: pool[rows] for name, pool in self._pool.items()}
