"""What `enginewright check` says of files as people have them: verdict, remedies, exit code, JSON.

check_files.csv holds each sentence in full; check_files.py makes the files.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli.check_files import MAKES, licensed, model, saved

from enginewright.cli import main

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))
KEYS = (
    *("format", "file", "verdict", "opset", "producer", "ir_version", "inputs", "outputs", "operators", "parameters"),
    *("findings", "licence", "parsers"),
)


def judged(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """The exit code, and what is printed."""
    with pytest.raises(SystemExit) as ended:
        main(["check", str(path), *options])
    return int(str(ended.value.code)), capsys.readouterr().out


def answer(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """The exit code, and what --json prints."""
    code, printed = judged(path, capsys, "--json")
    return code, json.loads(printed)


def expected() -> dict[str, tuple[str, list[str]]]:
    """Of each file the verdict and the sentences."""
    found: dict[str, tuple[str, list[str]]] = {}
    with Path(__file__).with_name("check_files.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            _, sentences = found.setdefault(row["file"], (row["verdict"], []))
            if row["what"]:
                sentences.append(f"{row['severity']}: {row['what']}; {row['remedy']}")
    return found


@pytest.mark.parametrize("name", MAKES)
def test_a_file_gets_its_verdict_and_its_remedies(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    code, found = answer(MAKES[name](tmp_path / "folder"), capsys)
    said = [f"{each['severity']}: {each['what']}; {each['remedy']}" for each in found["findings"]]
    of_all_machines = [each for each in said if not each.startswith("fail: the parser of")]
    assert (found["verdict"], of_all_machines) == expected()[name]
    assert code == int(found["verdict"] == "fail")


def test_every_expectation_is_of_a_file() -> None:
    assert list(expected()) == list(MAKES)


def test_json_has_the_same_keys_for_a_sound_file_and_for_one_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, sound = answer(saved(model())(tmp_path), capsys)
    _, empty = answer(MAKES["empty"](tmp_path), capsys)
    assert tuple(sound) == tuple(empty) == KEYS
    assert sound["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}]
    assert sound["outputs"] == [{"name": "y", "dtype": "float32", "shape": ["batch", 4]}]
    assert sound["operators"] == {"MatMul": 1, "Relu": 1}
    assert (sound["opset"], sound["producer"], sound["ir_version"], sound["parameters"]) == (17, "maker", 8, 16)
    assert (empty["opset"], empty["inputs"], empty["operators"]) == (None, [], {})
    assert all(set(said) == {"version", "answer", "refusals"} for said in sound["parsers"].values())


def test_the_licence_is_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(licensed())(tmp_path)
    says = "AGPL-3.0 License (https://ultralytics.com/license)"
    assert answer(path, capsys)[1]["licence"] == says
    code, printed = judged(path, capsys)
    assert code == 0
    assert f"licence, as the file says: {says}" in " ".join(printed.split())


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_the_light_models_of_onnx_are_judged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ConstantOfShape makes their weights; each has a fixed batch of 1 and an old opset."""
    code, found = answer(path, capsys)
    assert (code, found["verdict"]) == (0, "warn")
    said = [each["what"] for each in found["findings"]]
    assert any("has a fixed batch of 1" in each for each in said)


WRONG_USAGE = [
    pytest.param("missing.onnx", "missing.onnx does not exist; check the path", id="missing"),
    pytest.param("folder", "folder is a folder; give a file, such as folder/model.onnx", id="folder"),
    pytest.param("empty", "empty is a folder; give a file", id="folder without a model"),
    pytest.param("model.onnx/x", "model.onnx/x cannot be read (Not a directory); check it", id="below a file"),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG_USAGE)
def test_what_is_no_file_is_wrong_usage(
    given: str, sentence: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (here, here / "folder", here / "empty"):
        folder.mkdir(exist_ok=True)
    saved(model())(here)
    saved(model())(here / "folder")
    with pytest.raises(SystemExit) as ended:
        main(["check", given, "--json"])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out, printed.err) == (2, "", f"error: {sentence}\n")


def test_without_a_file_it_is_the_model_of_the_project(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: artifacts/onnx/model.onnx does not exist; give one, or run `dvc repro export` in a project\n"
    )


@pytest.mark.full
def test_flipped_bytes_end_in_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """300 times some bytes of a model, or of what it was quantized to, are others."""
    random = np.random.default_rng(0)
    for number in range(300):
        content = bytearray(MAKES[("sound", "Q/DQ", "control flow")[number % 3]](tmp_path).read_bytes())
        for place in random.integers(0, len(content), int(random.integers(1, 9))):
            content[place] ^= int(random.integers(1, 256))
        (tmp_path / "model.onnx").write_bytes(bytes(content))
        code, found = answer(tmp_path / "model.onnx", capsys)
        assert code == int(found["verdict"] == "fail")
