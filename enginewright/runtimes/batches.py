"""What an engine is fed, checked against its interface; and batches split, put together, and kept under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Optional, TypeVar

import numpy as np

from enginewright.errors import EngineInputError, nearest
from enginewright.feeds import Array, Feeds, require_iterable, require_mapping, require_plain_array, wrong_dtype
from enginewright.interface import BATCH, Axes, Interface, TensorSpec
from enginewright.runtimes.base import Outputs

Under = TypeVar("Under")  # a batch under way


def check_feeds(interface: Interface, axes: Axes, feeds: Feeds) -> int:
    """Return the rows of feeds that fit an engine's inputs.

    Args:
        interface: of the engine.
        axes: the range of each axis. The batch may be larger, and runs in several goes; an axis without a range may
            have any size.
        feeds: input name -> array in host memory.

    Raises:
        EngineInputError: naming the input, what it should be and what it is.
    """
    if type(feeds) is not dict:  # a look at the type is cheaper than what follows, and this runs before every inference
        require_mapping(feeds)
    for name, value in feeds.items():
        if type(value) is not np.ndarray or value.dtype.hasobject:
            require_plain_array(name, value)
    return check_shapes(interface, axes, feeds)


def check_shapes(interface: Interface, axes: Axes, feeds: Mapping[str, Any]) -> int:
    """`check_feeds` of what is known to be arrays, in host memory or not. Raises EngineInputError."""
    names = [spec.name for spec in interface.inputs]
    for name in feeds:
        if name not in names:
            raise EngineInputError(f"the engine has no input '{name}'{nearest(str(name), names)}")
    sizes: dict[str, tuple[int, TensorSpec]] = {}
    for spec in interface.inputs:
        if spec.name not in feeds:
            raise EngineInputError(f"the input '{spec.name}' {spec.dtype} {list(spec.shape)} is missing")
        array = feeds[spec.name]
        if array.dtype is not spec.dtype and array.dtype != spec.dtype:
            raise wrong_dtype(spec.name, spec.dtype, array.dtype, spec.scale is not None)
        _take_sizes(spec, array.shape, sizes)
    for axis, (size, spec) in sizes.items():
        allowed = axes.get(axis)
        if allowed is not None and axis != BATCH and not allowed.min <= size <= allowed.max:
            raise EngineInputError(
                f"the axis '{axis}' of the input '{spec.name}' is {size}, and the engine takes {allowed.min} to"
                f" {allowed.max}; resize it, or build the engine again with another range"
            )
    rows = sizes[BATCH][0] if BATCH in sizes else interface.rows(axes)
    if rows < 1:
        raise EngineInputError("the batch is empty; feed at least one image")
    return rows


def _take_sizes(spec: TensorSpec, shape: tuple[int, ...], sizes: dict[str, tuple[int, TensorSpec]]) -> None:
    """Note the size of each dynamic axis. Raises EngineInputError if a fixed one differs, or two of one name do."""
    fits = len(shape) == len(spec.shape)
    for want, have in zip(spec.shape, shape) if fits else ():
        if isinstance(want, int):
            fits = fits and want == have
            continue
        known, first = sizes.setdefault(want, (have, spec)) if want else (have, spec)
        if known != have:
            raise EngineInputError(
                f"the inputs disagree on the axis '{want}': it is {known} in '{first.name}' and {have} in"
                f" '{spec.name}'; feed one size"
            )
    if not fits:
        raise EngineInputError(f"the input '{spec.name}' must have shape {list(spec.shape)} and has {list(shape)}")


def in_batches(
    interface: Interface, feeds: Mapping[str, Any], rows: int, limit: int
) -> Iterator[tuple[dict[str, Any], int]]:
    """Split feeds of `rows` rows into pieces of at most `limit`, in order, each with its rows.

    What lies beyond the range of the batch runs in several goes. Inputs without a batch go whole into each.
    """
    batched = {spec.name for spec in interface.inputs if spec.shape[:1] == (BATCH,)}
    for start in range(0, rows, limit):
        stop = min(start + limit, rows)
        yield {name: _rows(fed, start, stop) if name in batched else fed for name, fed in feeds.items()}, stop - start


def _rows(fed: Any, start: int, stop: int) -> Any:
    """`fed` is an array, or what lies on a device and has a method for it."""
    return fed[start:stop] if isinstance(fed, np.ndarray) else fed.rows(start, stop)


def plain_inputs(
    interface: Interface, axes: Axes, rows: int, sizes: Optional[Mapping[str, int]] = None
) -> dict[str, Array]:
    """`Timed.pinned_inputs` where host and device share their memory: zeros."""
    asked = input_sizes(axes, rows, sizes)
    return {spec.name: np.zeros(rows_of(interface, spec, asked), spec.dtype) for spec in interface.inputs}


def rows_of(interface: Interface, spec: TensorSpec, asked: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of `asked[BATCH]` rows of an input, also where a batch takes another number of them."""
    shape = spec.sizes(asked)
    fixed = BATCH not in interface.axes() and len(shape) > 0
    return (asked[BATCH], *shape[1:]) if fixed else shape


def input_sizes(axes: Axes, rows: int, sizes: Optional[Mapping[str, int]]) -> dict[str, int]:
    """The size of each axis of a batch of `rows`: that in `sizes`, else the largest of its range."""
    return {**{name: axis.max for name, axis in axes.items()}, **(sizes or {}), BATCH: rows}


def in_order(batches: Iterable[Feeds], start: Callable[[Feeds], Under], depth: int) -> Iterator[Under]:
    """Start one batch after the other, `depth` ahead of the one that is handed out, in order.

    What fails for a batch, in the caller's generator or in `start`, is raised in that batch's turn, after the outputs
    of those before it.
    """
    require_iterable(batches)
    source, under_way = iter(batches), deque[Under]()
    fault: Optional[Exception] = None
    while fault is None:
        try:
            feeds = next(source)
        except StopIteration:
            break
        except Exception as raised:  # noqa: BLE001 - the caller's own; it is raised below
            fault = raised
            break
        try:
            under_way.append(start(feeds))
        except Exception as raised:  # noqa: BLE001 - raised below
            fault = raised
        while len(under_way) >= depth and fault is None:
            yield under_way.popleft()
    while under_way:
        yield under_way.popleft()
    if fault is not None:
        raise fault


def overlapped(
    infer: Callable[[Feeds], Outputs],
    batches: Iterable[Feeds],
    depth: int = 2,
    live: Callable[[], object] = lambda: None,
) -> Iterator[Outputs]:
    """`infer_many` for a backend whose `infer` blocks and lets other threads run: `depth` batches under way, a thread
    each.

    Args:
        infer: answers one batch.
        batches: feeds; arrays are copied when they are drawn, so that the caller may fill them again for the next
            batch.
        depth: batches under way.
        live: raises EngineInputError once the engine is closed.
    """

    def start(feeds: Feeds) -> Future[Outputs]:
        require_mapping(feeds)
        return threads.submit(
            infer, {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in feeds.items()}
        )

    live()
    with ThreadPoolExecutor(depth) as threads:
        for under_way in in_order(batches, start, depth):
            live()
            yield under_way.result()
            live()
