"""Staleness through the real dvc: edits of the library and of the user's code, other versions, other machines."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
import tomllib
from toolchain.test_lockfile import other_python
from toolchain.test_packages import install

from enginewright.toolchain.packages import STAGE_PACKAGES
from support.project import ROOT, Project, stages

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("reruns")]
PORTABLE = set(STAGE_PACKAGES)
ALWAYS = {"probe_target", "check_toolchain"}
BOUND = set(stages()) - PORTABLE


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n# a comment\n")


def status(project: Project) -> set[str]:
    """The stages of which `dvc status` says that something changed."""
    return set(re.findall(r"^(\w+):$", project.call("dvc", "status").output, re.MULTILINE)) - ALWAYS


def test_before_lock_every_stage_refuses_and_after_it_dvc_tells_what_is_stale(project: Project) -> None:
    edit(project.root / "enginewright/graph/qdq.py")
    for stage in ("prepare_data", "pareto"):
        refused = project.repro(stage)
        assert refused.code != 0
        assert "enginewright/graph/qdq.py changed: run `make sync`, which makes export and " in refused.output
        assert refused.ran == {"check_toolchain"}
    assert project.call("python", "-m", "enginewright.cli", "lock", "--check").code == 2
    assert status(project) == set()
    listed = re.search(r"^stale, .*: (.*); `dvc repro`", project.lock(), re.MULTILINE)
    assert listed is not None
    assert status(project) == set(listed.group(1).split(", "))
    dry = project.repro("--dry", "--allow-missing")
    assert set(listed.group(1).split(", ")) | ALWAYS == dry.ran | dry.restored


def test_an_edit_of_the_null_runtime_makes_no_build_stale(project: Project) -> None:
    edit(project.root / "enginewright/runtimes/null/__init__.py")
    assert "makes nothing stale" in project.lock()
    assert status(project) == set()
    edit(project.root / "enginewright/runtimes/tensorrt/builder.py")
    project.lock()
    assert {"build_fp32", "build_int8"} <= status(project)
    assert not status(project) & PORTABLE


def test_another_onnxruntime_reruns_no_portable_stage_and_forcing_one_names_both_versions(project: Project) -> None:
    packages = project.root.parent / "packages"
    packages.mkdir()
    install(packages, "onnxruntime", "99.2")
    project.environment = {"PYTHONPATH": str(packages)}
    assert not project.repro("--dry").ran & PORTABLE
    before = (project.root / "toolchain.yaml").read_text()
    project.lock()
    using = {name for name, stage in stages().items() if "packages.onnxruntime" in str(stage.get("params"))}
    assert status(project) == using
    (project.root / "toolchain.yaml").write_text(before)
    forced = project.repro("-f", "-s", "calibrate")
    assert forced.code != 0
    assert "onnxruntime 99.2 is installed here and toolchain.yaml has 1." in forced.output
    assert "`enginewright lock` takes this one" in forced.output


MODEL = """
    import torch
    from own_parts import width
    from beside_parts import depth

    class Net(torch.nn.Module):
        def __init__(self, in_channels, classes):
            super().__init__()
            self.layer = torch.nn.Linear(28 * 28, width())

        def forward(self, x):
            for _ in range(depth()):
                x = x.flatten(1)
            return self.layer(x)
    """


def test_an_edit_of_each_file_and_folder_of_the_users_makes_its_stages_stale(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder lies beside the project, as an editable installation does."""
    root, beside = project.root, project.root.parent / "perception"
    (beside / "beside_parts").mkdir(parents=True)
    (beside / "beside_parts/__init__.py").write_text("from beside_parts.depth import depth\n")
    (beside / "beside_parts/depth.py").write_text("def depth():\n    return 1\n")
    (root / "own_model.py").write_text(textwrap.dedent(MODEL))
    (root / "own_parts.py").write_text("def width():\n    return 10\n")
    project.environment = {"PYTHONPATH": str(beside)}
    own = ["model._target_=own_model.Net", "model.weights_from=random"]
    configure = ["python", "-m", "enginewright.cli", "configure", *own]
    refused = project.call(*configure, "model.code=[own_model.py,own_parts.py]")
    assert refused.code != 0
    assert "imports " + str(beside / "beside_parts/__init__.py") + ", which DVC does not see" in refused.output
    project.configure(*own, "model.code=[own_model.py,own_parts.py,../perception]")
    run = project.repro("export")
    assert run.code == 0, run.output
    assert project.repro("export").ran == {"check_toolchain"}
    for file in (root / "own_parts.py", beside / "beside_parts/depth.py"):
        before = file.read_text()
        edit(file)
        assert {"train_reference", "export"} <= status(project)
        assert {"train_reference", "export"} <= project.repro("--dry", "--allow-missing", "export").ran
        file.write_text(before)


BLOCKED = """
    import sys

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("torch", "onnxruntime", "mlxtend"):
                raise ModuleNotFoundError(f"{name} is not on the target", name=name)

    sys.meta_path.insert(0, Absent())
    """


def clone(project: Project, folder: Path) -> Project:
    """A fresh clone of a reproduced project, pushed to a remote, that is set to the null runtime."""
    project.call("dvc", "remote", "add", "-d", "store", str(folder / "store"))
    assert project.call("dvc", "push").code == 0
    project.git("add", "-A")
    project.git("commit", "-qm", "pushed")
    subprocess.run(["git", "clone", "-q", str(project.root), str(folder / "clone")], check=True)
    target = Project(folder / "clone")
    params = target.root / "params.yaml"
    params.write_text(params.read_text().replace("runtime: auto\n", "runtime: 'null'\n"))
    return target


def test_a_target_without_torch_onnxruntime_and_mlxtend_restores_what_is_portable(
    project: Project, tmp_path: Path
) -> None:
    """In this Python, without the packages and with what says that NumPy is another one; the next test has two more."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target/sitecustomize.py").write_text(textwrap.dedent(BLOCKED))
    for name in ("numpy", "pillow", "onnx"):
        install(tmp_path / "target", name, "99.0")
    target = clone(project, tmp_path)
    target.environment = {"PYTHONPATH": str(tmp_path / "target")}
    run = target.repro("--pull")
    assert (run.code, run.ran) == (0, BOUND), run.output
    assert (target.root / "artifacts/onnx/model.onnx").is_file()


@pytest.mark.full
@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_another_python_restores_what_is_portable(project: Project, tmp_path: Path, version: str) -> None:
    """An environment of its own with what `[pipeline]` installs there: no torch, no onnxruntime, another NumPy."""
    environment = tmp_path / "environment"
    subprocess.run([other_python(version), "-m", "venv", environment], check=True)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*extras["dependencies"], *extras["optional-dependencies"]["pipeline"]]
    subprocess.run([environment / "bin/pip", "install", "-q", *wanted], check=True)
    target = clone(project, tmp_path)
    path = f"{environment / 'bin'}:{os.environ['PATH']}"
    target.environment = {"PATH": path, "PYTHONPATH": "", "VIRTUAL_ENV": str(environment)}
    run = target.call(str(environment / "bin/dvc"), "repro", "--pull")
    assert (run.code, run.ran) == (0, BOUND), run.output
