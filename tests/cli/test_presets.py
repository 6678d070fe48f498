"""conf/preprocessing/: a preset says all of the preprocessing, so that nothing of another one stays behind it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from enginewright.cli import main, presets
from enginewright.cli.composition import compose
from enginewright.config import PARAMS_FILE, ChannelOrder, Preprocessing
from enginewright.config.preprocessing import faults
from support.project import ROOT

NAMES = sorted(presets.described(ROOT / "conf"))


def preset(name: str) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load((ROOT / f"conf/preprocessing/{name}.yaml").read_text())
    return content


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_everything_but_the_layout(name: str) -> None:
    assert list(preset(name)) == [one.name for one in fields(Preprocessing) if one.name != "layout"]
    read = Preprocessing.from_dict({**preset(name), "layout": "nchw"})
    assert not list(faults(read))
    assert isinstance(read.channels, ChannelOrder)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_what_it_is_in_one_line_with_its_source(name: str) -> None:
    said = presets.described(ROOT / "conf")[name]
    assert 30 < len(said) < 120
    assert not said.endswith(".")


def test_a_preset_wins_over_the_data_and_a_setting_over_both(configured: Path) -> None:
    composed = compose(["model=own", "data=image_folder", "preprocessing=yolox", "data.preprocessing.size=[224,224]"])
    found = dict(composed.data.preprocessing)
    assert found == {**preset("yolox"), "size": [224, 224], "layout": "nchw"}


def test_it_is_chosen_once_and_stays(project: Path) -> None:
    for overrides in (["preprocessing=mnist"], ["seed=1"]):
        with pytest.raises(SystemExit) as ended:
            main(["configure", *overrides])
        assert ended.value.code == 0
    found = yaml.safe_load((project / PARAMS_FILE).read_text())
    assert found["data"]["preprocessing"] == {**preset("mnist"), "layout": "nchw"}
    assert "override /preprocessing: mnist" in (project / "conf/selected.yaml").read_text()


def test_one_that_does_not_exist_is_told_with_the_nearest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["configure", "preprocessing=yolo"])
    assert ended.value.code == 2
    assert "conf/preprocessing/ has no option 'yolo'; did you mean 'yolox'?" in capsys.readouterr().err


def test_a_preset_of_the_projects_own_is_described_by_its_first_line(configured: Path) -> None:
    folder = configured / "conf/preprocessing"
    (folder / "mine.yaml").write_text("# @package data.preprocessing\n# what our cameras give\nscale: 1.0\n")
    (folder / "silent.yaml").write_text("# @package data.preprocessing\nscale: 1.0\n")
    found = presets.described()
    assert (found["mine"], found["silent"]) == ("what our cameras give", "a preset of your own")
