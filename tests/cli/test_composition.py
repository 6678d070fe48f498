"""conf/ to params.yaml: DVC's bytes, and each wrong override in one sentence with the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from enginewright.cli.composition import Change, changes, compose, stale_stages, to_text
from enginewright.errors import ConfigError

pytestmark = pytest.mark.usefixtures("configured")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of packages that DVC imports
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([], id="defaults"),
        pytest.param(
            ["calibration=minmax", "debug=smoke", "data.calibration_images=40", "+model.arguments.width=8"],
            id="overrides",
        ),
    ],
)
def test_dvc_composes_to_the_same_bytes(configured: Path, overrides: list[str]) -> None:
    from dvc.utils.hydra import compose_and_dump  # type: ignore[import-untyped]

    plugins = configured / "plugins"
    compose_and_dump(
        configured / "dvc.yaml.out.yaml", str(configured / "conf"), None, "config", str(plugins), overrides
    )
    assert to_text(compose(overrides)).encode() == (configured / "dvc.yaml.out.yaml").read_bytes()


@pytest.mark.parametrize(
    ("override", "text"),
    [
        pytest.param("data=digts", "conf/data/ has no option 'digts'; did you mean 'digits'?", id="option"),
        pytest.param("data=x", "conf/data/ has no option 'x'; choose one of digit_strokes, digits", id="option-far"),
        pytest.param("runtime=nul", "runtime: 'nul' is not a choice; did you mean 'null'?", id="runtime"),
        pytest.param("runtime=null", "for the null runtime use debug=null_runtime", id="null-is-no-value"),
        pytest.param("modle=resnet_reference", "modle is not a setting; did you mean 'model'?", id="group"),
        pytest.param("data@foo=digits", "did you mean 'data'?", id="package"),
        pytest.param("+data=digits", "data appears more than once", id="group-twice"),
        pytest.param("~data.seed", "~data.seed", id="key-removed-that-is-not-there"),
        pytest.param("~data.train_images", "data.train_images is missing", id="key-removed"),
        pytest.param("data.train_imags=3", "data.train_imags is not a setting; did you mean 'train_images'?", id="key"),
        pytest.param(
            "+data.train_imags=3", "data.train_imags is not a setting; did you mean 'train_images'?", id="added-key"
        ),
        pytest.param("seed.x=3", "seed", id="key-below-a-value"),
        pytest.param("model.arguments.width=3", "is added with +model.arguments.width=", id="argument-without-plus"),
        pytest.param("data.train_images=many", "data.train_images: Value 'many'", id="type"),
        pytest.param("build.precision_mode=implicitt", "did you mean 'implicit'?", id="member"),
        pytest.param(
            "model.input_shape=[3,28,28]", "is not what data.preprocessing makes, [1, 28, 28]", id="combination"
        ),
        pytest.param(
            "model.name='\\${seed}'", "params.yaml, line 2: '${seed}' is an interpolation", id="escaped interpolation"
        ),
        pytest.param("seed=${nope}", "Interpolation key 'nope' not found", id="interpolation"),
        pytest.param("model=[a", "the override model=[a is not in Hydra's grammar", id="syntax"),
        pytest.param("model", "the override model is not in Hydra's grammar", id="no-value"),
        pytest.param("=3", "the override =3 names no key", id="no-key"),
        pytest.param(
            "calibration=entropy,minmax",
            "is a sweep; queue it with `dvc exp run --queue -S 'calibration=entropy,minmax'`",
            id="sweep",
        ),
        pytest.param("hydra.run.dir=x", "sets Hydra itself", id="hydra"),
    ],
)
def test_a_wrong_override_is_one_sentence(override: str, text: str) -> None:
    with pytest.raises(ConfigError) as fault:
        compose([override])
    assert text in str(fault.value)
    assert "\n" not in str(fault.value)
    assert "://" not in str(fault.value)


@pytest.mark.parametrize(
    "override",
    [
        pytest.param("model.name=${oc.env:A_SECRET}", id="value"),
        pytest.param("model.name=${oc.env:A_SECRET,none}", id="with a default"),
        pytest.param("model.name=x-${oc.env:A_SECRET}", id="within a text"),
        pytest.param("+model.arguments.key='${oc.decode:${oc.env:A_SECRET}}'", id="nested"),
        pytest.param(
            "+model.arguments={resolver: oc.env, key: '${${model.arguments.resolver}:A_SECRET}'}",
            id="a resolver with an interpolated name",
        ),
    ],
)
def test_no_secret_of_the_environment_gets_into_params_yaml(
    override: str, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    with pytest.raises(ConfigError) as fault:
        compose([override])
    assert "hunter2" not in str(fault.value)
    assert "raised while resolving" not in str(fault.value)
    assert "${oc.env:A_SECRET} would write the environment variable A_SECRET into params.yaml" in str(fault.value)
    conf = configured / "conf/config.yaml"
    conf.write_text(conf.read_text() + "seed: ${oc.env:A_SECRET}\n")
    with pytest.raises(ConfigError, match="would write the environment variable A_SECRET"):
        compose()


def test_away_from_the_project_it_says_where_to_go(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(configured / "conf" / "data")
    with pytest.raises(ConfigError, match="run from the project's root"):
        compose()


def test_changes_are_the_settings_that_differ() -> None:
    before = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "gone": None}
    after = {"a": {"x": 1, "y": [1, 3]}, "b": None, "new": {"z": 1}}
    assert list(changes(before, after)) == [
        Change("a.y", [1, 2], [1, 3]),
        Change("b", 1, None),
        Change("new", None, {"z": 1}),
        Change("gone", None, None),
    ]
    assert list(changes(after, after)) == []


PIPELINE = """
stages:
  report: {deps: [engines/int8/engine.onnx, accuracy.json]}
  probe: {params: [runtime], outs: [target.json: {cache: false}]}
  data: {params: [seed, data], deps: ["${data.root}"], outs: [images]}
  export: {params: [export.opset_version], deps: ["${model.weights}"], outs: [model]}
  calibrate: {params: [calibration], deps: [images/calibration, model/model.onnx], outs: [calib.cache]}
  build: {deps: [calib.cache, model, target.json], outs: [engines/int8]}
  other: {params: [seeds], outs: [unrelated]}
"""


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        pytest.param(
            ["calibration.algorithm"],
            {"calibrate": [], "build": ["calibrate"], "report": ["build"]},
            id="key-in-a-section",
        ),
        pytest.param(
            ["seed"],
            {"data": [], "calibrate": ["data"], "build": ["calibrate"], "report": ["build"]},
            id="not-a-prefix-of-seeds",
        ),
        pytest.param(
            ["export"],
            {"export": [], "calibrate": ["export"], "build": ["export", "calibrate"], "report": ["build"]},
            id="section-of-a-key",
        ),
        pytest.param(
            ["model.weights"],
            {"export": [], "calibrate": ["export"], "build": ["export", "calibrate"], "report": ["build"]},
            id="templated-dep",
        ),
        pytest.param(["runtime"], {"probe": [], "build": ["probe"], "report": ["build"]}, id="uncached-out"),
        pytest.param(["nothing.of.it"], {}, id="nothing"),
    ],
)
def test_what_becomes_stale(here: Path, changed: list[str], stale: dict[str, list[str]]) -> None:
    (here / "pipeline.yaml").write_text(PIPELINE)
    params = {"data": {"root": "digits"}, "model": {"weights": "weights.pt"}}
    found = stale_stages(changed, here / "pipeline.yaml", params)
    assert {stage.name: list(stage.behind) for stage in found} == stale
    assert all(stage.changed or stage.behind for stage in found)


def test_stale_stages_of_the_project(configured: Path) -> None:
    params = yaml.safe_load((configured / "params.yaml").read_text())
    names = {stage.name for stage in stale_stages(["calibration.algorithm"], configured / "dvc.yaml", params)}
    assert {"calibrate", "build_int8", "validate_accuracy", "benchmark_sustained"} <= names
    assert not names & {
        "probe_target",
        "prepare_data",
        "train_reference",
        "export",
        "check_onnx",
        "build_fp32",
        "build_fp16",
    }
