"""Versions of packages: what counts as the same, and what a stage says that would run with another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewright.errors import ConfigError
from enginewright.toolchain.packages import MEMBER_PACKAGES, STAGE_PACKAGES, installed, require_locked
from support.project import ROOT


def install(folder: Path, name: str, version: str) -> None:
    """What importlib.metadata finds of a package, and no more."""
    found = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("name", "version", "package", "counts"),
    [
        pytest.param("torch", "99.1.0+cpu", "torch", "99.1.0", id="a build for the CPU"),
        pytest.param("onnxruntime", "99.2", "onnxruntime", "99.2", id="plain"),
        pytest.param("no-such-thing-gpu", "1.0", "no-such-thing", None, id="another package"),
    ],
)
def test_the_version_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, package: str, counts: str | None
) -> None:
    install(tmp_path, name, version)
    monkeypatch.syspath_prepend(tmp_path)
    assert installed(package) == counts


def test_another_version_is_refused_with_both_versions_and_both_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "onnxruntime", "99.2")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as fault:
        require_locked({"onnxruntime": "1.20.1"})
    assert str(fault.value) == (
        "onnxruntime 99.2 is installed here and toolchain.yaml has 1.20.1, with which every other machine would take"
        " this result to be made; `pip install -c constraints.txt onnxruntime` brings that one, `enginewright lock`"
        " takes this one and makes stale what used the other"
    )
    assert require_locked({"onnxruntime": "99.2", "no-such-thing": "1.0"}) == {
        "onnxruntime": "99.2",
        "no-such-thing": "not installed",
    }


def test_every_package_of_the_tables_has_a_tested_version() -> None:
    constrained = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    members = [names for kind in MEMBER_PACKAGES.values() for names in kind.values()]
    assert {name for names in (*STAGE_PACKAGES.values(), *members) for name in names} <= constrained
