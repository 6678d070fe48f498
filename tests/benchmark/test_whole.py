"""The whole way of an image: each part has its own time, by a clock that only the parts move, and the images are those
of the set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Optional

import numpy as np
import numpy.typing as npt
import pytest

from enginewright.benchmark import whole
from enginewright.benchmark.clock import Interruption
from enginewright.benchmark.whole import LEAST_ROUNDS, WholeTimes, WholeWay, sources
from enginewright.config import ChannelOrder, Model, Preprocessing
from enginewright.data import Feeding, ImageSet
from enginewright.data.columns import Ragged
from enginewright.data.geometry import Geometry
from enginewright.data.recipes import feeds_of, recipe_of
from enginewright.data.samples import Sample
from enginewright.errors import DataError
from enginewright.feeds import Array, Feeds
from enginewright.interface import AxisRange, Interface, TensorSpec, up_to
from enginewright.registry import TASKS
from enginewright.runtimes.null.engine import NullEngine
from enginewright.tasks.classification import Classification
from enginewright.tasks.detection.task import Detection
from support.waiting import Clock

FLOAT = np.dtype(np.float32)
PREPROCESS_MS, ENGINE_MS, POSTPROCESS_MS = 2.0, 5.0, 3.0
Size = tuple[int, int]


def pixels(height: int, width: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    """A picture with slow changes, as photographs have."""
    down, across = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(down / 9 + plane) * np.cos(across / 11) for plane in range(channels)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def image_set(preprocessing: Preprocessing, images: Sequence[npt.NDArray[np.uint8]]) -> ImageSet:
    """The set that prepare_data would store."""
    recipe = recipe_of(preprocessing)
    made = [recipe.store(Sample("an image", 0, partial(np.asarray, image))) for image in images]
    stored = [arrays["images"] for arrays, _ in made]
    rows = np.stack([where.to_row() for _, where in made if where is not None])
    names = tuple(map(str, range(len(images))))
    if len({array.shape for array in stored}) == 1:
        return ImageSet({"images": np.stack(stored)}, None, (), names, [], geometry=rows)
    return ImageSet({"images": Ragged.of(stored)}, None, (), names, [], geometry=rows)


LETTERBOX = Preprocessing(recipe="letterbox", size=[32, 48], channels=ChannelOrder.rgb, mean=[0.0] * 3, std=[1.0] * 3)
PHOTOGRAPHS = [pixels(60, 80), pixels(90, 70), pixels(20, 30)]


def interface(shape: Sequence[Any] = ("batch", 3, 32, 48), outputs: Sequence[TensorSpec] = ()) -> Interface:
    answers = outputs or (TensorSpec("logits", FLOAT, ("batch", 10)),)
    return Interface((TensorSpec("images", FLOAT, tuple(shape)),), tuple(answers))


class Slow(NullEngine):
    """Takes ENGINE_MS a batch by a clock that does not depend on the machine, and keeps what it was fed."""

    def __init__(self, clock: Clock, of: Interface, axes: Optional[Mapping[str, AxisRange]] = None) -> None:
        super().__init__(of, up_to(8) if axes is None else axes)
        self.clock, self.fed = clock, list[Feeds]()

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        self.fed.append(feeds)
        self.clock.sleep(ENGINE_MS / 1e3)
        return super().infer(feeds)


class Watched(Classification):
    """Takes POSTPROCESS_MS a batch, and keeps what it was asked."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.asked = clock, list[tuple[Mapping[str, Array], Sequence[Geometry], Optional[Size]]]()

    def configured(self, model: Model) -> Watched:
        del model
        return self

    def decode(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], size: Optional[Size]) -> Any:
        self.asked.append((outputs, geometry, size))
        self.clock.sleep(POSTPROCESS_MS / 1e3)
        return super().decode(outputs, geometry, size)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the harness; preprocessing takes PREPROCESS_MS a batch by it."""
    stopped = Clock(monkeypatch, tick_ns=0)

    def preprocessed(*arguments: Any) -> Any:
        stopped.sleep(PREPROCESS_MS / 1e3)
        return feeds_of(*arguments)

    monkeypatch.setattr(whole, "feeds_of", preprocessed)
    return stopped


def measured(
    engine: NullEngine, feeding: Feeding, batch: int = 1, seconds: float = 0.0, task: str = "classification"
) -> WholeTimes:
    found = WholeWay(feeding, Model(task=task)).measure(engine, batch, seconds, Interruption())
    assert found is not None
    return found


@pytest.mark.parametrize("batch", [1, 4])
def test_each_part_has_its_own_time(clock: Clock, batch: int) -> None:
    feeding = Feeding(image_set(LETTERBOX, PHOTOGRAPHS), LETTERBOX)
    with TASKS.using("classification", Watched(clock)):
        times = measured(Slow(clock, interface()), feeding, batch)
    speed = times.speed()
    assert speed.batch_size == batch
    assert not speed.absent
    assert speed.figures["rounds"] == LEAST_ROUNDS
    parts = {"preprocess": PREPROCESS_MS, "engine": ENGINE_MS, "postprocess": POSTPROCESS_MS}
    assert {part: speed.figures[f"{part}_ms_p50"] for part in parts} == pytest.approx(parts)
    assert speed.figures["images_per_s_engine"] == pytest.approx(1e3 * batch / ENGINE_MS)
    assert speed.figures["images_per_s_whole"] == pytest.approx(1e3 * batch / sum(parts.values()))
    assert "preprocess_ms_p99" not in speed.figures, "five rounds have no 99th percentile"


def test_it_goes_on_for_the_seconds_of_all_parts_together(clock: Clock) -> None:
    feeding = Feeding(image_set(LETTERBOX, PHOTOGRAPHS), LETTERBOX)
    with TASKS.using("classification", Watched(clock)):
        times = measured(Slow(clock, interface()), feeding, seconds=0.2)
    assert times.speed().figures["rounds"] == 0.2 / 0.01


def test_the_engine_is_fed_what_was_preprocessed_and_the_task_gets_its_geometry(clock: Clock) -> None:
    images = image_set(LETTERBOX, PHOTOGRAPHS)
    feeding = Feeding(images, LETTERBOX)
    engine = Slow(clock, interface())
    task = Watched(clock)
    with TASKS.using("classification", task):
        measured(engine, feeding)
    asked = [whose for _, (whose,), _ in task.asked]
    wanted = images.geometries(slice(0, 3))
    assert asked == [wanted[row] for row in (0, 0, 1, 2, 0, 1)], "the first does not count, then all in turn"
    assert {size for *_, size in task.asked} == {(32, 48)}
    stored = feeding.rows(slice(1, 2), engine.interface.inputs)["images"]
    assert np.abs(engine.fed[2]["images"] - stored).mean() < 0.01, "nearly the image of the validation set"


CROP = {"size": [32, 32], "resize": 40}
RECIPES = [
    pytest.param({"recipe": "letterbox", "size": [32, 48]}, id="letterbox"),
    pytest.param({"recipe": "letterbox", "size": [32, 48], "channels": ChannelOrder.bgr}, id="letterbox, BGR"),
    pytest.param({"recipe": "stretch", "size": [32, 48]}, id="stretch"),
    pytest.param({"recipe": "crop", **CROP}, id="crop"),
]


@pytest.mark.parametrize("settings", RECIPES)
def test_a_rebuilt_image_has_the_size_of_the_original_and_becomes_nearly_the_same_input(
    settings: Mapping[str, Any],
) -> None:
    preprocessing = Preprocessing(**{"channels": ChannelOrder.rgb, "mean": [0.0] * 3, "std": [1.0] * 3, **settings})
    images = image_set(preprocessing, PHOTOGRAPHS)
    feeding = Feeding(images, preprocessing)
    rebuilt = sources(feeding, np.arange(3))
    assert [image.shape for image in rebuilt] == [image.shape for image in PHOTOGRAPHS]
    inputs = interface(("batch", 3, None, None)).inputs
    made, geometry = feeds_of(list(rebuilt), preprocessing, inputs)
    assert geometry == images.geometries(slice(0, 3))
    assert np.abs(made["images"] - feeding.rows(slice(0, 3), inputs)["images"]).mean() < 4 / 255


def test_an_image_that_was_stored_whole_comes_back_exactly() -> None:
    preprocessing = Preprocessing(recipe="whole", channels=ChannelOrder.bgr, mean=[0.0] * 3, std=[1.0] * 3)
    feeding = Feeding(image_set(preprocessing, PHOTOGRAPHS), preprocessing)
    for original, rebuilt in zip(PHOTOGRAPHS, sources(feeding, np.arange(3))):
        np.testing.assert_array_equal(rebuilt, original)


def test_large_images_are_few_and_used_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    feeding = Feeding(image_set(LETTERBOX, PHOTOGRAPHS), LETTERBOX)
    monkeypatch.setattr(whole, "ROTATION_BYTES", 1)
    assert len(sources(feeding, np.arange(3))) == 1
    engine = Slow(clock, interface())
    measured(engine, feeding, batch=2)
    one, other = engine.fed[0]["images"]
    np.testing.assert_array_equal(one, other)


def test_of_images_of_several_sizes_those_of_the_commonest_shape_go(clock: Clock) -> None:
    preprocessing = Preprocessing(recipe="whole", channels=ChannelOrder.rgb, mean=[0.0] * 3, std=[1.0] * 3)
    images = [pixels(8, 8), pixels(16, 24), pixels(16, 24)]
    feeding = Feeding(image_set(preprocessing, images), preprocessing)
    axes = {**up_to(8), "height": AxisRange(8, 16, 32), "width": AxisRange(8, 24, 32)}
    engine = Slow(clock, interface(("batch", 3, "height", "width")), axes)
    assert "preprocess" in measured(engine, feeding, batch=2).seconds
    assert {feeds["images"].shape for feeds in engine.fed} == {(2, 3, 16, 24)}


NO_SIZES = "data.preprocessing.recipe {} keeps no sizes of images"


def test_arrays_have_no_preprocessing(clock: Clock) -> None:
    arrays = {"left": np.ones((3, 4), np.float32), "right": np.zeros((3, 2), np.float32)}
    feeding = Feeding(ImageSet(arrays, None, (), tuple("abc"), []), Preprocessing(recipe="none"))
    inputs = (TensorSpec("left", FLOAT, ("batch", 4)), TensorSpec("right", FLOAT, ("batch", 2)))
    engine = Slow(clock, Interface(inputs, interface().outputs))
    with TASKS.using("classification", Watched(clock)):
        speed = measured(engine, feeding, batch=2).speed()
    assert speed.absent == {"preprocess": NO_SIZES.format("none")}
    assert not [key for key in speed.figures if key.startswith("preprocess")], "absent, not 0"
    assert speed.figures["images_per_s_whole"] == pytest.approx(2e3 / (ENGINE_MS + POSTPROCESS_MS))


def test_where_only_the_engine_is_left_nothing_is_called_the_whole(clock: Clock) -> None:
    feeding = Feeding(
        ImageSet({"images": np.ones((3, 4), np.float32)}, None, (), tuple("abc"), []), Preprocessing("none")
    )
    engine = Slow(clock, interface(("batch", 4)))
    speed = measured(engine, feeding, task="outputs").speed()
    assert speed.absent == {
        "preprocess": NO_SIZES.format("none"),
        "postprocess": "the task outputs takes the outputs as they are",
    }
    assert "images_per_s_engine" in speed.figures
    assert "images_per_s_whole" not in speed.figures


def test_what_hinders_preprocessing_is_said_and_the_rest_is_measured(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DataError("the image needs Pillow to be resized with antialiasing: pip install pillow")

    monkeypatch.setattr(whole, "feeds_of", refuse)
    feeding = Feeding(image_set(LETTERBOX, PHOTOGRAPHS), LETTERBOX)
    engine = Slow(clock, interface())
    task = Watched(clock)
    with TASKS.using("classification", task):
        speed = measured(engine, feeding).speed()
    assert speed.absent == {"preprocess": "the image needs Pillow to be resized with antialiasing: pip install pillow"}
    assert speed.figures["postprocess_ms_p50"] == pytest.approx(POSTPROCESS_MS)
    assert task.asked[2][1] == feeding.images.geometries(slice(1, 2)), "the stored images, with their geometry"


def test_a_detector_is_decoded_from_its_own_outputs(clock: Clock) -> None:
    """One box of 16 pixels in the input is found where the letterbox put it, in each image's own pixels."""

    class Finds(Slow):
        def infer(self, feeds: Feeds) -> dict[str, Array]:
            rows = np.zeros((len(feeds["images"]), 5, 8), np.float32)
            rows[:, :, 0] = [24, 16, 16, 16, 0.9]
            return {"boxes": rows}

    class Kept(Detection):
        found: ClassVar[list[Any]] = []

        def configured(self, model: Model) -> Kept:
            del model
            return self

        def decode(self, *asked: Any) -> Any:
            self.found.append(super().decode(*asked))
            return self.found[-1]

    of = interface(outputs=[TensorSpec("boxes", FLOAT, ("batch", 5, 8))])
    feeding = Feeding(image_set(LETTERBOX, PHOTOGRAPHS), LETTERBOX)
    task = Kept()
    with TASKS.using("detection", task):
        measured(Finds(clock, of), feeding, task="detection")
    for row, image in zip((0, 0, 1, 2), task.found):
        where = feeding.images.geometries(slice(row, row + 1))[0]
        wanted = where.boxes_to_image(np.array([16.0, 8, 32, 24]))
        np.testing.assert_allclose(image[0, 0, :4], wanted, rtol=1e-6)
        assert image[0, 0, 4] == pytest.approx(0.9)


def test_a_batch_that_the_engine_does_not_take_is_left_out(clock: Clock) -> None:
    feeding = Feeding(image_set(LETTERBOX, PHOTOGRAPHS), LETTERBOX)
    way = WholeWay(feeding, Model())
    pairs = Slow(clock, interface(), {"batch": AxisRange(2, 2, 4)})
    fixed = Slow(clock, interface((2, 3, 32, 48), [TensorSpec("logits", FLOAT, (2, 10))]), {})
    for engine in (pairs, fixed):
        assert way.measure(engine, 1, 0.0, Interruption()) is None
        assert way.measure(engine, 2, 0.0, Interruption()) is not None


def test_ctrl_c_ends_it_after_the_batch_under_way(clock: Clock) -> None:
    interruption = Interruption()
    interruption.requested = True
    feeding = Feeding(image_set(LETTERBOX, PHOTOGRAPHS), LETTERBOX)
    times = WholeWay(feeding, Model()).measure(Slow(clock, interface()), 1, 60.0, interruption)
    assert times is not None
    assert not times.complete
    assert times.speed().figures["rounds"] == 1
