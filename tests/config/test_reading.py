"""params.yaml: what is wrong with it is said with the full key and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from enginewright import config
from enginewright.config import CalibrationAlgorithm, Layout
from enginewright.errors import ConfigError
from support.project import ROOT


@pytest.fixture
def params() -> DictConfig:
    loaded = OmegaConf.load(ROOT / "params.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


def test_values_come_typed(params: DictConfig) -> None:
    checked = config.check(params, "params.yaml")
    assert checked.calibration.algorithm is CalibrationAlgorithm[params.calibration.algorithm]
    assert checked.data.preprocessing.layout is Layout.nchw
    assert isinstance(checked.benchmark.seconds, float)
    assert checked.model.arguments == dict(params.model.arguments)


def test_the_schema_alone_lacks_only_the_models_interface() -> None:
    with pytest.raises(ConfigError) as fault:
        config.check(OmegaConf.create({}), "nothing")
    assert str(fault.value) == (
        "nothing: model.inputs: is empty; name what the model takes, such as {images: {shape: [batch, 3, 224, 224],"
        " dtype: float32}}; model.outputs: is empty; name what the model returns, such as [logits]"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(
            "data.train_imags=3", "data.train_imags is not a setting; did you mean 'train_images'?", id="unknown-key"
        ),
        pytest.param("dta.source=digits", "dta is not a setting; did you mean 'data'?", id="unknown-section"),
        pytest.param(
            "axes.batch.maxx=4", "axes.batch.maxx is not a setting; did you mean 'max'?", id="unknown-nested-key"
        ),
        pytest.param("data.train_images=many", "data.train_images: Value 'many'", id="word-for-a-number"),
        pytest.param("train.epochs=1.5", "train.epochs: Value '1.5'", id="fraction-for-a-count"),
        pytest.param("seed=null", "seed: null is not a value of it", id="null-for-a-number"),
        pytest.param(
            "axes.batch=3", "axes.batch is 3 and must be a section with min, opt, max", id="number-for-a-section"
        ),
        pytest.param(
            "data.preprocessing.size=28", "data.preprocessing.size is 28 and must be a list", id="number-for-a-list"
        ),
        pytest.param(
            "build.precisions=int8",
            "build.precisions is int8 and must be a list, such as [fp32, fp16, int8, int8_mixed]",
            id="word-for-a-list",
        ),
        pytest.param("build.precisions=null", "build.precisions is null and must be a list", id="null-for-a-list"),
        pytest.param(
            "calibration.algorithm=entropi",
            "calibration.algorithm: 'entropi' is not a choice; did you mean 'entropy'?",
            id="unknown-member",
        ),
        pytest.param(
            "accuracy.gated=[int7]", "'int7' is not a choice; did you mean 'int8'?", id="unknown-member-in-a-list"
        ),
    ],
)
def test_a_wrong_setting_is_named(params: DictConfig, change: str, text: str) -> None:
    key, _, value = change.partition("=")
    OmegaConf.update(params, key, OmegaConf.create(f"x: {value}").x, force_add=True, merge=False)
    with pytest.raises(ConfigError) as fault:
        config.check(params, "params.yaml")
    assert text in str(fault.value)
    assert str(fault.value).startswith("params.yaml: ")
    assert "\n" not in str(fault.value)


def test_all_faults_are_told_at_once(params: DictConfig) -> None:
    params.export.opset_version, params.build.optimization_level, params.axes.batch.opt = 5, 9, 500
    with pytest.raises(ConfigError) as fault:
        config.check(params, "params.yaml")
    assert str(fault.value) == (
        "params.yaml: export.opset_version: 5 is below 13 (allowed: 13 to 20);"
        " build.optimization_level: 9 is above 5 (allowed: 0 to 5);"
        " axes.batch: min 1 <= opt 500 <= max 128 does not hold"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(None, "does not exist", id="missing"),
        pytest.param("a: [1", "is not valid YAML", id="no-yaml"),
        pytest.param("- 1\n", "is not a mapping", id="list"),
        pytest.param(
            "<<<<<<< HEAD\nseed: 0\n=======\nseed: 1\n>>>>>>> other\n", "is not valid YAML", id="merge-conflict"
        ),
    ],
)
def test_a_file_that_cannot_be_read_says_how_to_write_it(here: Path, content: str | None, text: str) -> None:
    if content is not None:
        (here / "params.yaml").write_text(content)
    with pytest.raises(ConfigError, match="enginewright configure") as fault:
        config.read()
    assert text in str(fault.value)


def edited(tmp_path: Path, before: str, after: str) -> Path:
    text = (ROOT / "params.yaml").read_text()
    assert before in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(before, after, 1))
    return path


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        pytest.param(
            "root: data/digits", "root: ${oc.env:HOME}", "'${oc.env:HOME}' is an interpolation", id="environment"
        ),
        pytest.param(
            "root: data/digits",
            "root: data/${data.source}",
            "'data/${data.source}' is an interpolation",
            id="within a text",
        ),
        pytest.param("root: data/digits", "root: '${seed}'", "'${seed}' is an interpolation", id="quoted"),
        pytest.param("root: data/digits", "root: \\${seed}", "is an interpolation", id="escaped"),
        pytest.param("root: data/digits", "root: >-\n    ${seed}", "'${seed}' is an interpolation", id="folded"),
        pytest.param("root: data/digits", "root: ${seed", "'${seed' is an interpolation", id="cut short"),
        pytest.param("in_channels: 1", "${seed}: 1", "'${seed}' is an interpolation", id="key"),
        pytest.param("- 0.1307", "- ${data.preprocessing.scale}", "is an interpolation", id="in a list"),
        pytest.param(
            "in_channels: 1",
            "in_channels: {deep: [1, {x: '${seed}'}]}",
            "is an interpolation",
            id="deep in the arguments",
        ),
        pytest.param("seed: 0", "seed: 010", "010 is one value to DVC and another to a stage", id="octal"),
        pytest.param("seed: 0", "seed: 0o10", "0o10 is one value to DVC", id="octal of YAML 1.2"),
        pytest.param("epochs: 12", "epochs: 1:30", "1:30 is one value to DVC", id="base 60"),
        pytest.param("tf32: false", "tf32: off", "off is one value to DVC", id="off"),
        pytest.param("tf32: false", "tf32: Yes", "Yes is one value to DVC", id="yes"),
        pytest.param("in_channels: 1", "in_channels: 2001-01-01", "2001-01-01 is one value to DVC", id="date"),
        pytest.param("seed: 0", "seed: !!int '10'", "the tag tag:yaml.org,2002:int", id="tag"),
        pytest.param(
            "seed: 0",
            "seed: ???",
            "??? stands for a value that is missing, and a stage would take its default",
            id="missing",
        ),
        pytest.param(
            "root: data/digits", "root: '???'", "??? stands for a value that is missing", id="missing, quoted"
        ),
        pytest.param("root: data/digits", 'root: "a\\0b"', "holds a null character", id="null character"),
        pytest.param(
            "seed: 0", "seed: -1", "seed: -1 is below 0 (allowed: 0 to 18446744073709551615)", id="negative seed"
        ),
        pytest.param(
            "seed: 0", "seed: 99999999999999999999", "is above 18446744073709551615", id="seed beyond 64 bits"
        ),
        pytest.param(
            "in_channels: 1", "in_channels: !!set {a}", "the tag tag:yaml.org,2002:set", id="tag of a collection"
        ),
    ],
)
def test_params_yaml_holds_plain_values_alone(tmp_path: Path, before: str, after: str, text: str) -> None:
    with pytest.raises(ConfigError) as fault:
        config.read(edited(tmp_path, before, after))
    assert text in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    "value",
    [
        "'010'",
        "'yes'",
        '"1:30"',
        "0",
        "10",
        "-3",
        "0.5",
        "1e-4",
        "1_000",
        "0x10",
        "abc",
        "'2001-01-01'",
        "null",
        ".inf",
    ],
)
def test_values_that_dvc_and_stages_read_alike_are_taken(tmp_path: Path, value: str) -> None:
    from ruamel.yaml import YAML

    path = edited(tmp_path, "in_channels: 1", f"in_channels: {value}")
    assert (
        config.read(path).model.arguments["in_channels"]
        == YAML(typ="safe").load(path.read_text())["model"]["arguments"]["in_channels"]
    )
