"""What an application imports: complete, documented, and free of every package that it does not need."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import enginewright
from enginewright import errors
from support.project import ROOT


def imported_by(statement: str) -> set[str]:
    """The packages outside the standard library that a statement loads in a fresh interpreter."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = {name.partition(".")[0] for name in answer.stdout.split()}
    return modules - set(sys.stdlib_module_names) - {"enginewright"}


def test_importing_the_package_imports_no_other() -> None:
    assert imported_by("import enginewright") == set()


@pytest.mark.parametrize("name", enginewright.__all__)
def test_every_exported_name_is_there_and_documented(name: str) -> None:
    assert name in dir(enginewright)
    assert inspect.getdoc(getattr(enginewright, name))


def test_every_fault_that_a_user_can_repair_is_exported() -> None:
    faults = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert faults <= set(enginewright.__all__)


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'enginewright' has no attribute 'lod'"):
        enginewright.lod  # noqa: B018


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "enginewright" / "py.typed").is_file()
