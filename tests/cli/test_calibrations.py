"""`enginewright calibrations` on what `dvc exp show --json` of DVC 3.67 prints."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Optional

import pandas as pd
import pytest

from enginewright.cli import main
from enginewright.cli.calibrations import compare

Experiment = dict[str, Any]


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["calibrations", *map(str, arguments)])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def experiment(name: str, figures: Optional[dict[str, Any]], **params: Any) -> Experiment:
    """`figures` of INT8, None where validate_accuracy did not end."""
    values = {
        "algorithm": "entropy",
        "images": 50,
        "selection": "random",
        "selection_seed": None,
        "seed": 0,
        "percentile": 99.99,
        **params,
    }
    written = {
        "seed": values["seed"],
        "runtime": values.get("runtime", "onnxruntime"),
        "calibration": {"algorithm": values["algorithm"], "percentile": values["percentile"]},
        "data": {
            "calibration_images": values["images"],
            "selection": values["selection"],
            "selection_seed": values["selection_seed"],
            "mean": [0.1],
        },
        "benchmark": {"seconds": values.get("seconds", 1)},
    }
    metrics: dict[str, Any] = {"artifacts/metrics/calibrate.json": {"data": {"images": 50}}}
    if figures is not None:
        figure = "top1" if "top1" in figures else "agreement"
        accuracy = {
            "int8": {"sqnr_db": 30.0, "agreement": 0.99, **figures},
            "fp32": {"top1": 0.98} if figure == "top1" else {},
            "gate": {"figure": figure},
            "images": 1000,
            "target": {"device": values.get("device", "CPU")},
        }
        metrics["artifacts/metrics/validate_accuracy.json"] = {"data": accuracy}
    data = {
        "rev": name,
        "timestamp": values.get("timestamp"),
        "params": {"params.yaml": {"data": written}},
        "metrics": metrics,
    }
    return {"revs": [{"rev": name, "name": name, "data": data, "error": None}], "executor": None, "name": name}


def shown(*experiments: Experiment) -> str:
    return json.dumps(
        [{"rev": "workspace", "experiments": None}, {"rev": "abc", "name": "master", "experiments": list(experiments)}]
    )


def seeds(algorithm: str, values: list[float], sqnr: float = 30.0, **params: Any) -> list[Experiment]:
    return [
        experiment(
            f"{algorithm}-{seed}",
            {"top1": value, "sqnr_db": sqnr + seed},
            algorithm=algorithm,
            selection_seed=seed,
            **params,
        )
        for seed, value in enumerate(values)
    ]


def test_a_row_a_choice_with_mean_and_spread_over_the_seeds() -> None:
    grid = compare(shown(*seeds("entropy", [0.97, 0.98, 0.96]), *seeds("minmax", [0.5], images=200)))
    table = grid.table.set_index("algorithm")
    assert (grid.figure, grid.reference, grid.validation_images, grid.choice) == (
        "top1",
        0.98,
        1000,
        ["algorithm", "images", "selection"],
    )
    entropy = table.loc["entropy"]
    assert (entropy["images"], entropy["selection"], entropy["seeds"]) == (50, "random", 3)
    assert (entropy["mean"], entropy["least"], entropy["greatest"]) == (pytest.approx(0.97), 0.96, 0.98)
    assert (entropy["deviation"], entropy["sqnr_deviation"]) == (pytest.approx(0.01), pytest.approx(1.0))
    assert (table.loc["minmax", "seeds"], table.loc["minmax", "images"]) == (1, 200)
    assert table["deviation"].isna().tolist() == [False, True]


def test_the_best_is_the_one_of_most_sqnr_among_those_that_accuracy_cannot_tell_apart() -> None:
    """Agreement 0.99 each: 2 % of 1,000 images may differ, so that 1.96 * sqrt(0.02 / 1000) = 0.0088 is noise."""
    grid = compare(
        shown(
            *seeds("entropy", [0.970]), *seeds("minmax", [0.962], sqnr=35.0), *seeds("percentile", [0.961], sqnr=40.0)
        )
    )
    assert list(zip(grid.table["algorithm"], grid.table["rank"], strict=True)) == [
        ("minmax", "best"),
        ("entropy", "="),
        ("percentile", ""),
    ]
    assert grid.notes[0].startswith("1000 validation images cannot tell 2 of 3 choices apart by top1")


def test_a_choice_run_twice_counts_once_and_the_newest() -> None:
    new = experiment("new", {"top1": 0.9}, selection_seed=1, timestamp="2026-11-25T06:49:04")
    old = experiment("old", {"top1": 0.1}, selection_seed=1, timestamp="2026-11-24T23:49:04")
    for listed in ([new, old], [old, new]):
        grid = compare(shown(*listed))
        assert (list(grid.table["seeds"]), list(grid.table["mean"])) == ([1], [0.9])


@pytest.mark.parametrize("state", ["failed", "queued", "running"])
def test_an_experiment_that_did_not_end_is_left_out_though_dvc_shows_the_figures_of_its_base(state: str) -> None:
    """As DVC 3.67 showed one whose gate failed: an error, the state, and the metrics of HEAD."""
    lost = experiment("lost", {"top1": 0.99}, algorithm="minmax")
    lost["executor"] = {"state": state, "name": None}
    if state == "failed":
        lost["revs"][0]["error"] = {"msg": "Experiment run failed", "type": ""}
    grid = compare(shown(lost, experiment("ended", {"top1": 0.9})))
    assert list(grid.table["algorithm"]) == ["entropy"]
    assert any("without an accuracy: lost (" in note for note in grid.notes)


def test_the_seed_stands_in_where_the_selection_has_none() -> None:
    swept = [experiment(str(seed), {"top1": 0.9}, seed=seed) for seed in (1, 2)]
    grid = compare(shown(*swept))
    assert (grid.choice, list(grid.table["seeds"])) == (["algorithm", "images", "selection"], [2])


def test_other_parameters_that_differ_make_a_choice_of_their_own_unless_they_decide_nothing() -> None:
    two = [
        experiment("a", {"top1": 0.9}, percentile=99.0, seconds=1),
        experiment("b", {"top1": 0.8}, percentile=99.9, seconds=2),
    ]
    grid = compare(shown(*two))
    assert grid.choice == ["algorithm", "images", "selection", "calibration.percentile"]
    assert list(grid.table["calibration.percentile"]) == [99.0, 99.9]


def test_without_labels_agreement_is_the_figure() -> None:
    grid = compare(shown(experiment("a", {"agreement": 0.8}), experiment("b", {"agreement": 0.9}, algorithm="minmax")))
    assert (grid.figure, grid.reference) == ("agreement", None)
    assert list(grid.table["algorithm"]) == ["minmax", "entropy"]


def test_notes_say_what_a_reader_must_know() -> None:
    grid = compare(
        shown(
            experiment("a", {"top1": 0.9}),
            experiment("b", {"top1": 0.9}, algorithm="minmax", device="GPU"),
            experiment("c", {"agreement": 0.9}),
            *(experiment(f"lost-{number}", None) for number in range(5)),
        )
    )
    text = " | ".join(grid.notes)
    assert (
        "without an accuracy: lost-0, lost-1, lost-2 and 2 more (queued, running or failed; see `dvc queue status`)"
        in text
    )
    assert "the experiments ran on 2 different targets" in text
    assert "1 experiments are left out: they are judged by another figure than top1" in text
    assert "one seed each: sweep data.selection_seed=1,2,3 to see the spread" in text
    assert "move its SQNR by 1.00 dB" in " | ".join(compare(shown(*seeds("entropy", [0.9, 0.9, 0.9]))).notes)


def test_it_prints_a_table_writes_csv_and_markdown(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    Path("grid.json").write_text(shown(*seeds("entropy", [0.97, 0.98]), *seeds("minmax", [0.5])))
    assert call("--from", "grid.json", "--csv", "out/grid.csv") == 0
    printed = capsys.readouterr().out
    assert "0.9750 ± 0.0071 │ 0.9700 to 0.9800" in printed, "figures are not cut short in a narrow terminal"
    assert "FP32 has 0.9800" in printed
    table = pd.read_csv("out/grid.csv")
    assert list(table["algorithm"]) == ["entropy", "minmax"]
    assert table["mean"].tolist() == pytest.approx([0.975, 0.5])
    assert call("--from", "grid.json", "--markdown") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert (
        rows[0]
        == "| algorithm | images | selection | seeds | top1 ± std | over seeds | SQNR ± std (dB) | over seeds |  |"
    )
    assert (
        rows[2]
        == "| entropy | 50 | random | 2 | 0.9750 ± 0.0071 | 0.9700 to 0.9800 | 30.50 ± 0.71 | 30.00 to 31.00 | best |"
    )
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(None, "grid.json does not exist; write it with `dvc exp show --json > grid.json`", id="missing"),
        pytest.param("no JSON", "this is not what `dvc exp show --json` of DVC 3 prints", id="no-json"),
        pytest.param('{"a": 1}', "this is not what `dvc exp show --json` of DVC 3 prints", id="another-json"),
        pytest.param(
            shown(), "no experiment has an accuracy of INT8; queue a grid with the command", id="no-experiment"
        ),
        pytest.param(
            shown(experiment("x", None)),
            "no experiment has an accuracy of INT8; without an accuracy: x",
            id="none-ended",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], content: Optional[str], text: str
) -> None:
    if content is not None:
        Path("grid.json").write_text(content)
    assert call("--from", "grid.json") == 2
    said = capsys.readouterr().err
    assert text in said
    assert len(said.splitlines()) == 1


def test_outside_of_a_repository_dvc_says_so_in_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert subprocess.run(["git", "rev-parse"], capture_output=True, check=False).returncode, (
        "this test needs a folder outside of git"
    )
    assert call() == 2
    assert "`dvc exp show` failed in" in capsys.readouterr().err
