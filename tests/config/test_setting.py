"""A setting carries its range and its help: what is out of range is said with the user's own value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Optional

import pytest
from omegaconf import DictConfig, OmegaConf

from enginewright import config
from enginewright.config import Params
from enginewright.config.setting import Setting, faults_of_values, setting, setting_of
from enginewright.errors import ConfigError
from support.project import ROOT


@pytest.fixture
def params() -> DictConfig:
    loaded = OmegaConf.load(ROOT / "params.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param("data.train_images=-1", "-1 is below 0 (allowed: at least 0)", id="less than none"),
        pytest.param("data.calibration_images=0", "0 is below 1 (allowed: at least 1)", id="none"),
        pytest.param("seed=-1", "-1 is below 0 (allowed: 0 to 18446744073709551615)", id="negative seed"),
        pytest.param("data.selection_seed=-1", "-1 is below 0 (allowed: at least 0)", id="optional"),
        pytest.param(
            "train.learning_rate=-1", "-1 is not above 0 (allowed: above 0)", id="whole number for a fraction"
        ),
        pytest.param("train.learning_rate='-1'", "-1 is not above 0 (allowed: above 0)", id="number in quotes"),
        pytest.param("benchmark.seconds=.inf", "inf is not a finite number (allowed: above 0)", id="endless"),
        pytest.param(
            "accuracy.minimum_sqnr_db=.nan", "nan is not a finite number (allowed: any finite number)", id="no number"
        ),
        pytest.param("benchmark.warmup_seconds=-1", "-1 is below 0 (allowed: at least 0)", id="negative warm-up"),
        pytest.param("export.opset_version=11", "11 is below 13 (allowed: 13 to 20)", id="opset too old"),
        pytest.param("export.opset_version=21", "21 is above 20 (allowed: 13 to 20)", id="opset too new"),
        pytest.param(
            "calibration.percentile=0.9999",
            "0.9999 is not above 50 (allowed: above 50 and at most 100)",
            id="fraction for a percentage",
        ),
        pytest.param("check_drift.percentile_ratio=0.5", "0.5 is not above 1 (allowed: above 1)", id="ratio below one"),
        pytest.param("calibration.bins=64", "64 is below 256 (allowed: at least 256)", id="few bins"),
        pytest.param("build.optimization_level=6", "6 is above 5 (allowed: 0 to 5)", id="level"),
        pytest.param("build.compute_capabilities=[8.6,sm_86]", "'sm_86' is not like 8.6", id="compute capability"),
        pytest.param("train.minimum_metric=97", "97 is above 1 (allowed: 0 to 1)", id="percentage for a fraction"),
        pytest.param("accuracy.confidence=1", "1 is not below 1 (allowed: above 0 and below 1)", id="certainty"),
        pytest.param(
            "benchmark.server.percentile=100",
            "100 is not below 100 (allowed: at least 50 and below 100)",
            id="all queries",
        ),
        pytest.param("benchmark.batch_curve=[0,1]", "0 is below 1 (allowed: at least 1)", id="item of a list"),
        pytest.param("data.preprocessing.std=[0.0]", "0.0 is not above 0 (allowed: above 0)", id="zero deviation"),
        pytest.param("data.preprocessing.resize=0", "0 is below 1 (allowed: at least 1)", id="no pixels"),
    ],
)
def test_a_value_out_of_range_is_quoted_with_the_range(params: DictConfig, change: str, sentence: str) -> None:
    key, _, value = change.partition("=")
    OmegaConf.update(params, key, OmegaConf.create(f"x: {value}").x, merge=False)
    with pytest.raises(ConfigError) as fault:
        config.check(params, "params.yaml")
    assert f"{key}: {sentence}" in str(fault.value).removeprefix("params.yaml: ").split("; ")


@pytest.mark.parametrize(
    "change",
    [
        "data.train_images=0",
        "data.selection_seed=null",
        "export.opset_version=13",
        "export.opset_version=20",
        "calibration.percentile=100",
        "accuracy.minimum_ratio=0",
        "accuracy.minimum_ratio=1",
        "benchmark.server.percentile=50",
        "benchmark.server.queries_per_s=null",
        "accuracy.minimum_sqnr_db=-3",
        "benchmark.batch_curve=[]",
    ],
)
def test_the_ends_of_a_range_are_taken(params: DictConfig, change: str) -> None:
    key, _, value = change.partition("=")
    OmegaConf.update(params, key, OmegaConf.create(f"x: {value}").x, merge=False)
    config.check(params, "params.yaml")


@dataclass
class Toy:
    """A section with each kind of setting."""

    colour: str = setting("red", choices=lambda: ["red", "green"], help="of the toy")
    wheels: list[int] = setting([4], minimum=1, help="of each axle")
    name: Optional[str] = setting(None, like=("a-1", "[a-z]-[0-9]"), help="of the toy")


@dataclass
class Box:
    """A section around it."""

    toy: Toy = field(default_factory=Toy)


@pytest.mark.parametrize(
    ("toy", "faults"),
    [
        pytest.param(Toy(), [], id="defaults"),
        pytest.param(
            Toy(colour="gren"), [("toy.colour", "'gren' is not a choice; did you mean 'green'?")], id="near a choice"
        ),
        pytest.param(
            Toy(colour="x"), [("toy.colour", "'x' is not a choice; choose one of green, red")], id="far from any"
        ),
        pytest.param(Toy(name="b"), [("toy.name", "'b' is not like a-1")], id="pattern"),
        pytest.param(
            Toy(wheels=[0, -1]), [("toy.wheels", "0 is below 1 (allowed: at least 1)")], id="one sentence for each key"
        ),
    ],
)
def test_choices_and_patterns(toy: Toy, faults: list[tuple[str, str]]) -> None:
    assert list(faults_of_values(Box(toy))) == faults


def test_choices_are_asked_for_when_a_value_is_checked() -> None:
    asked = []

    def choices() -> list[str]:
        asked.append(1)
        return ["red"]

    described = Setting("of the toy", choices=choices)
    assert not asked
    assert described.fault("red") is None
    assert asked == [1]


def test_choices_may_be_a_registry() -> None:
    from enginewright.registry import Registry

    described = Setting("of the toy", choices=Registry[Any]("toys", {"car": "nowhere:CAR"}))
    assert described.fault("car") is None
    assert described.fault("cat") == "'cat' is not a choice; did you mean 'car'?"


def test_a_default_list_is_not_shared() -> None:
    Toy().wheels.append(5)
    assert Toy().wheels == [4]


def settings(section: object, prefix: str = "") -> Iterator[tuple[str, Optional[Setting]]]:
    assert is_dataclass(section)
    for declared in fields(section):
        value = getattr(section, declared.name)
        if is_dataclass(value):
            yield from settings(value, f"{prefix}{declared.name}.")
        else:
            yield f"{prefix}{declared.name}", setting_of(declared)


DECLARED = dict(settings(Params()))


@pytest.mark.parametrize("key", DECLARED)
def test_every_setting_has_one_line_of_help(key: str) -> None:
    described = DECLARED[key]
    assert described is not None, f"{key} is declared without `setting`"
    assert described.help
    assert "\n" not in described.help
    assert not described.help.endswith(".")
