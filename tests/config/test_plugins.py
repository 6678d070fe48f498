"""What model.plugins may hold, and what DVC sees of it."""

from __future__ import annotations

import pytest

from enginewright.config.choices import LIBRARY_CODE
from enginewright.config.plugins import PluginFiles, TrackedPlugins, faults, tracked


@pytest.mark.parametrize(
    ("files", "key", "sentence"),
    [
        pytest.param(
            {"onnxruntime": ["ops.py"]},
            "model.plugins.onnxruntime",
            "ops.py is not a .so file; it belongs to model.plugins.python",
            id="a Python file as a library",
        ),
        pytest.param(
            {"python": ["libops.so"]},
            "model.plugins.python",
            "libops.so is not a .py file; it belongs to model.plugins.tensorrt or model.plugins.onnxruntime",
            id="a library as a Python file",
        ),
        pytest.param(
            {"tensorrt": ["ops.cu"]},
            "model.plugins.tensorrt",
            "ops.cu is not a .so file; name the compiled library",
            id="a source",
        ),
        pytest.param(
            {"tensorrt": ["a.so", "b.so", "c.so"]},
            "model.plugins.tensorrt",
            "3 files, and DVC sees 2; put their operators into one",
            id="too many",
        ),
        pytest.param(
            {"tensorrt": ["gpu/libops.so"], "onnxruntime": ["cpu/libops.so"]},
            "model.plugins.onnxruntime",
            "cpu/libops.so has the name of gpu/libops.so, and both lie beside the engine; rename one",
            id="one name for two files",
        ),
    ],
)
def test_refused(files: dict[str, list[str]], key: str, sentence: str) -> None:
    named = PluginFiles(**files)
    assert list(faults(named, tracked(named))) == [(key, sentence)]


def test_dvc_sees_each_file_and_the_library_in_the_other_places() -> None:
    files = PluginFiles(["libtrt.so"], ["libort.so"], ["ops.py", "more.py"])
    seen = tracked(files)
    assert seen.portable == ["libort.so", LIBRARY_CODE, "ops.py", "more.py"]
    assert seen.tensorrt == ["libtrt.so", LIBRARY_CODE]
    assert list(faults(files, seen)) == []


def test_what_was_written_by_hand_for_dvc_is_refused() -> None:
    ((key, sentence),) = faults(PluginFiles(python=["ops.py"]), TrackedPlugins())
    assert key == "model.tracked_plugins"
    assert "set model.plugins alone" in sentence
