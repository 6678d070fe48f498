"""Each default is written once: the files of conf/ and docs/settings.md are what the schema says, and an option is a
difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from enginewright.cli import main, settings
from enginewright.cli.composition import groups
from enginewright.config import document
from support.project import ROOT

GENERATED = settings.generated()
OPTIONS = [(group, option) for group in document.GROUPS for option in groups(ROOT / "conf")[group]]


@pytest.mark.parametrize("path", GENERATED, ids=str)
def test_a_file_is_what_the_schema_says(path: Path) -> None:
    assert (ROOT / path).read_text() == GENERATED[path], "run `enginewright settings --write`"


@pytest.mark.parametrize("path", GENERATED, ids=str)
def test_lines_end_at_120_columns(path: Path) -> None:
    assert max(map(len, GENERATED[path].splitlines())) <= 120


def test_every_folder_of_the_schema_has_its_defaults() -> None:
    assert {path.parent.name for path in (ROOT / "conf").glob("*/base.yaml")} == set(document.GROUPS)


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_an_option_holds_its_difference_alone(group: str, option: str) -> None:
    folder = ROOT / "conf" / group
    base = dict(leaves(yaml.safe_load((folder / "base.yaml").read_text())))
    own = yaml.safe_load((folder / f"{option}.yaml").read_text()) or {}
    repeated = [key for key, value in leaves(own) if key in base and base[key] == value]
    assert not repeated, f"conf/{group}/base.yaml has the same {', '.join(repeated)}"


@pytest.mark.parametrize(
    ("key", "starts"),
    [
        pytest.param("build.workspace_mib", "- `build.workspace_mib: 4096`: memory pool", id="setting"),
        pytest.param("benchmark.server", "### benchmark.server\n\n", id="section"),
        pytest.param("seed", "- `seed: 0`: ", id="top"),
    ],
)
def test_a_part_of_the_page_is_printed(key: str, starts: str) -> None:
    assert document.markdown(key).startswith(starts)


def test_an_unknown_key_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["settings", "build.workspace"])
    assert end.value.code == 2
    assert "build.workspace is not a setting; did you mean 'build.workspace_mib'?" in capsys.readouterr().err
