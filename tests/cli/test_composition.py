"""conf/ to params.yaml: DVC's bytes, and each wrong override in one sentence with the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from enginewright.cli.composition import Absent, Change, changes, compose, groups, stale_stages, to_text
from enginewright.cli.selected import Selection
from enginewright.errors import ConfigError

pytestmark = pytest.mark.usefixtures("configured")


MINE = """name: mine
arguments: {classes: 10, in_channels: 1}
inputs: {input: {shape: [batch, 1, 28, 28]}}
outputs: [logits]
"""


def dvc_composes(project: Path, overrides: list[str]) -> bytes:
    """What `dvc exp run -S` would write."""
    from dvc.utils.hydra import compose_and_dump  # type: ignore[import-untyped]

    written = project / "dvc.out.yaml"
    compose_and_dump(written, str(project / "conf"), None, "config", str(project / "plugins"), overrides)
    return written.read_bytes()


CHOICES = Selection(
    {"experiment": "fashion_mnist", "calibration": "minmax"},
    {"data": {"calibration_images": 40}, "model": {"arguments": {"width": 8}}},
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of packages that DVC imports
@pytest.mark.parametrize(
    ("chosen", "overrides"),
    [
        pytest.param(Selection(), [], id="defaults"),
        pytest.param(
            Selection(),
            ["calibration=minmax", "debug=smoke", "data.calibration_images=40", "+model.arguments.width=8"],
            id="overrides",
        ),
        pytest.param(CHOICES, [], id="choices"),
        pytest.param(CHOICES, ["calibration=percentile", "data.calibration_images=30", "seed=2"], id="both"),
        pytest.param(CHOICES, ["experiment=digit_segmentation"], id="another experiment"),
        pytest.param(Selection(), ["preprocessing=mnist", "data.preprocessing.pad=[0]"], id="preset"),
        pytest.param(Selection({"preprocessing": "mnist"}), ["data=digits"], id="preset chosen before"),
    ],
)
def test_dvc_composes_to_the_same_bytes(configured: Path, chosen: Selection, overrides: list[str]) -> None:
    (configured / "conf/selected.yaml").write_text(chosen.to_text())
    assert to_text(compose(overrides)).encode() == dvc_composes(configured, overrides)


def test_choices_win_over_the_experiment_and_overrides_over_the_choices(configured: Path) -> None:
    (configured / "conf/selected.yaml").write_text(CHOICES.to_text())
    composed = compose(["data.sensitivity_images=10", "calibration=percentile"])
    assert composed.experiment == composed.selected_for == "fashion_mnist"
    assert composed.calibration.algorithm == "percentile"
    assert (composed.data.source, composed.data.calibration_images) == ("fashion_mnist", 40)
    assert composed.data.sensitivity_images == 10
    assert composed.model.arguments == {"in_channels": 1, "classes": 10, "width": 8}


def test_an_experiment_that_the_choices_were_not_made_for_shows_in_the_composition(configured: Path) -> None:
    (configured / "conf/selected.yaml").write_text(CHOICES.to_text())
    composed = compose(["experiment=digit_segmentation"])
    assert (composed.experiment, composed.selected_for) == ("digit_segmentation", "fashion_mnist")


def test_without_choices_any_experiment_goes(configured: Path) -> None:
    composed = compose(["experiment=digit_segmentation"])
    assert composed.experiment == composed.selected_for == "digit_segmentation"


@pytest.fixture
def made(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose conf/ holds what is its own, and takes the rest from a package."""
    package = configured / "site" / "library_conf"
    package.parent.mkdir()
    (configured / "conf").rename(package)
    monkeypatch.syspath_prepend(str(package.parent))
    own = configured / "conf"
    (own / "model").mkdir(parents=True)
    (own / "model/mine.yaml").write_text(MINE)
    listed = (package / "config.yaml").read_text().replace("model: resnet_reference", "model: mine")
    (own / "config.yaml").write_text(f"hydra: {{searchpath: [pkg://library_conf]}}\n{listed}")
    (package / "selected.yaml").rename(own / "selected.yaml")
    return configured


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_made_project_needs_only_what_is_its_own(made: Path) -> None:
    composed = compose()
    assert composed.model.name == "mine"
    assert composed.data.source == "digits"
    overrides = ["model=segmenter_reference", "data=digit_strokes"]
    assert to_text(compose(overrides)).encode() == dvc_composes(made, overrides)
    shipped = ["detector_reference", "efficientnet_lite0", "onnx", "own", "resnet_reference", "segmenter_reference"]
    assert groups()["model"] == sorted(["mine", *shipped])
    with pytest.raises(ConfigError, match="conf/model/ has no option 'mne'; did you mean 'mine'"):
        compose(["model=mne"])


def test_a_package_that_is_not_installed_is_named(configured: Path) -> None:
    conf = configured / "conf/config.yaml"
    conf.write_text("hydra: {searchpath: [pkg://not_there.conf]}\n" + conf.read_text())
    with pytest.raises(ConfigError, match=r"looks into the package not_there\.conf, which is not installed here"):
        compose(["data=digts"])


@pytest.mark.parametrize(
    ("override", "text"),
    [
        pytest.param("data=digts", "conf/data/ has no option 'digts'; did you mean 'digits'?", id="option"),
        pytest.param("data=x", "conf/data/ has no option 'x'; choose one of arrays, coco", id="option-far"),
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
            "model.inputs.input.shape=[batch,3,28,28]",
            "is not what data.preprocessing makes, [batch, 1, 28, 28]",
            id="combination",
        ),
        pytest.param("model.name='\\${seed}'", ": '${seed}' is an interpolation", id="escaped interpolation"),
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
        Change("new", Absent.absent, {"z": 1}),
        Change("gone", None, Absent.absent),
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
