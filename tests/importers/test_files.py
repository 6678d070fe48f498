"""Where an ONNX file and its weights lie: found, or refused in a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from enginewright.config import Export, Model
from enginewright.errors import ModelError
from enginewright.graph import stored
from enginewright.importers.files import located, read
from enginewright.importers.onnx import imported
from enginewright.interface import AxisRange
from enginewright.layout import Layout
from support.onnx_files import normal, parsed

GRAPH = "g (float[n, 64] x) => (float[n, 64] y) { y = MatMul(x, w) }"


def with_weights_beside(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    model = parsed(GRAPH, {"w": normal(64, 64)})
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)


def nothing(root: Path) -> None:
    del root


def two(root: Path) -> None:
    (root / "exported").mkdir()
    for name in ("a.onnx", "b.onnx"):
        onnx.save(parsed(GRAPH, {"w": normal(64, 64)}), str(root / "exported" / name))


def empty_folder(root: Path) -> None:
    (root / "exported").mkdir()


def another(root: Path) -> None:
    onnx.save(parsed(GRAPH, {"w": normal(64, 64)}), str(root / "modell.onnx"))


def a_text(root: Path) -> None:
    (root / "model.onnx").write_text("hello\n")


def cut_short(root: Path) -> None:
    content = parsed(GRAPH, {"w": normal(64, 64)}).SerializeToString()
    (root / "model.onnx").write_bytes(content[: len(content) // 2])


def beside(root: Path) -> None:
    with_weights_beside(root / "model.onnx")


def weights_missing(root: Path) -> None:
    with_weights_beside(root / "exported/model.onnx")
    (root / "exported/weights.bin").unlink()


def elsewhere(root: Path) -> None:
    with_weights_beside(root / "exported/model.onnx")
    model = onnx.load(str(root / "exported/model.onnx"), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../weights.bin"
    (root / "exported/model.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("made", "path", "sentence"),
    [
        pytest.param(nothing, Model().path, "model.path names no file; set it to your ONNX file, or", id="not set"),
        pytest.param(
            nothing, "model.onnx", "model.path names model.onnx, which does not exist; mend the path", id="none"
        ),
        pytest.param(another, "model.onnx", "which does not exist; did you mean 'modell.onnx'?", id="a misspelt one"),
        pytest.param(two, "exported", "which holds 2 ONNX files (a.onnx, b.onnx); leave one there, or name", id="two"),
        pytest.param(empty_folder, "exported", "the folder exported, which holds no ONNX file; leave one", id="empty"),
        pytest.param(a_text, "model.onnx", "model.onnx is a text file instead of ONNX; give the ONNX file", id="text"),
        pytest.param(
            cut_short, "model.onnx", "not an ONNX file, or it is cut short; take another copy of it", id="cut"
        ),
        pytest.param(
            beside,
            "model.onnx",
            "model.onnx keeps weights beside it, in weights.bin, which DVC would not see change; put both into a folder"
            " of their own and set model.path to the folder",
            id="weights that DVC does not see",
        ),
        pytest.param(
            weights_missing, "exported", "the weight 'w' lies in weights.bin, which is missing; put", id="lost"
        ),
        pytest.param(elsewhere, "exported", "which leads out of the folder and is never read", id="weights elsewhere"),
    ],
)
def test_what_is_refused_says_what_to_do(
    made: Callable[[Path], None], path: str, sentence: str, tmp_path: Path
) -> None:
    made(tmp_path)
    model = Model(source="onnx", path=path)
    with pytest.raises(ModelError, match=re.escape(sentence)):
        read(located(model, Layout(tmp_path)), model)


def test_a_folder_holds_a_file_and_its_weights(tmp_path: Path) -> None:
    with_weights_beside(tmp_path / "exported/model.onnx")
    model = Model(source="onnx", path="exported")
    path = located(model, Layout(tmp_path))
    assert path == tmp_path / "exported/model.onnx"
    found = imported(path, model, Export(), {"batch": AxisRange(1, 2, 4)})
    assert found.files == (path, tmp_path / "exported/weights.bin")
    assert np.array_equal(stored.array(found.model.graph.initializer[0]), normal(64, 64))
