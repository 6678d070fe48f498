"""Model code that DVC would not see: another file, another factory, a lazy import, a file that is read. Each is refused
by its name.
"""

from __future__ import annotations

import os
import py_compile
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from enginewright.config import Export, Input, Model
from enginewright.errors import ModelError
from enginewright.importers.pytorch import to_onnx
from enginewright.layout import Layout
from enginewright.models.code import source_files, watching
from enginewright.models.loading import find_factory, load_model, make_model
from support.project import PATHS, ROOT

HEAD = """
import importlib.util, json, os, sys
from pathlib import Path
from torch import nn
{above}
class Net(nn.Module):
    def __init__(self, classes=2, backbone=None):
        super().__init__()
        self.fc = nn.Linear(4, classes)
        {made}
    def forward(self, x):
        {ran}
        return self.fc(x)
{below}
"""
# Places in the file, and what is done there to load NAME_blocks.py.
FROM_PATH = (
    "spec = importlib.util.spec_from_file_location('b', 'NAME_blocks.py'); m = importlib.util.module_from_spec(spec);"
    " spec.loader.exec_module(m)"
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose modules have names that no other test has imported."""
    folder = tmp_path / f"c{abs(hash(tmp_path))}"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    torch.save({"fc.weight": torch.ones(2, 4), "fc.bias": torch.zeros(2)}, "own.pt")
    return folder


def write(above: str = "", made: str = "", ran: str = "", below: str = "", **changes: Any) -> Model:
    """The project's model with these lines in it; NAME in them is the project's own prefix."""
    name = Path.cwd().name
    Path(f"{name}_blocks.py").write_text("def act(x): return x.relu()\n")
    Path(f"{name}_model.py").write_text(
        HEAD.format(above=above, made=made or "pass", ran=ran or "pass", below=below).replace("NAME", name)
    )
    values = {
        "arguments": {},
        "code": f"{name}_model.py",
        "weights": "own.pt",
        "inputs": {"input": Input(["batch", 4])},
        "outputs": ["logits"],
        **changes,
    }
    return Model(_target_=values.pop("target", f"{name}_model.Net").replace("NAME", name), **values)


def export(model: Model) -> None:
    """As the stage does."""
    with watching(model, PATHS, stage_reads=True):
        to_onnx(load_model(model, PATHS), model, Export())


@pytest.mark.parametrize("place", ["above", "made", "ran"])
@pytest.mark.parametrize(
    ("line", "does"),
    [
        pytest.param("import NAME_blocks", "imports", id="import"),
        pytest.param("from NAME_blocks import act", "imports", id="from"),
        pytest.param("__import__('NAME_blocks')", "imports", id="by name"),
        pytest.param(FROM_PATH, "reads", id="from a path"),
        pytest.param("exec(Path('NAME_blocks.py').read_text())", "reads", id="exec"),
        pytest.param("exec(compile(Path('NAME_blocks.py').read_bytes(), 'x', 'exec'))", "reads", id="compile"),
    ],
)
def test_a_second_file_of_model_code_is_refused_wherever_it_is_loaded(
    mine: Path, place: str, line: str, does: str
) -> None:
    model = write(**{place: line})
    with pytest.raises(ModelError) as fault:
        export(model)
    assert f"model code beside {mine.name}_model.py {does} {mine.name}_blocks.py, which DVC does not see" in str(
        fault.value
    )
    assert "\n" not in str(fault.value)


def test_a_second_load_in_the_same_process_is_refused_again(mine: Path) -> None:
    model = write(above="import NAME_blocks")
    for _ in range(2):
        with pytest.raises(ModelError, match="which DVC does not see"):
            make_model(model, PATHS)
        with pytest.raises(ModelError, match="which DVC does not see"):
            find_factory(model, PATHS)


def test_a_module_of_a_folder_of_the_users_is_refused(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "src"
    elsewhere.mkdir()
    (elsewhere / f"{mine.name}_editable.py").write_text("WIDTH = 3\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    sentence = (
        rf"imports {elsewhere}/{mine.name}_editable\.py, which DVC does not see, .* add it, or the folder that it lies"
        " in, to model.code"
    )
    with pytest.raises(ModelError, match=sentence):
        make_model(write(above="import NAME_editable"), PATHS)
    folder = os.path.relpath(elsewhere)
    make_model(write(above="import NAME_editable", code=[f"{mine.name}_model.py", folder]), PATHS)
    assert not (elsewhere / "__pycache__").exists()  # DVC would take it for a change of the folder


def test_files_and_folders_that_model_code_names_may_be_imported_and_read(mine: Path) -> None:
    folder = Path(f"{mine.name}_parts")
    (folder / "deep").mkdir(parents=True)
    for name in ("__init__.py", "deep/__init__.py", "deep/width.py"):
        (folder / name).write_text("WIDTH = 4\n")
    (folder / "table.txt").write_text("7")
    lines = {"above": "import NAME_blocks, NAME_parts.deep.width", "made": "Path('NAME_parts/table.txt').read_text()"}
    code = [f"{mine.name}_model.py", f"{mine.name}_blocks.py", f"{mine.name}_parts/"]
    model = write(**lines, code=code)
    export(model)
    assert [path.as_posix() for path in source_files(model, PATHS)] == [
        *code[:2],
        *(f"{folder}/{name}" for name in ("__init__.py", "deep/__init__.py", "deep/width.py")),
    ]
    with pytest.raises(ModelError, match=r"imports \S*_parts/__init__\.py, which DVC does not see"):
        make_model(write(**lines, code=code[:2]), PATHS)


def test_code_that_does_not_exist_is_refused(mine: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.code names blocks/, which does not exist; mend the path"):
        make_model(write(code=[f"{mine.name}_model.py", "blocks/"]), PATHS)


def test_a_file_in_a_folder_is_fine(mine: Path) -> None:
    write()
    folder = Path(f"{mine.name}_package")
    folder.mkdir()
    Path(f"{mine.name}_model.py").rename(folder / "net.py")
    model = Model(_target_=f"{folder}.net.Net", code=f"{folder}/net.py", weights="own.pt", arguments={})
    make_model(model, PATHS)  # a folder without such a file


def test_an_init_file_beside_the_file_of_the_model_counts(mine: Path) -> None:
    write()
    folder = Path(f"{mine.name}_package")
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    Path(f"{mine.name}_model.py").rename(folder / "net.py")
    with pytest.raises(
        ModelError,
        match=r"imports .*_package/__init__\.py, which DVC does not see.* the folder that it lies in, to model\.code",
    ):
        make_model(Model(_target_=f"{folder}.net.Net", code=f"{folder}/net.py", weights="own.pt", arguments={}), PATHS)


def test_installed_packages_and_pythons_own_library_are_fine(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "venv/lib/site-packages"
    installed.mkdir(parents=True)
    (installed / f"{mine.name}_installed.py").write_text("WIDTH = 3\n")
    monkeypatch.syspath_prepend(str(installed))
    export(write(above="import NAME_installed, colorsys", ran="import cmd"))


def test_modules_of_ours_that_no_stage_of_the_model_depends_on_are_refused(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("enginewright.cli")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModelError, match=r"imports enginewright\.cli, which no stage of the model depends on"):
        make_model(write(above="from enginewright.models.resnet import Block\nimport enginewright.cli.chain"), PATHS)


def test_modules_of_ours_are_refused_where_forward_imports_them_too(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("enginewright.cli")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModelError, match=r"imports enginewright\.cli, which no stage of the model depends on"):
        export(write(ran="import enginewright.cli.chain"))


@pytest.mark.parametrize(
    ("place", "line"),
    [
        pytest.param("above", FROM_PATH, id="from a path"),
        pytest.param("ran", FROM_PATH, id="from a path in forward"),
        pytest.param("above", "import NAME_blocks; del sys.modules['NAME_blocks']", id="and forgotten"),
    ],
)
def test_compiled_code_of_an_earlier_run_is_the_file_that_it_was_compiled_from(
    mine: Path, place: str, line: str
) -> None:
    model = write(**{place: line})
    py_compile.compile(f"{mine.name}_blocks.py")
    with pytest.raises(ModelError, match=r"reads .*_blocks\.py, which DVC does not see"):
        export(model)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        pytest.param("f = open('table.bin', 'r+'); f.read(); f.close()", "table.bin", id="r+"),
        pytest.param(
            "Path('table.bin').read_text(); Path('table.bin').write_text('')", "table.bin", id="read, then written"
        ),
        pytest.param(
            "open('table.bin', 'a').close(); Path('table.bin').read_text()", "table.bin", id="appended to, then read"
        ),
        pytest.param("os.read(os.open('table.bin', os.O_RDWR), 9)", "table.bin", id="os.open"),
        pytest.param("__import__('numpy').memmap('table.bin')", "table.bin", id="memmap"),
        pytest.param("__import__('subprocess').check_output(['cat', 'table.bin'])", "table.bin", id="subprocess"),
        pytest.param("f = os.popen('cat table.bin'); f.read(); f.close()", "table.bin", id="popen"),
        pytest.param("os.system('cat table.bin > /dev/null')", "table.bin", id="system"),
        pytest.param("json.loads(Path('../beside.json').read_text())", "beside.json", id="beside the project"),
        pytest.param(
            "sys.path.insert(0, 'site-packages'); import NAME_vendored",
            "site-packages/",
            id="site-packages that is none",
        ),
    ],
)
def test_no_way_to_read_a_file_is_overlooked(mine: Path, monkeypatch: pytest.MonkeyPatch, line: str, file: str) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("table.bin").write_bytes(bytes(16))
    Path("../beside.json").write_text("[1]")
    Path("site-packages").mkdir()
    Path(f"site-packages/{mine.name}_vendored.py").write_text("WIDTH = 3\n")
    with pytest.raises(ModelError, match=rf"(reads|imports) \S*{file}\S*, which DVC does not see"):
        make_model(write(made=line), PATHS)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("f = open('scratch.log', 'a'); f.write('x'); f.close()", id="a log"),
        pytest.param("f = open('scratch.txt', 'w+'); f.read(); f.close()", id="w+"),
        pytest.param("__import__('subprocess').check_output(['uname', '-m'])", id="a command"),
        pytest.param("Path('/proc/cpuinfo').read_text()", id="of the system"),
        pytest.param("__import__('inspect').getsource(Net)", id="its own source"),
        pytest.param("Path('mine.egg-info/entry_points.txt').read_text()", id="what is installed"),
    ],
)
def test_what_decides_nothing_is_fine(mine: Path, line: str) -> None:
    Path("mine.egg-info").mkdir()
    Path("mine.egg-info/entry_points.txt").write_text("[console_scripts]\n")
    for _ in range(2):
        make_model(write(made=line), PATHS)


def test_what_a_library_reads_by_itself_is_not_the_models(mine: Path) -> None:
    """PyTorch's exporter looks up entry points, those of an editable install in the project's own folder among them."""
    model = write()
    Path("table.txt").write_text("7")
    with watching(model, PATHS):
        make_model(model, PATHS)
        Path("table.txt").read_text()


@pytest.mark.parametrize("nested", [False, True])
def test_arguments_name_no_file(mine: Path, nested: bool) -> None:
    """TorchScript and safetensors open files without Python, so no audit event tells."""
    Path("scripted.pt").write_bytes(b"PK")
    model = Model(_target_="torch.jit.load", arguments={"f": "scripted.pt"}, code="own.pt", weights="own.pt")
    if nested:
        model = write(arguments={"backbone": {"parts": ["layer1", "scripted.pt"]}})
    where = "model.arguments.backbone.parts[1]" if nested else "model.arguments.f"
    with pytest.raises(ModelError, match=rf"{re.escape(where)} names the file scripted\.pt, which DVC does not see"):
        make_model(model, PATHS)


@pytest.mark.parametrize("place", ["above", "made", "ran"])
@pytest.mark.parametrize(
    ("file", "line"),
    [
        pytest.param("widths.json", "json.loads(Path('widths.json').read_text())", id="json"),
        pytest.param("params.yaml", "Path('params.yaml').read_text()", id="params.yaml"),
        pytest.param("table.npy", "__import__('numpy').load('table.npy')", id="npy"),
        pytest.param("other.pt", "__import__('torch').load('other.pt')", id="pt"),
    ],
)
def test_a_file_of_the_project_that_model_code_reads_is_refused(mine: Path, place: str, file: str, line: str) -> None:
    Path("widths.json").write_text("[1]")
    Path("params.yaml").write_text("{}")
    np.save("table.npy", np.ones(3))
    torch.save({}, "other.pt")
    with pytest.raises(ModelError, match=rf"reads {file}, which DVC does not see.* to model\.code"):
        export(write(**{place: line}))


def test_what_model_code_writes_itself_it_may_read(mine: Path) -> None:
    export(write(made="Path('scratch.txt').write_text('1'); Path('scratch.txt').read_text()"))


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        pytest.param({"_target_": "os.getcwd"}, "model.arguments holds _target_", id="the factory itself"),
        pytest.param({"_partial_": True}, "model.arguments holds _partial_", id="partial"),
        pytest.param({"_convert_": "none"}, "model.arguments holds _convert_", id="convert"),
        pytest.param({"_args_": [1]}, "model.arguments holds _args_", id="positional"),
        pytest.param({"_recursive_": False}, "model.arguments holds _recursive_", id="recursive"),
        pytest.param(
            {"backbone": {"_target_": "NAME_blocks.act"}}, "model.arguments.backbone holds _target_", id="nested"
        ),
        pytest.param(
            {"backbone": {"parts": [1, {"deep": {"_target_": "os.getcwd"}}]}},
            "model.arguments.backbone.parts[1].deep holds _target_",
            id="in a list",
        ),
    ],
)
def test_arguments_name_no_factory(mine: Path, arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelError) as fault:
        make_model(write(arguments=arguments), PATHS)
    assert where in str(fault.value)
    assert "model._target_ is the only factory" in str(fault.value)


def test_arguments_reach_the_factory_as_plain_values(mine: Path) -> None:
    network = make_model(
        write(made="self.got = backbone", arguments={"classes": 3, "backbone": {"widths": [1, 2], "name": None}}), PATHS
    )
    assert str(network.got) == "{'widths': [1, 2], 'name': None}"


def shadowing(folder: Path) -> str:
    """A module of the same name that Python finds first."""
    other = folder.parent / "first"
    other.mkdir()
    (other / f"{folder.name}_model.py").write_text(
        "from torch import nn\nNet = nn.Identity\ndef Other(): return nn.Identity()\n"
    )
    sys.path.insert(0, str(other))
    return f"{folder.name}_model.Other"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        pytest.param(lambda _: "os.system", "is of Python's own library and makes no model", id="os.system"),
        pytest.param(lambda _: "pathlib.Path.write_text", "is of Python's own library", id="write_text"),
        pytest.param(lambda _: "builtins.exec", "is of Python's own library", id="exec"),
        pytest.param(
            lambda _: "NAME_blocks.act", "lives in .*_blocks.py; add that file to model.code", id="another file"
        ),
        pytest.param(shadowing, "lives in .*/first/.*_model.py; add that file to model.code", id="shadowed"),
    ],
)
def test_the_factory_lives_in_model_code(
    mine: Path, monkeypatch: pytest.MonkeyPatch, target: Callable[[Path], str], text: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    model = write(arguments={"command": "touch made"}, target=target(mine))
    with pytest.raises(ModelError, match=text):
        make_model(model, PATHS)
    assert not Path("made").exists()


def test_a_factory_that_is_an_instance_or_a_partial_lives_where_target_says(mine: Path) -> None:
    below = (
        "import functools\nhalf = functools.partial(Net, classes=2)\nclass Make:\n    def __call__(self): return"
        " Net()\nmake = Make()"
    )
    for name in ("half", "make"):
        load_model(write(below=below, target=f"NAME_model.{name}"), PATHS)


def test_a_model_of_the_library_is_fine_where_the_library_lies_in_the_project() -> None:
    make_model(Model(arguments={"in_channels": 1, "classes": 2}), Layout(ROOT))


def test_a_factory_of_an_installed_package_or_of_ours_is_fine(mine: Path) -> None:
    make_model(Model(_target_="torch.nn.Linear", arguments={"in_features": 4, "out_features": 2}, code="own.pt"), PATHS)
    make_model(Model(arguments={"in_channels": 1, "classes": 2}), PATHS)
