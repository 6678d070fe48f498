"""The table of architectures: its page is what the results say, and people can write its configurations."""

from __future__ import annotations

import ast
import re

import pytest
from omegaconf import OmegaConf

from benchmarks.architectures.__main__ import read
from benchmarks.architectures.project import COMMON, Ran
from benchmarks.architectures.render import DOCUMENT, document
from benchmarks.architectures.table import ARCHITECTURES, OWN, Architecture


def test_the_page_is_rendered_from_the_results() -> None:
    assert document(DOCUMENT.read_text(), read()) == DOCUMENT.read_text()


def test_every_architecture_has_a_result_and_a_name_of_its_own() -> None:
    names = [each.name for each in ARCHITECTURES]
    assert len(set(names)) == len(names) == 16
    assert set(read()) == set(names)


def test_fourteen_reach_a_verdict_twelve_an_int8_build_and_none_a_traceback() -> None:
    found = read().values()
    assert sum("figure" in each["verdict"] for each in found) >= 14
    assert sum("int8" in each.get("tensorrt_rtx", {}) for each in found) >= 12
    assert not any(each["tracebacks"] for each in found)
    assert all(each["verdict"].get("sentence", "said") for each in found)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
def test_a_configuration_names_files_that_are_brought_and_no_setting_twice(architecture: Architecture) -> None:
    settings = OmegaConf.create(architecture.configuration)
    assert OmegaConf.create(COMMON)
    brought = set(architecture.files)
    for source in architecture.files.values():
        assert ":" in source or ast.parse((OWN / source).read_text())
    model = settings.model
    for file in filter(None, (model.get("code"), model.get("path"))):
        assert file in brought


def test_the_sentence_of_a_failure_is_the_last_one_on_one_line() -> None:
    printed = "Running stage 'export'\nerror: export: the model\nERROR: failed to reproduce 'export'\n"
    assert Ran(1, printed, 0.0).sentence == "export: the model"
    assert not re.search("\n", Ran(1, "error: first\nerror: then\n more\n", 0.0).sentence)
