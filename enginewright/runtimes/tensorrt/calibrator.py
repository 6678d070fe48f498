"""TensorRT's own INT8 calibrators (up to TensorRT 10): fed from the calibration images, or from a finished calib.cache.

TensorRT swallows an exception that leaves a callback and goes on with half a calibration; here it is kept, and raised
after the build. The calibrator runs at the calibration profile's OPT shape whatever `get_batch_size` says, so that
profile has min = opt = max = the calibration batch, and every batch handed over is of that size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.calibration.cache import CalibrationCache, Header
from enginewright.config import Calibration, CalibrationAlgorithm
from enginewright.errors import CalibrationMismatch, ModelError, RuntimeUnavailable
from enginewright.graph.names import printable
from enginewright.graph.shapes import fold_static_shapes
from enginewright.interface import ShapeRange
from enginewright.plugins import NO_PLUGINS, Plugins
from enginewright.runtimes.tensorrt.bindings import Bindings, supports_implicit
from enginewright.runtimes.tensorrt.parser import parse, read_model
from enginewright.runtimes.tensorrt.progress import follow
from enginewright.runtimes.tensorrt.session import Session
from enginewright.runtimes.tensorrt.shapes import add_profile

if TYPE_CHECKING:
    import tensorrt

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]

# Scales by percentile are handed over as ranges, which is what the MinMax calibrator reads; see PERCENTILE for making
# them.
CLASSES = {
    Header.entropy: "IInt8EntropyCalibrator2",
    Header.minmax: "IInt8MinMaxCalibrator",
}
# Seen with 8.6.0: IInt8LegacyCalibrator writes another format (cut-off and quantile first, no header), which no other
# calibrator reads.
PERCENTILE = (
    "TensorRT's calibrators make no scales by percentile that anything else can read; set"
    " calibration.runtime=onnxruntime, whose scales TensorRT takes"
)
GONE = "this TensorRT has no INT8 calibrators (they went with TensorRT 11); set calibration.runtime=onnxruntime"


class Source:
    """What a calibrator answers, apart from the class of TensorRT's that asks. `batch_size` is that of every batch."""

    batch_size = 1

    def __init__(self) -> None:
        self.fault: Optional[BaseException] = None
        self.written = b""

    def batch(self, names: list[str]) -> Optional[list[int]]:
        """Device addresses of the next batch, in the order of `names`; None when there is none."""
        raise NotImplementedError

    def cache(self) -> Optional[bytes]:
        """A finished cache, or None to calibrate."""
        return None

    def take(self, cache: bytes) -> None:
        """Keep the cache that TensorRT has made."""
        self.written = bytes(memoryview(cache))

    def keep_fault(self, answer: Callable[[], Any]) -> Any:
        """Run a callback's body; a fault is kept for after the build and ends the calibration."""
        if self.fault:
            return None
        try:
            return answer()
        except BaseException as fault:  # noqa: BLE001 - TensorRT would swallow it; `reraise` raises it
            self.fault = fault
            return None

    def reraise(self) -> None:
        """Raise what a callback raised."""
        if self.fault:
            raise self.fault


class CacheSource(Source):
    """Answers with a finished calib.cache; TensorRT asking for images all the same is a fault, as its scales would not
    be ours.
    """

    def __init__(self, cache: CalibrationCache, version: str) -> None:
        super().__init__()
        self._content = cache.stamped(version).to_bytes()

    def batch(self, names: list[str]) -> Optional[list[int]]:  # noqa: ARG002 - it has none
        """Refuse. Raises CalibrationMismatch."""
        header = self._content.split(b"\n", 1)[0].decode()
        raise CalibrationMismatch(
            f"TensorRT does not accept calib.cache under the header {header}; run `dvc repro calibrate`, or set"
            " precision_mode=explicit"
        )

    def cache(self) -> Optional[bytes]:
        """The cache under the header of the TensorRT that builds."""
        return self._content


class ImageSource(Source):
    """Copies batch after batch into one device buffer an input. Use in a `with` block: it frees them."""

    def __init__(self, batches: Iterable[Feeds]) -> None:
        """Take the first batch at once: its size is the calibration batch. Raises CalibrationMismatch if there is
        none.
        """
        super().__init__()
        self._batches = _whole(batches)
        try:
            self.first = next(self._batches)
        except StopIteration:
            raise CalibrationMismatch(
                "there is no calibration image; see data.calibration_images and run `dvc repro prepare_data`"
            ) from None
        self._next: Optional[Feeds] = self.first
        self.batch_size = len(next(iter(self.first.values())))
        self._buffers: dict[str, Any] = {}
        self._held = contextlib.ExitStack()

    def batch(self, names: list[str]) -> Optional[list[int]]:
        """Device addresses of the next batch [N, C, H, W] float32, in the order of `names`; None after the last."""
        feeds = self._next
        if feeds is None:
            return None
        addresses = []
        for name in names:
            self._buffers[name].copy_from_host(np.ascontiguousarray(feeds[name]))
            addresses.append(self._buffers[name].address)
        self._next = next(self._batches, None)
        return addresses

    def __enter__(self) -> ImageSource:
        """Allocate in the device's primary context, the one that TensorRT uses."""
        from enginewright.runtimes.tensorrt.memory import DeviceBuffer, primary_context

        self._held.enter_context(primary_context())
        for name, array in self.first.items():
            self._buffers[name] = DeviceBuffer(array.nbytes)
            self._held.callback(self._buffers[name].free)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Free the buffers and leave the context."""
        self._held.close()


def _whole(batches: Iterable[Feeds]) -> Iterator[Feeds]:
    """Batches of one size: a smaller last one is filled up with its own images, over again, so that none is lost.

    Raises:
        CalibrationMismatch: a batch holds NaN or infinity, is larger than the first, or has another shape: TensorRT
            calibrates at one shape.
    """
    size: Optional[int] = None
    first: dict[str, tuple[int, ...]] = {}
    for number, feeds in enumerate(batches):
        for name, array in feeds.items():
            if not np.isfinite(array).all():
                raise CalibrationMismatch(
                    f"calibration batch {number}, input '{name}', holds NaN or infinity; check data.preprocessing"
                )
        count = len(next(iter(feeds.values())))
        if not count:
            continue
        size = size or count
        shapes = {name: array.shape[1:] for name, array in feeds.items()}
        first = first or shapes
        for name, shape in shapes.items():
            if shape != first[name]:
                raise CalibrationMismatch(
                    f"calibration batch {number} feeds '{name}' {list(shape)} and the first {list(first[name])}:"
                    " TensorRT calibrates at one shape; set calibration.runtime=onnxruntime, which calibrates at the"
                    " samples' own, or bring samples of one shape"
                )
        if count > size:
            raise CalibrationMismatch(
                f"calibration batch {number} has {count} images and the first had {size}; hand over equal batches, a"
                " smaller one last"
            )
        yield (
            feeds
            if count == size
            else {name: np.take(array, np.arange(size) % count, axis=0) for name, array in feeds.items()}
        )


def as_calibrator(trt: Bindings, header: Header, source: Source) -> tensorrt.IInt8Calibrator:
    """A calibrator of this library's class for caches with this header that asks `source`. It must outlive the build.

    Raises:
        RuntimeUnavailable: this TensorRT has no calibrators.
    """
    base = getattr(trt, CLASSES[header], None)
    if base is None:
        raise RuntimeUnavailable(GONE)

    def start(self: object) -> None:
        base.__init__(self)  # pybind11 wants the base's own __init__, called with it

    answers = {
        "__init__": start,
        "get_batch_size": lambda _: source.batch_size,
        "get_batch": lambda _, names: source.keep_fault(lambda: source.batch(list(names))),
        "read_calibration_cache": lambda _: source.cache(),
        "write_calibration_cache": lambda _, cache: source.take(cache),
    }
    calibrator: tensorrt.IInt8Calibrator = type("Calibrator", (base,), answers)()
    return calibrator


def calibrate(
    trt: Bindings,
    onnx_model: Path,
    batches: Iterable[Mapping[str, Array]],
    settings: Calibration,
    plugins: Plugins = NO_PLUGINS,
) -> CalibrationCache:
    """Choose one scale a tensor with TensorRT's calibrator for `settings.algorithm` (up to TensorRT 10).

    The network is calibrated in FP32 without TF32 and at optimization level 0, which takes the first kernel that works:
    no timing decides, so that the same images give the same scales. The INT8 engine that comes of it is thrown away.

    Raises:
        CalibrationMismatch: there is no image, one holds NaN, or the feeds do not fit the model.
        ModelError: TensorRT cannot parse or calibrate the model.
        RuntimeUnavailable: this TensorRT has no calibrators, or none for percentile, or does not start.
    """
    if not supports_implicit(trt):
        raise RuntimeUnavailable(GONE)
    if settings.algorithm is CalibrationAlgorithm.percentile:
        raise RuntimeUnavailable(PERCENTILE)
    session = Session(trt, plugins=plugins)
    model, renamed = printable(fold_static_shapes(read_model(onnx_model)))
    network = parse(session, model, onnx_model)
    config = session.builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = 0
    with ImageSource(batches) as source:
        wanted = [network.get_input(index).name for index in range(network.num_inputs)]
        if set(wanted) != set(source.first):
            raise CalibrationMismatch(
                f"the calibration images feed {', '.join(source.first)} and {onnx_model} wants {', '.join(wanted)}"
            )
        shapes = {name: ShapeRange(*(array.shape,) * 3) for name, array in source.first.items()}
        add_profile(session, config, shapes, calibrates=True)
        calibrator = as_calibrator(trt, Header.of(settings.algorithm), source)
        config.int8_calibrator = calibrator
        with follow(trt, config, session.log, f"calibration of {onnx_model.name}"):
            session.builder.build_serialized_network(network, config)
        source.reraise()
    if not source.written:
        raise ModelError(f"TensorRT {trt.__version__} wrote no scales for {onnx_model}: {session.log.reason()}")
    written = CalibrationCache.parse(source.written, f"the cache that TensorRT {trt.__version__} wrote")
    return written.renamed({new: old for old, new in renamed.items()})
