"""Any calls in any order in one thread: every answer belongs to its own input, over streams that are as lazy as CUDA
allows.
"""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from benchmarks.gpu.interleaved import VARIANTS, Caller, Known, interleave, tiny_network, used_after_the_end
from enginewright import manifest
from enginewright.errors import EngineInputError, RuntimeUnavailable
from enginewright.runtimes.base import LoadOptions
from enginewright.runtimes.tensorrt import memory
from enginewright.runtimes.tensorrt.engine import TensorRTEngine, load_engine
from enginewright.runtimes.tensorrt.interop import DeviceArray
from enginewright.target import TargetFingerprint
from support import cuda_stand_in
from support.cuda_stand_in import Gpu
from support.tensorrt_stand_in import runtime as tensorrt_runtime

pytestmark = pytest.mark.slow

HERE = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.0", "13.0", "580.95.05")
MAX = 4
IMAGES = np.random.default_rng(0).standard_normal((64, 3, 4)).astype(np.float32)
KNOWN = Known(IMAGES, {"y": 2 * IMAGES, "s": IMAGES.reshape(64, -1).sum(axis=1)}, 1e-5)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return cuda_stand_in.install(monkeypatch)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return sealed(tmp_path)


def sealed(folder: Path, minimum: int = 1) -> Path:
    path = folder / "engine.trt"
    path.write_bytes(tensorrt_runtime.plan(minimum=minimum, maximum=MAX))
    manifest.seal(path, "build_fp32", [], HERE)
    return path


def load(path: Path, **options: Any) -> TensorRTEngine:
    return load_engine(tensorrt_runtime, path, HERE, LoadOptions(**options))  # type: ignore[arg-type,unused-ignore]


def feed(*rows: int) -> dict[str, Any]:
    return {"x": IMAGES[list(rows)]}


def check(rows: list[int], outputs: dict[str, Any]) -> None:
    assert not KNOWN.differ(rows, outputs)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(derandomize=True, deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(
    choice=st.randoms(use_true_random=False),
    calls=st.integers(2, 60),
    minimum=st.sampled_from([1, 3]),
    sharing=st.booleans(),
)
def test_every_answer_belongs_to_its_input(
    variant: str,
    choice: random.Random,
    calls: int,
    minimum: int,
    sharing: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        gpu = cuda_stand_in.install(patch)
        options = VARIANTS[variant]
        patch.setattr(tensorrt_runtime, "profile_sharing", sharing or options.get("contexts", 1) > 1)
        with load(sealed(tmp_path_factory.mktemp("engine"), minimum), **options) as engine:
            caller = Caller(engine, KNOWN, choice)
            for _ in range(calls):
                caller.call()
            caller.finish()
            assert caller.wrong == []
        assert (gpu.live, gpu.pinned, gpu.pushed) == ({}, 0, 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_long_run_as_on_the_gpu(gpu: Gpu, plan: Path, variant: str) -> None:
    said = interleave(load(plan, **VARIANTS[variant]), KNOWN, seed=1, calls=300)
    assert (said["wrong"], said["first_wrong"]) == (0, [])
    assert said["calls"] >= 300
    assert said["answers"] > 150
    assert memory.allocated() == {"device": 0, "pinned": 0}


def test_the_comparison_can_fail(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        got = engine.infer(feed(1, 2))
    assert KNOWN.differ([2, 1], got)
    assert KNOWN.differ([1], got)
    assert KNOWN.differ([1, 2], {"y": got["y"]})
    assert not KNOWN.differ([1, 2], got)


def test_the_network_of_the_gpu_script_has_the_answers_of_onnx_runtime(tmp_path: Path) -> None:
    import onnxruntime

    known = tiny_network(tmp_path / "tiny.onnx", count=8)
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"), providers=["CPUExecutionProvider"])
    outputs = dict(zip(("y", "s"), session.run(["y", "s"], {"x": known.images[:8]}), strict=True))
    assert not known.differ(list(range(8)), outputs)
    assert known.differ([1, 0, *range(2, 8)], outputs)


def test_every_method_between_two_outputs(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        outputs = engine.infer_many(feed(row, row + 1) for row in range(9))
        between: list[Any] = [
            lambda: check([40], engine.infer(feed(40))),
            lambda: check(list(range(20, 31)), engine.infer(feed(*range(20, 31)))),
            lambda: engine.device_seconds(feed(41), 3),
            lambda: engine.phase_seconds(feed(42), 3),
            lambda: engine.layer_times(feed(43), 2),
            lambda: check([44], engine.infer({"x": fill(engine.pinned_inputs(1)["x"], 44)})),
            lambda: check([45, 46], together(engine.infer_many([feed(45), feed(46)]))),
            engine.bare_program(feed(47))[0].run,
            engine.state,
        ]
        for row, call in enumerate(between):
            check([row, row + 1], next(outputs))
            call()
        assert list(outputs) == []


def together(outputs: Iterator[dict[str, Any]]) -> dict[str, Any]:
    parts = list(outputs)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fill(array: Any, row: int) -> Any:
    array[...] = IMAGES[row]
    return array


def test_an_infer_between_two_outputs_takes_no_more_memory(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        held = dict(gpu.live)
        for row, output in enumerate(engine.infer_many(feed(row) for row in range(8))):
            check([row], output)
            check([50], engine.infer(feed(50)))
        assert gpu.live == held


def test_a_bare_program_keeps_its_buffers_and_its_shapes(gpu: Gpu, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_runtime, "profile_sharing", False)  # the program then shares the only context
    with load(plan, depth=1) as engine:
        program, stream = engine.bare_program(feed(1, 2, 3))
        outputs = engine.infer_many(feed(row) for row in range(6))
        for row, output in enumerate(outputs):
            check([row], output)
            program.run()
            check([60], engine.infer(feed(60)))
        stream.synchronize()


def test_outputs_on_the_gpu_stay_what_they_are_while_they_are_held(gpu: Gpu, plan: Path) -> None:
    def read(array: DeviceArray) -> Any:
        back = np.empty(array.shape, array.dtype)
        memory.driver().memcpy_dtoh(back, array.address)
        return back

    with load(plan) as engine:
        held = list(engine.infer_many([feed(row) for row in range(7)], on_device=True))
        engine.infer(feed(50))
        list(engine.infer_many([feed(51)] * 5))
        for row, output in enumerate(held):
            check([row], {name: read(array) for name, array in output.items()})
        slots = engine.state()["slots"]
        twice = engine.infer({"x": held[3]["y"]})
        np.testing.assert_allclose(twice["y"], 4 * IMAGES[3:4])
        del held, output
        check([0], next(iter(engine.infer_many([feed(0)]))))
        assert engine.state()["slots"] == slots
        for row, output in enumerate(engine.infer_many([feed(row) for row in range(20)], on_device=True)):
            check([row], {name: read(array) for name, array in output.items()})
        assert engine.state()["slots"] == slots


def test_a_loop_over_outputs_on_the_gpu_needs_no_further_slot(gpu: Gpu, plan: Path) -> None:
    with load(plan, depth=3) as engine:
        for _ in engine.infer_many([feed(row) for row in range(20)], on_device=True):
            pass
        assert engine.state()["slots"] == 3


def test_too_many_outputs_held_on_the_gpu_is_one_sentence(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        gpu.room = sum(gpu.live.values()) + 700
        with pytest.raises(RuntimeUnavailable, match=r"no memory for one more.*let go of outputs of infer_many"):
            list(engine.infer_many([feed(row) for row in range(20)], on_device=True))
        check([3], engine.infer(feed(3)))


def test_the_exception_of_a_source_comes_in_its_turn(gpu: Gpu, plan: Path) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield feed(1)
        yield feed(2, 3)
        raise KeyError("the camera is gone")

    with load(plan) as engine:
        outputs = engine.infer_many(source())
        check([1], next(outputs))
        check([2, 3], next(outputs))
        with pytest.raises(KeyError, match="the camera is gone"):
            next(outputs)
        with pytest.raises(StopIteration):
            next(outputs)
        check([4], engine.infer(feed(4)))


def test_a_wrong_batch_is_refused_in_its_turn(gpu: Gpu, plan: Path) -> None:
    with load(plan) as engine:
        outputs = engine.infer_many([feed(1), {"x": IMAGES[:, :2]}, feed(2)])
        check([1], next(outputs))
        with pytest.raises(EngineInputError, match="must have shape"):
            next(outputs)


@pytest.mark.parametrize("how", ["close", "drop", "cycle", "elsewhere"])
def test_an_unfinished_iterator_leaves_nothing_behind(gpu: Gpu, plan: Path, how: str) -> None:
    with load(plan) as engine:
        for row in range(6):
            outputs = engine.infer_many(feed(other) for other in range(row, 60))
            check([row], next(outputs))
            if how == "close":
                outputs.close()  # type: ignore[attr-defined]
            elif how == "cycle":
                cycle: list[Any] = [outputs]
                cycle.append(cycle)
                del cycle
            elif how == "elsewhere":  # the last reference goes in another thread, where CUDA must not be used
                holder = [outputs]
                del outputs
                thread = threading.Thread(target=holder.clear)
                thread.start()
                thread.join()
            outputs = iter(())
            gc.collect()
            check([63], engine.infer(feed(63)))
        assert engine.state()["slots"] == 3


@pytest.mark.parametrize("taken", [0, 1, 4])
@pytest.mark.parametrize("on_device", [False, True], ids=["host", "on device"])
def test_an_iterator_after_the_engine_was_closed_is_one_sentence(
    gpu: Gpu, plan: Path, taken: int, on_device: bool
) -> None:
    with load(plan) as engine:
        outputs = engine.infer_many((feed(row) for row in range(4)), on_device=on_device)
        for _ in range(taken):
            next(outputs)
    assert used_after_the_end(outputs)
    with pytest.raises(EngineInputError, match=r"engine.trt is closed: its `with` block has ended; load it again"):
        next(engine.infer_many([feed(1)]))
    for call in (
        lambda: engine.pinned_inputs(1),
        lambda: engine.device_seconds(feed(1), 1),
        lambda: engine.layer_times(feed(1), 1),
    ):
        with pytest.raises(EngineInputError, match="is closed"):
            call()


def test_an_iterator_in_another_thread_is_refused(gpu: Gpu, plan: Path) -> None:
    said: list[str] = []

    def elsewhere() -> None:
        with pytest.raises(EngineInputError, match="another thread") as caught:
            next(outputs)
        said.append(str(caught.value))

    with load(plan) as engine:
        outputs = engine.infer_many(feed(row) for row in range(2))
        next(outputs)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert len(said) == 1


def test_one_array_filled_again_for_each_batch(gpu: Gpu, plan: Path) -> None:
    buffer = np.empty((2 * MAX, 3, 4), np.float32)

    def source() -> Iterator[dict[str, Any]]:
        for row in range(6):
            buffer[...] = IMAGES[row : row + 2 * MAX]
            yield {"x": buffer}

    with load(plan) as engine:
        for row, output in enumerate(engine.infer_many(source())):
            buffer[...] = np.nan
            check(list(range(row, row + 2 * MAX)), output)


def test_pinned_inputs_are_freed_after_what_reads_them(gpu: Gpu, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    wait, free = cuda_stand_in.Context.synchronize, cuda_stand_in.PagelockedHostAllocation.free

    def waits() -> None:
        order.append("wait")
        wait()

    def frees(allocation: cuda_stand_in.PagelockedHostAllocation) -> None:
        order.append("free")
        free(allocation)

    monkeypatch.setattr(cuda_stand_in.Context, "synchronize", staticmethod(waits))
    monkeypatch.setattr(cuda_stand_in.PagelockedHostAllocation, "free", frees)
    with load(plan) as engine:
        outputs = engine.infer_many([{"x": fill(engine.pinned_inputs(2)["x"], 1)}] * 3)
        next(outputs)
        order.clear()
    assert order[0] == "wait"


class SideStream:
    """A tensor of another library that is still being written, on a stream of its own, when it is fed. It names no
    stream but through DLPack.
    """

    def __init__(self, row: int) -> None:
        self.memory, self.stream = memory.DeviceBuffer(IMAGES[:1].nbytes), cuda_stand_in.Stream()
        described = {
            "shape": (1, 3, 4),
            "typestr": "<f4",
            "data": (self.memory.address, False),
            "version": 2,
            "strides": None,
        }
        self.__cuda_array_interface__ = described
        self.stream.put(lambda: cuda_stand_in.copy(self.memory.address, IMAGES[row : row + 1]))

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, *, stream: int = -1) -> Any:
        cuda_stand_in.GPU.streams[stream].wait_for_event(cuda_stand_in.Event().record(self.stream))
        return tensorrt_runtime.view(self.memory.address, (1, 3, 4), np.dtype(np.float32)).__dlpack__()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_tensor_made_on_a_side_stream_is_read_when_it_is_there(gpu: Gpu, plan: Path, variant: str) -> None:
    with load(plan, **VARIANTS[variant]) as engine:
        tensors = [SideStream(row) for row in range(10)]
        check([0], engine.infer({"x": tensors[0]}))
        for row, output in enumerate(engine.infer_many({"x": tensor} for tensor in tensors[1:]), 1):
            check([row], output)
        assert len(engine.device_seconds({"x": SideStream(11)}, 2)) == 2
        for tensor in tensors:
            tensor.memory.free()


def test_an_array_on_the_gpu_with_fewer_rows_than_the_profile_is_not_read_beyond_its_end(
    gpu: Gpu, tmp_path: Path
) -> None:
    theirs = memory.DeviceBuffer(IMAGES[:9].nbytes)
    theirs.copy_from_host(IMAGES[:9])
    with load(sealed(tmp_path, minimum=3)) as engine:
        read: list[int] = []
        accept = tensorrt_runtime.IExecutionContext.set_tensor_address

        def noted(context: Any, name: str, address: int) -> bool:
            read.append(address)
            return accept(context, name, address)

        array = DeviceArray(theirs.address, (9, 3, 4), np.dtype(np.float32))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tensorrt_runtime.IExecutionContext, "set_tensor_address", noted)
            check([0], engine.infer({"x": array.rows(0, 1)}))
            assert theirs.address not in read
            check(list(range(9)), engine.infer({"x": array}))
            assert theirs.address in read
        assert all(address % 256 == 0 for address in read)
    theirs.free()
