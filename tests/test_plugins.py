"""Files of custom operators: named in sidecars, copied, and verified before any of their code runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewright import manifest
from enginewright.config import Model
from enginewright.config.plugins import PluginFiles
from enginewright.errors import ConfigError, StaleArtifact
from enginewright.layout import Layout
from enginewright.plugins import NO_PLUGINS, Plugins, beside, configured
from enginewright.runtimes.checked import require_engine


@pytest.fixture
def named(tmp_path: Path) -> Plugins:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libops.so").write_bytes(b"code")
    (tmp_path / "ops.py").write_text("code = 1\n")
    model = Model(plugins=PluginFiles(onnxruntime=["lib/libops.so"], python=["ops.py"], tensorrt=["libtrt.so"]))
    return configured(model, Layout(tmp_path), "onnxruntime", "python")


def shipped(named: Plugins, folder: Path) -> Path:
    """An artifact with the plugins beside it."""
    engine = folder / "int8/engine.onnx"
    engine.parent.mkdir()
    engine.write_bytes(b"engine")
    named.copy_beside(engine)
    manifest.seal(engine, "build_int8", [], files=named.roles)
    return engine


def test_they_lie_beside_the_engine_and_its_sidecar_names_them(named: Plugins, tmp_path: Path) -> None:
    engine = shipped(named, tmp_path)
    found = beside(engine)
    assert [(plugin.kind, plugin.path) for plugin in found.files] == [
        ("onnxruntime", engine.with_name("libops.so")),
        ("python", engine.with_name("ops.py")),
    ]
    assert [plugin.sha256 for plugin in found.files] == [plugin.sha256 for plugin in named.files]
    assert [plugin.verified().read_bytes() for plugin in found.files] == [b"code", b"code = 1\n"]
    assert found.of("python").paths == [engine.with_name("ops.py")]


def test_a_file_without_a_sidecar_has_none(tmp_path: Path) -> None:
    assert beside(tmp_path / "model.onnx") == NO_PLUGINS


def test_a_log_beside_an_engine_is_no_plugin(tmp_path: Path) -> None:
    engine = tmp_path / "engine.onnx"
    engine.write_bytes(b"engine")
    engine.with_name("build.log").write_text("log")
    manifest.seal(engine, "build_int8", [], files={"build.log": "build log"})
    assert beside(engine) == NO_PLUGINS


@pytest.mark.parametrize("name", ["libops.so", "ops.py"])
def test_an_engine_whose_plugin_was_changed_is_refused(named: Plugins, tmp_path: Path, name: str) -> None:
    engine = shipped(named, tmp_path)
    engine.with_name(name).write_bytes(b"other code")
    with pytest.raises(StaleArtifact, match=f"{name} beside it was changed; run `dvc repro build_int8`"):
        require_engine(engine, None)


def test_an_engine_that_was_carried_without_its_plugin_is_refused(named: Plugins, tmp_path: Path) -> None:
    engine = shipped(named, tmp_path)
    engine.with_name("libops.so").unlink()
    with pytest.raises(StaleArtifact, match=r"libops.so is missing, which brings the kernels of a custom operator"):
        require_engine(engine, None)


def test_a_file_that_changes_after_it_was_hashed_is_not_copied(named: Plugins, tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text("code = 2\n")
    with pytest.raises(StaleArtifact, match=r"ops.py was changed: its bytes differ from the sha256"):
        named.copy_beside(tmp_path / "engine.onnx")


def test_a_missing_file_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.plugins.tensorrt: .*libtrt.so cannot be read .*; compile or restore"):
        configured(Model(plugins=PluginFiles(tensorrt=["libtrt.so"])), Layout(tmp_path), "tensorrt")
