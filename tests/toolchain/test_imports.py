"""What runs behind a stage's script, read off the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewright.errors import ConfigError
from enginewright.toolchain import compute
from enginewright.toolchain.imports import Library, decides_nothing


def reached(root: Path, name: str) -> set[str]:
    names = Library(root / "enginewright").reach(name).modules
    return {name.removeprefix("enginewright.") for name in names}


def test_imports_within_functions_and_of_packages_above_count_and_those_for_the_type_checker_do_not(root: Path) -> None:
    assert reached(root, "stages.calibrate") == {"manifest", "graph.index", "runtimes", "runtimes.onnxruntime"}


def test_who_asks_a_registry_may_get_any_member_and_reaches_none(root: Path) -> None:
    reach = Library(root / "enginewright").reach("stages.build_fp32")
    assert reach.kinds == {"runtimes", "tasks"}
    assert reached(root, "stages.build_fp32") == {"manifest", "runtimes", "tasks", "graph.qdq", "graph.index"}


def test_members_are_those_of_the_tables(root: Path) -> None:
    registries = Library(root / "enginewright").registries
    assert registries["recipes"] == {"crop": "enginewright.crop"}
    assert registries["tasks"] == {"a": "enginewright.tasks.a", "b": "enginewright.tasks.b"}
    assert set(registries["runtimes"]) == {"null", "onnxruntime", "tensorrt"}


def test_a_member_reaches_what_it_imports(root: Path) -> None:
    assert reached(root, "enginewright.tasks.b") == {"tasks.b", "graph.qdq", "graph.index"}
    assert reached(root, "enginewright.runtimes.tensorrt") == {
        "runtimes",
        "runtimes.tensorrt",
        "runtimes.tensorrt.engine",
    }


def test_the_harness_and_what_is_behind_it_alone_do_not_count(root: Path) -> None:
    assert decides_nothing("enginewright.stage")
    assert decides_nothing("enginewright.cli.lock")
    assert not decides_nothing("enginewright.clinic")
    assert decides_nothing("enginewright.views.accuracy")
    assert not decides_nothing("enginewright.views.metrics"), "metrics are outs"
    assert not {"stage", "unrelated", "errors"} & reached(root, "stages.calibrate")


def test_a_module_that_is_no_python_is_named_with_the_line(root: Path) -> None:
    (root / "enginewright/graph/index.py").write_text("Index = dict\ndef (\n")
    with pytest.raises(ConfigError, match=r"graph/index\.py, line 2, is no Python \(.*\); mend it$"):
        reached(root, "stages.calibrate")


def test_a_module_that_the_registry_names_and_that_is_gone_is_named(root: Path) -> None:
    (root / "enginewright/crop.py").unlink()
    with pytest.raises(ConfigError, match=r"^the module enginewright\.crop does not exist, and enginewright\.registry"):
        compute(Library(root / "enginewright"), {})


@pytest.mark.parametrize("place", ["enginewright/stages", "stages"])
def test_scripts_lie_beside_the_package_or_in_it_as_in_the_wheel(root: Path, place: str) -> None:
    if place != "stages":
        (root / "stages").rename(root / place)
    library = Library(root / "enginewright")
    assert set(library.scripts) == {"calibrate", "build_fp32"}
    assert not [name for name in library.modules if "stages" in name]
