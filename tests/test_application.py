"""What an application does with an engine and its sidecar, far from the project and without the pipeline's packages."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import enginewright
from enginewright import manifest
from enginewright.cli import PIPELINE
from enginewright.config import Build, ChannelOrder, Precision, Preprocessing
from enginewright.data import preprocess
from enginewright.errors import DataError, StaleArtifact
from enginewright.interface import Interface, TensorSpec
from enginewright.manifest import Usage
from enginewright.runtimes import runtime_named
from enginewright.runtimes.base import BuildJob
from support.lean import run_without
from support.networks import residual_network

CLASSES = ("circle", "cross", "line", "square", "star")
PREPROCESSING = Preprocessing(size=[28, 28], channels=ChannelOrder.gray, mean=[0.5], std=[0.25])
INTERFACE = Interface(
    (TensorSpec("input", np.dtype(np.float32), ("batch", 1, 28, 28)),),
    (TensorSpec("scores", np.dtype(np.float32), ("batch", 5)),),
)
TOLD = Usage(INTERFACE, PREPROCESSING.to_dict(), CLASSES)


def make_engine(folder: Path, usage: Usage = TOLD) -> Path:
    model, engine = folder / "model.onnx", folder / "engine.onnx"
    onnx.save(residual_network(shape=(1, 28, 28)), model)
    runtime = runtime_named("onnxruntime")
    built = runtime.build(model, BuildJob(Precision.fp32, Build()))
    engine.write_bytes(built.engine_bytes)
    manifest.seal(engine, "build_fp32", [], runtime.fingerprint(), built.settings, usage=usage)
    return engine


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 32), dtype=np.uint8)).save(path)
    return path


def test_an_engine_feeds_itself_images_and_names_its_classes(here: Path, photo: Path) -> None:
    with enginewright.load(make_engine(here)) as engine:
        feeds = engine.preprocess([photo, photo])
        outputs = engine.infer(feeds)
        assert engine.classes == CLASSES
        assert [list(batch) for batch in engine.infer_many([feeds, feeds])] == [list(outputs)] * 2
    assert np.array_equal(feeds["input"], preprocess([photo, photo], PREPROCESSING))
    (scores,) = outputs.values()
    assert scores.shape == (2, len(CLASSES))
    with pytest.raises(enginewright.EngineInputError, match="is closed"):
        engine.infer(feeds)


def test_what_an_engine_finds_goes_back_to_the_image(here: Path, photo: Path) -> None:
    """A letterbox of a photograph of 40 x 32: the middle of the input is that of the image, and so is each corner."""
    settings = replace(PREPROCESSING, recipe="letterbox", antialias=False)
    with enginewright.load(make_engine(here, replace(TOLD, preprocessing=settings.to_dict()))) as engine:
        feeds, geometries = engine.preprocess_with_geometry([photo, photo, np.zeros((14, 28), np.uint8)])
        assert np.array_equal(feeds["input"][:2], preprocess([photo, photo], settings))
        (scores,) = engine.infer(feeds).values()
        assert scores.shape == (3, len(CLASSES))
    assert [geometry.size for geometry in geometries] == [(40, 32), (40, 32), (14, 28)]
    found = geometries[0].boxes_to_image(np.array([[14, 14, 14, 14], [3, 0, 25, 28]]))
    np.testing.assert_allclose(found, [[16, 20, 16, 20], [0, 0, 32, 40]])
    np.testing.assert_allclose(geometries[2].boxes_to_image(np.array([0, 7, 28, 21])), [0, 0, 28, 14])


def test_an_engine_that_was_not_made_for_images_says_so(here: Path, photo: Path) -> None:
    with (
        enginewright.load(make_engine(here, Usage(INTERFACE))) as engine,
        pytest.raises(DataError, match=r"^the sidecar of engine.onnx does not say how an image becomes its input"),
    ):
        engine.preprocess(photo)


@pytest.mark.parametrize("path", ["engines", "", "/"])
def test_a_folder_is_no_engine(here: Path, path: str) -> None:
    (here / "engines").mkdir()
    with pytest.raises(StaleArtifact, match=r" is a folder; give a file in it$"):
        enginewright.load(path)


@pytest.mark.parametrize(
    "unknown", [pytest.param({"glasses": "on"}, id="a setting"), pytest.param({"channels": "uv"}, id="a choice")]
)
def test_a_preprocessing_of_a_later_version_leaves_the_engine_usable(
    here: Path, photo: Path, unknown: dict[str, str]
) -> None:
    usage = Usage(INTERFACE, {**PREPROCESSING.to_dict(), **unknown}, CLASSES)
    with enginewright.load(make_engine(here, usage)) as engine:
        with pytest.raises(enginewright.StaleArtifact, match=r"which this version does not know; update Enginewright"):
            engine.preprocess(photo)
        assert engine.infer({"input": np.zeros((1, 1, 28, 28), np.float32)})


@pytest.mark.slow
def test_it_needs_numpy_pillow_and_the_runtime_alone(here: Path, photo: Path) -> None:
    engine = make_engine(here)
    carried = here / "elsewhere"
    carried.mkdir()
    for path in (engine, manifest.sidecar(engine), photo):
        shutil.copy(path, carried)
    answer = run_without(
        (*PIPELINE, "torch", "mlxtend", "onnxscript"),
        """
import json, enginewright
with enginewright.load("engine.onnx") as engine:
    (scores,) = engine.infer(engine.preprocess("photo.png")).values()
    print(json.dumps([scores.tolist(), engine.classes]))
""",
        carried,
    )
    assert answer.returncode == 0, answer.stderr
    scores, classes = json.loads(answer.stdout)
    assert tuple(classes) == CLASSES
    with enginewright.load(engine) as loaded:
        (expected,) = loaded.infer(loaded.preprocess(photo)).values()
    assert scores == expected.tolist()


@pytest.mark.parametrize(
    "module",
    [
        "runtimes.tensorrt.engine",
        "runtimes.tensorrt_rtx",
        "runtimes.null",
        "runtimes.onnxruntime.engine",
        "application",
    ],
)
def test_what_loads_an_engine_imports_nothing_of_the_pipeline(module: str, tmp_path: Path) -> None:
    answer = run_without(PIPELINE, f"import enginewright.{module}", tmp_path)
    assert answer.returncode == 0, answer.stderr
