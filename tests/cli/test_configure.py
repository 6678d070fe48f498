"""`enginewright configure` as a user meets it: what it keeps, what it writes, what it prints, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from enginewright import __version__
from enginewright.cli import main
from enginewright.cli.composition import groups
from support.project import ROOT

pytestmark = pytest.mark.slow

EXPERIMENTS = groups(ROOT / "conf")["experiment"]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["configure", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def params(project: Path) -> dict[str, dict[str, object]]:
    loaded: dict[str, dict[str, object]] = yaml.safe_load((project / "params.yaml").read_text())
    return loaded


def committed(project: Path) -> bool:
    return all(
        (project / name).read_bytes() == (ROOT / name).read_bytes() for name in ("params.yaml", "conf/selected.yaml")
    )


# --- what it writes and keeps


def test_earlier_choices_are_kept(project: Path) -> None:
    assert call("calibration=minmax", "+model.arguments.width=16") == 0
    assert call("data.calibration_images=100") == 0
    assert call() == 0
    written = params(project)
    assert written["calibration"]["algorithm"] == "minmax"
    assert written["data"]["calibration_images"] == 100
    assert written["model"]["arguments"] == {"in_channels": 1, "classes": 10, "width": 16}


def test_a_later_choice_takes_the_place_of_an_earlier_one(project: Path) -> None:
    assert call("calibration=minmax", "benchmark.batch_curve=[1,2]") == 0
    assert call("calibration=percentile", "benchmark.batch_curve=[4]") == 0
    assert params(project)["calibration"]["algorithm"] == "percentile"
    assert params(project)["benchmark"]["batch_curve"] == [4]


def test_reset_drops_them(project: Path) -> None:
    assert call("calibration=minmax", "seed=3") == 0
    assert call("--reset", "seed=4") == 0
    assert params(project)["calibration"]["algorithm"] == "entropy"
    assert call("--reset") == 0
    assert committed(project)


def test_an_edit_of_conf_is_composed_again_under_the_choices(project: Path) -> None:
    assert call("data.calibration_images=100") == 0
    conf = project / "conf/config.yaml"
    conf.write_text(conf.read_text() + "data: {calibration_images: 200, sensitivity_images: 200}\n")
    assert call() == 0
    assert params(project)["data"]["calibration_images"] == 100
    assert params(project)["data"]["sensitivity_images"] == 200


def test_an_option_of_the_projects_own_is_one_to_choose(project: Path) -> None:
    (project / "conf/calibration/mine.yaml").write_text("algorithm: percentile\npercentile: 99.9\n")
    assert call("calibration=mine") == 0
    assert params(project)["calibration"]["percentile"] == 99.9


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_names_itself_and_its_choices(project: Path, experiment: str) -> None:
    assert call(f"experiment={experiment}", "seed=3") == 0
    written: dict[str, object] = {**params(project)}
    assert (written["experiment"], written["selected_for"]) == (experiment, experiment)


def test_without_a_change_nothing_is_touched(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [project / "params.yaml", project / "conf/selected.yaml"]
    before = [file.stat().st_mtime_ns for file in files]
    assert call() == 0
    assert capsys.readouterr().out == "params.yaml is as it was: nothing becomes stale\n"
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.parametrize("content", [None, "a: [1"], ids=["missing", "broken"])
def test_a_params_yaml_that_cannot_be_read_is_written_again(project: Path, content: str | None) -> None:
    (project / "params.yaml").unlink()
    if content:
        (project / "params.yaml").write_text(content)
    assert call() == 0
    assert committed(project)


@pytest.mark.parametrize("content", ["a: [\n", "- a\n", "defaults: 3\n"])
def test_reset_drops_choices_that_cannot_be_read(
    project: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "conf/selected.yaml").write_text(content)
    assert call() == 2
    assert "drop what it holds with `enginewright configure --reset`" in capsys.readouterr().err
    assert call("--reset") == 0
    assert committed(project)


def test_a_missing_selection_is_an_empty_one(project: Path) -> None:
    (project / "conf/selected.yaml").unlink()
    assert call() == 0
    assert committed(project)


# --- what it prints


def test_it_prints_what_changed_and_what_becomes_stale(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("seed=3") == 0
    capsys.readouterr()
    assert call("calibration=minmax") == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "params.yaml: 1 setting changed",
        "  calibration.algorithm  entropy -> minmax",
        "on top of seed=3 (conf/selected.yaml)",
        "`dvc repro` runs calibrate, pareto",
    ]


@pytest.mark.parametrize(
    "overrides", [*([f"experiment={name}"] for name in EXPERIMENTS), ["benchmark=production", "seed=5"]]
)
def test_it_prints_at_most_15_lines(project: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("build.workspace_mib=2048") == 0
    capsys.readouterr()
    assert call(*overrides) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 3 < len(lines) <= 15
    assert max(map(len, lines)) <= 120


# --- what it refuses


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        pytest.param(["data=digts"], "conf/data/ has no option 'digts'; did you mean 'digits'?", id="option"),
        pytest.param(
            ["data.train_images=-1"],
            "conf/ data.train_images=-1: data.train_images: -1 is below 0 (allowed: at least 0)",
            id="range",
        ),
        pytest.param(
            ["~model.arguments.classes"],
            "the override ~model.arguments.classes takes away what conf/ sets, which conf/selected.yaml cannot hold;"
            " write an option of your own without it",
            id="taken away",
        ),
        pytest.param(
            ["model.code=net.py"],
            "model.code: net.py does not exist; name what enginewright.models.resnet.ResNet is written in, a file or a"
            " folder",
            id="code",
        ),
        pytest.param(
            ["model.weights=net.pt", "model.weights_from=file"],
            "model.weights: net.pt does not exist; save a state dict there, or draw or train the weights with"
            " model.weights_from",
            id="weights",
        ),
        *(
            pytest.param(
                [override],
                f"the override {override} sets what `enginewright configure` writes itself; leave it out",
                id=override,
            )
            for override in ("selected_for=digits", "enginewright_version=3")
        ),
        pytest.param(
            ["data.root=photos", "search_mixed.layers=layers/mine.yaml"],
            "data.root: photos does not exist; it is the folder of data.source digits; search_mixed.layers:"
            " layers/mine.yaml does not exist; it holds `layers: search`, or a list of layers",
            id="data and layers",
        ),
        pytest.param(
            ["data.calibration_images=100", "experiment=efficientnet_lite0"],
            "conf/selected.yaml holds data.validation_images=50, which would win over what experiment"
            " efficientnet_lite0 sets; drop the earlier choices with `enginewright configure --reset"
            " experiment=efficientnet_lite0`, or give those that you want again",
            id="choices of another experiment",
        ),
    ],
)
def test_a_refusal_is_one_sentence_and_changes_nothing(
    project: Path, overrides: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data.validation_images=50") == 0
    files = [project / "params.yaml", project / "conf/selected.yaml"]
    before = [file.read_bytes() for file in files]
    capsys.readouterr()
    assert call(*overrides) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"
    assert [file.read_bytes() for file in files] == before


def test_what_the_pipeline_makes_or_dvc_pulls_need_not_be_there(project: Path) -> None:
    assert not (project / "artifacts/reference/weights.pt").exists()
    (project / "photos.dvc").write_text("outs: []\n")
    assert call("data.root=photos") == 0


def test_a_choice_that_does_not_clash_goes_with_an_experiment(project: Path) -> None:
    assert call("runtime=onnxruntime", "accuracy=absolute") == 0
    assert call("experiment=efficientnet_lite0") == 0
    written: dict[str, object] = {**params(project)}
    assert (written["runtime"], written["selected_for"]) == ("onnxruntime", "efficientnet_lite0")


def test_a_clashing_choice_that_is_given_again_is_kept(project: Path) -> None:
    assert call("data.validation_images=50") == 0
    assert call("data.validation_images=60", "experiment=efficientnet_lite0") == 0
    assert params(project)["data"]["validation_images"] == 60


def test_an_experiment_that_does_not_name_itself_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "conf/experiment/mine.yaml").write_text("# @package _global_\nseed: 5\n")
    assert call("experiment=mine") == 2
    assert "add the line `experiment: mine` to it" in capsys.readouterr().err
    assert committed(project)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param(
            "override /calibration: minmx",
            "a defaults list of conf/ names calibration: minmx, which has no file; did you mean 'minmax'?",
            id="option",
        ),
        pytest.param(
            "override /calibraton: minmax",
            "conf/selected.yaml overrides calibraton, which is no folder of conf/; did you mean 'calibration'?",
            id="group",
        ),
    ],
)
def test_a_wrong_name_in_an_edited_selection_is_one_sentence(
    project: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "conf/selected.yaml").write_text(f"defaults:\n- {line}\nenginewright_version: {__version__}\n")
    assert call() == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"


@pytest.mark.parametrize("command", ["configure", "upgrade"])
def test_away_from_a_project_it_says_where_to_go_and_writes_nothing(
    here: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: conf/config.yaml does not exist in {here}; run from the project's root\n"
    )
    assert not list(here.iterdir())


def test_a_selection_that_is_not_composed_last_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = project / "conf/config.yaml"
    lines = conf.read_text().splitlines(keepends=True)
    conf.write_text("".join([*lines[:-2], lines[-1], lines[-2]]))
    assert call() == 2
    assert "conf/config.yaml must end its defaults with `- selected`" in capsys.readouterr().err


# --- --check


def test_check_compares_with_conf(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--check") == 0
    assert call("--check", "seed=7") == 2
    assert "seed is 0, conf/ has 7); write it with `enginewright configure seed=7`" in capsys.readouterr().err
    conf = project / "conf/benchmark/base.yaml"
    conf.write_text(conf.read_text().replace("\nseconds: 10.0", "\nseconds: 30.0"))
    assert call("--check") == 2
    assert "benchmark.seconds is 10.0, conf/ has 30.0" in capsys.readouterr().err
    (project / "params.yaml").unlink()
    assert call("--check") == 2
    assert "params.yaml is missing" in capsys.readouterr().err


def test_check_takes_the_choices_into_account(project: Path) -> None:
    assert call("seed=7") == 0
    assert call("--check") == 0
    assert call("--check", "seed=8") == 2


def test_check_refuses_an_experiment_that_the_choices_were_not_made_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("seed=7") == 0
    assert call("--check", "experiment=fashion_mnist") == 2
    assert (
        "the choices in conf/selected.yaml were made for no experiment and would win over what experiment fashion_mnist"
        " sets; run `enginewright configure --reset experiment=fashion_mnist` to drop them, or `enginewright configure"
        " experiment=fashion_mnist` to keep them" in capsys.readouterr().err
    )
