"""Random interleavings of an engine's methods: every answer is compared with the reference of its own input. Under a
minute on an H100.

Run: python -m benchmarks.gpu.interleaved --out FILE [--calls 10000] [--seed 0]. Ends with 1 if an answer is wrong.

Several iterators of `infer_many` are open at once, over host, pinned and device arrays, with outputs on the host or
left on the GPU. Between two of their outputs come `infer`, `device_seconds`, `phase_seconds`, `layer_times` and
`pinned_inputs`; iterators are left unfinished, closed or dropped, and their sources raise midway.
tests/runtimes/tensorrt/test_interleaving.py runs the same over a stand-in with lazy streams.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.errors import EngineInputError
from enginewright.runtimes.base import LoadOptions
from enginewright.runtimes.tensorrt import memory
from enginewright.runtimes.tensorrt.engine import TensorRTEngine, load_engine
from enginewright.runtimes.tensorrt.interop import DeviceArray

Array = npt.NDArray[Any]
OPEN_AT_ONCE = 4
KEPT = 5  # batches left on the GPU that are looked at again later
WEIGHTS = {
    "advance": 36,
    "open_iterator": 12,
    "infer": 12,
    "infer_on_device": 6,
    "look_again": 6,
    "leave": 3,
    "device_seconds": 3,
    "phase_seconds": 3,
    "pinned_inputs": 3,
    "layer_times": 1,
}
METHODS = [name for name, weight in WEIGHTS.items() for _ in range(weight)]


class SourceEnded(Exception):
    """What a source raises on purpose."""


@dataclass(frozen=True)
class Known:
    """Rows of the engine's one input, and the outputs of each as the reference says them."""

    images: Array
    answers: Mapping[str, Array]
    tolerance: float  # of the largest value

    def differ(self, rows: list[int], outputs: Mapping[str, Array]) -> bool:
        """Whether these are not the outputs of these rows."""
        if set(outputs) != set(self.answers):
            return True
        for name, answer in self.answers.items():
            want = answer[rows]
            if outputs[name].shape != want.shape:
                return True
            if float(np.abs(outputs[name].astype(np.float64) - want).max()) > self.tolerance * float(
                np.abs(answer).max()
            ):
                return True
        return False


@dataclass
class Under:
    """An open iterator of `infer_many`."""

    outputs: Iterator[dict[str, Any]]
    on_device: bool
    due: deque[list[int]] = field(default_factory=deque)  # rows of the batches that it has drawn and not yet answered
    left: int = 0  # batches to come before it ends, or raises
    raises: bool = False
    buffers: list[memory.DeviceBuffer] = field(default_factory=list)


class Caller:
    """Makes calls on one engine, chosen by `choice`, and counts them and what is wrong."""

    def __init__(self, engine: TensorRTEngine, known: Known, choice: random.Random) -> None:
        self.engine, self.known, self.choice = engine, known, choice
        self.calls: Counter[str] = Counter()
        self.answers = 0
        self.wrong: list[str] = []
        self.open: list[Under] = []
        self.kept: deque[tuple[list[int], dict[str, DeviceArray]]] = deque()
        self.graveyard: list[Any] = []  # iterators in a reference cycle, which only the garbage collector ends
        (self.input,) = (spec.name for spec in engine.interface.inputs)

    def call(self) -> None:
        """One call of a random method."""
        name = self.choice.choice(METHODS)
        self.calls[name] += 1
        getattr(self, name)()

    def finish(self) -> None:
        """Take what is left of every iterator."""
        while self.open:
            self.calls["advance"] += 1
            self.advance(0)

    def infer(self) -> None:
        """At times beyond the profile, so that it runs in several goes."""
        rows = self._rows(3 * self.engine.axes["batch"].max if self._chance(20) else self.engine.axes["batch"].max)
        self._check("infer", rows, self.engine.infer({self.input: self.known.images[rows]}))

    def infer_on_device(self) -> None:
        """From an array on the GPU, at an aligned address or not."""
        rows, buffers = self._rows(2 * self.engine.axes["batch"].max), list[memory.DeviceBuffer]()
        feeds = {self.input: self._on_device(rows, buffers)}
        self._check("infer_on_device", rows, self.engine.infer(feeds))
        self._free(buffers)

    def device_seconds(self) -> None:
        """Whose own result is only that there is one."""
        repeats = self.choice.randint(1, 5)
        if len(self.engine.device_seconds(self._feeds(), repeats)) != repeats:
            self.wrong.append("device_seconds")

    def phase_seconds(self) -> None:
        """Likewise."""
        repeats = self.choice.randint(1, 3)
        if {len(seconds) for seconds in self.engine.phase_seconds(self._feeds(), repeats).values()} != {repeats}:
            self.wrong.append("phase_seconds")

    def layer_times(self) -> None:
        """Likewise."""
        if not self.engine.layer_times(self._feeds(), 1):
            self.wrong.append("layer_times")

    def pinned_inputs(self) -> None:
        """Read where they lie."""
        rows = self._rows(self.engine.axes["batch"].max)
        self._check("pinned_inputs", rows, self.engine.infer({self.input: self._pinned(rows)}))

    def open_iterator(self) -> None:
        """Over one to eight batches, of which the last may be an exception."""
        if len(self.open) >= OPEN_AT_ONCE:
            return self.advance()
        on_device = self._chance(30)
        under = Under(iter(()), on_device, left=self.choice.randint(1, 8), raises=self._chance(20))
        where = self.choice.choice(["host", "reused", "pinned", "device", "mixed"])
        under.outputs = self.engine.infer_many(self._source(under, where), on_device=on_device)
        self.open.append(under)
        return None

    def advance(self, index: Optional[int] = None) -> None:
        """Ask an iterator for its next output."""
        if not self.open:
            return self.infer()
        under = self.open[self.choice.randrange(len(self.open)) if index is None else index]
        try:
            outputs = next(under.outputs)
        except (StopIteration, SourceEnded) as end:
            if under.left or isinstance(end, SourceEnded) != under.raises:
                self.wrong.append(f"an iterator ended by {type(end).__name__} with {under.left} batches to come")
            self._forget(under)
            return None
        if not under.due:
            self.wrong.append("an output before its batch was drawn")
            return None
        rows = under.due.popleft()
        under.left -= 1
        self._check("infer_many", rows, self._to_host(outputs) if under.on_device else outputs)
        if under.on_device and self._chance(50):
            self.kept.append((rows, outputs))
            if len(self.kept) > KEPT:
                self.kept.popleft()
        return None

    def look_again(self) -> None:
        """Outputs that stayed on the GPU are still what they were."""
        if self.kept:
            rows, outputs = self.kept[self.choice.randrange(len(self.kept))]
            self._check("kept on the GPU", rows, self._to_host(outputs))

    def leave(self) -> None:
        """An iterator before its end: closed, dropped, or left to the garbage collector."""
        if not self.open:
            return self.infer()
        under = self.open[self.choice.randrange(len(self.open))]
        how = self.choice.choice(["close", "drop", "cycle", "collect"])
        if how == "close":
            under.outputs.close()  # type: ignore[attr-defined]  # it is a generator
        elif how == "cycle":
            cycle: list[Any] = [under.outputs]
            cycle.append(cycle)
        elif how == "collect":
            gc.collect()
        self._forget(under)
        return None

    def _source(self, under: Under, where: str) -> Iterator[dict[str, Any]]:
        largest = self.engine.axes["batch"].max if under.on_device else 2 * self.engine.axes["batch"].max + 1
        buffer = np.empty((largest, *self.known.images.shape[1:]), self.known.images.dtype)
        for _ in range(under.left):
            rows = self._rows(largest)
            under.due.append(rows)
            here = self.choice.choice(["host", "pinned", "device"]) if where == "mixed" else where
            if here == "reused":  # the caller fills one array for all of its batches
                buffer[: len(rows)] = self.known.images[rows]
                yield {self.input: buffer[: len(rows)]}
            elif here == "pinned":
                yield {self.input: self._pinned(rows)}
            elif here == "device":
                yield {self.input: self._on_device(rows, under.buffers)}
            else:
                yield {self.input: self.known.images[rows]}
            if self._chance(5):  # the source itself asks the engine
                self._check("infer in a source", rows, self.engine.infer({self.input: self.known.images[rows]}))
        if under.raises:
            raise SourceEnded

    def _chance(self, percent: int) -> bool:
        return self.choice.randrange(100) >= 100 - percent

    def _rows(self, largest: int) -> list[int]:
        return [self.choice.randrange(len(self.known.images)) for _ in range(self.choice.randint(1, largest))]

    def _feeds(self) -> dict[str, Array]:
        return {self.input: self.known.images[self._rows(self.engine.axes["batch"].max)]}

    def _pinned(self, rows: list[int]) -> Array:
        array = self.engine.pinned_inputs(len(rows))[self.input]
        array[...] = self.known.images[rows]
        return array

    def _on_device(self, rows: list[int], buffers: list[memory.DeviceBuffer]) -> DeviceArray:
        """In a buffer of its own, a few rows behind its start."""
        before = self.choice.randint(0, 2)
        images = np.ascontiguousarray(self.known.images[[0] * before + rows])
        buffers.append(memory.DeviceBuffer(images.nbytes))
        buffers[-1].copy_from_host(images)
        return DeviceArray(buffers[-1].address, images.shape, images.dtype).rows(before, len(images))

    def _to_host(self, outputs: Mapping[str, DeviceArray]) -> dict[str, Array]:
        copied = {}
        for name, array in outputs.items():
            copied[name] = np.empty(array.shape, array.dtype)
            memory.driver().memcpy_dtoh(copied[name], array.address)
        return copied

    def _check(self, call: str, rows: list[int], outputs: Mapping[str, Array]) -> None:
        self.answers += 1
        if self.known.differ(rows, outputs):
            self.wrong.append(call)

    def _forget(self, under: Under) -> None:
        self.open.remove(under)
        self._free(under.buffers)

    def _free(self, buffers: list[memory.DeviceBuffer]) -> None:
        """As an application would that is done with them: what an abandoned batch still reads there nobody will see."""
        memory.driver().Context.synchronize()
        for buffer in buffers:
            buffer.free()


def used_after_the_end(outputs: Iterator[Any]) -> bool:
    """Whether an iterator of a closed engine says so."""
    try:
        next(outputs)
    except EngineInputError as fault:
        return "closed" in str(fault)
    return False


def interleave(engine: TensorRTEngine, known: Known, seed: int, calls: int) -> dict[str, Any]:
    """Make at least `calls` calls on an engine, which is closed at the end. Returns what was called, and what was
    wrong.
    """
    began, caller = time.perf_counter(), Caller(engine, known, random.Random(seed))
    with engine:
        while sum(caller.calls.values()) < calls:
            caller.call()
        caller.finish()
        caller.kept.clear()
        late = engine.infer_many({caller.input: known.images[:1]} for _ in range(9))
        next(late)
        state = engine.state()
    if not used_after_the_end(late):
        caller.wrong.append("an iterator of a closed engine")
    said = {
        "calls": sum(caller.calls.values()),
        "answers": caller.answers,
        "wrong": len(caller.wrong),
        "first_wrong": caller.wrong[:10],
    }
    return {
        **said,
        "by_method": dict(sorted(caller.calls.items())),
        "state": state,
        "seconds": round(time.perf_counter() - began, 2),
    }


def tiny_network(path: Path, count: int = 96, largest: int = 8) -> Known:
    """Write a small convolutional network with a large and a small output; its answers by ONNX's reference
    evaluator.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    values = np.random.default_rng(0)
    weights = {
        name: values.standard_normal(shape).astype(np.float32) / 5
        for name, shape in (("w1", (8, 3, 3, 3)), ("w2", (8, 8, 3, 3)))
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["y"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["y"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["s"], name="flatten"),
    ]
    shapes: dict[str, list[Any]] = {"x": ["N", 3, 48, 48], "y": ["N", 8, 48, 48], "s": ["N", 8]}
    described = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    made = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "interleaved", [described["x"]], [described["y"], described["s"]], made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    images = values.standard_normal((count, 3, 48, 48)).astype(np.float32)
    parts: list[Any] = [
        ReferenceEvaluator(model).run(None, {"x": images[start : start + largest]})
        for start in range(0, count, largest)
    ]
    return Known(
        images, {name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(("y", "s"))}, 1e-3
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "one slot": {"depth": 1},
    "two contexts": {"depth": 4, "contexts": 2},
    "no graphs": {"graphs": False},
}


def main(arguments: Optional[list[str]] = None) -> int:
    """Build the engine, run all variants, write the result."""
    from benchmarks.gpu.common import build, machine, settings
    from enginewright.config import Precision
    from enginewright.runtimes.tensorrt import RUNTIME

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    import tensorrt as trt

    work = Path(tempfile.mkdtemp(prefix="interleaved"))
    known = tiny_network(work / "tiny.onnx")
    chosen = settings(8, optimization_level=1, timing_cache=str(work / "timing"))
    path, built = build(work / "tiny.onnx", Precision.fp32, work / "engine", chosen)
    said: dict[str, Any] = {
        "seed": given.seed,
        "machine": machine(),
        "build_seconds": built["build_seconds"],
        "variants": {},
    }
    for number, (name, options) in enumerate(VARIANTS.items()):
        engine = load_engine(trt, path, RUNTIME.fingerprint(), LoadOptions(**options))
        said["variants"][name] = interleave(engine, known, given.seed + number, -(-given.calls // len(VARIANTS)))
        print(name, json.dumps(said["variants"][name]), flush=True)
    for total in ("calls", "answers", "wrong"):
        said[total] = sum(variant[total] for variant in said["variants"].values())
    said["left_allocated"] = memory.allocated()
    given.out.write_text(json.dumps(said, indent=1) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    print(
        f"interleaved: {said['calls']} calls, {said['answers']} answers, {said['wrong']} wrong, seed {said['seed']}",
        flush=True,
    )
    return 1 if said["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
