"""Test that ``predict --out`` scores what is missing or changed, and survives being killed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import deepfake_detect
from deepfake_detect.cli.main import main
from deepfake_detect.cli.render import PREDICTION
from deepfake_detect.cli.resume import MARKS, ResultFile
from deepfake_detect.scale.rows import marks_of
from tests.small_world import PORTRAIT, small_bundle

ROOT = Path(deepfake_detect.__file__).parents[1]
FORMATS = (".jsonl", ".csv", ".parquet")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with a bundle and three pictures."""
    monkeypatch.chdir(tmp_path)
    small_bundle(tmp_path / "bundle")
    Path("shots").mkdir()
    for name in "abc":
        shutil.copy(PORTRAIT, f"shots/{name}.jpg")
    return tmp_path


def predict(*arguments: object, status: int = 0) -> Result:
    command = ["predict", *map(str, arguments), "--model", "bundle", "--device", "cpu"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == status, (result.output, result.exception)
    return result


def read(path: str) -> list[dict[str, Any]]:
    if path.endswith(".jsonl"):
        return [json.loads(line) for line in Path(path).read_text().splitlines()]
    if path.endswith(".csv"):
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
    parquet = pytest.importorskip("pyarrow.parquet")
    return list(parquet.read_table(path).to_pylist())


def scored_now(result: Result) -> int:
    return int(result.stdout.rpartition(", ")[2].split()[0])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_second_run_scores_what_is_missing_failed_or_changed(pictures: Path, suffix: str) -> None:
    out = f"out/scores{suffix}"
    Path("shots/b.jpg").write_bytes(b"damaged")
    assert scored_now(predict("shots", "--out", out, status=1)) == 3
    assert scored_now(predict("shots", "--out", out, status=1)) == 1  # the damaged one is tried again
    shutil.copy(PORTRAIT, "shots/b.jpg")
    os.utime("shots/c.jpg", ns=(1, 1))
    assert scored_now(predict("shots", "--out", out)) == 2
    assert scored_now(predict("shots", "--out", out)) == 0
    shutil.copy(PORTRAIT, "shots/aa.jpg")
    assert scored_now(predict("shots", "--out", out)) == 1
    assert [row["name"] for row in read(out)] == [f"shots/{name}.jpg" for name in ("a", "aa", "b", "c")]
    assert scored_now(predict("shots", "--out", out, "--threshold", 0.9)) == 4
    single = predict("shots/a.jpg", "--out", out, "--threshold", 0.9)
    assert scored_now(single) == 0 and f"{out}: 1 picture (" in single.stdout
    assert len(read(out)) == 4
    assert [path.name for path in Path("out").iterdir()] == [f"scores{suffix}"]


def test_rows_are_those_of_json_with_marks(pictures: Path) -> None:
    predict("shots", "--out", "scores.jsonl")
    plain = json.loads(predict("shots", "--json").stdout)
    for row, expected in zip(read("scores.jsonl"), plain, strict=True):
        assert {**row, "seconds": 0} == {**expected, **{mark: row[mark] for mark in MARKS}, "seconds": 0}
        assert row["size_bytes"] == PORTRAIT.stat().st_size
    predict("shots", "--out", "scores.csv")
    for cells, row in zip(read("scores.csv"), plain, strict=True):
        assert (cells["name"], cells["score"], cells["faces"]) == (row["name"], str(row["score"]), "1")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_line_cut_anywhere_is_scored_again(pictures: Path, suffix: str) -> None:
    predict("shots", "--out", f"whole{suffix}")
    whole = Path(f"whole{suffix}").read_bytes()
    end = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for cut in (end, end + 1, (end + len(whole)) // 2, len(whole) - 1):
        path = Path(f"cut{suffix}")
        path.write_bytes(whole[:cut])
        file = ResultFile(path, form=PREDICTION, settings=read(f"whole{suffix}")[0]["settings"])
        assert file.missing(["shots/a.jpg", "shots/b.jpg", "shots/c.jpg"]) == ["shots/c.jpg"], cut
        with file:
            pass
        assert [row["name"] for row in read(str(path))] == ["shots/a.jpg", "shots/b.jpg"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_name_with_a_line_break_survives(tmp_path: Path, suffix: str) -> None:
    name, path = str(tmp_path / "two\nlines.jpg"), tmp_path / f"scores{suffix}"
    marks = marks_of(name)
    row = {"name": name, "label": "real", "faces": [], "size_hw": None, "error": None}
    with ResultFile(path, form=PREDICTION, settings="s") as file:
        for label in ("real", "fake"):
            file.append(name, {**row, "label": label}, marks)
        file.append("other.jpg", {**row, "name": "other.jpg"}, marks)
    again = ResultFile(path, form=PREDICTION, settings="s")
    assert again.missing([name, "other.jpg", "new.jpg"]) == ["new.jpg"]
    assert again.rows[name]["label"] == "fake"
    path.write_bytes(path.read_bytes()[:-5])
    assert ResultFile(path, form=PREDICTION, settings="s").missing([name, "other.jpg"]) == ["other.jpg"]
    if suffix == ".csv":  # cut behind the line break inside the quotes
        text = path.read_bytes()
        path.write_bytes(text[: text.rindex(b"lines")])
        assert ResultFile(path, form=PREDICTION, settings="s").rows[name]["label"] == "real"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL there")
def test_a_killed_run_is_continued(pictures: Path) -> None:
    for number in range(30):
        shutil.copy(PORTRAIT, f"shots/{number:02}.jpg")
    code = f"import sys; sys.path.append({str(ROOT)!r}); from deepfake_detect.cli.main import main; main()"
    arguments = ["predict", "shots", "--model", "bundle", "--device", "cpu", "--out", "scores.jsonl"]
    run = subprocess.Popen([sys.executable, "-c", code, *arguments, "--workers", "1"], stdout=subprocess.DEVNULL)
    try:
        while not Path("scores.jsonl").exists() or Path("scores.jsonl").stat().st_size < 3000:
            assert run.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        run.kill()
        run.wait()
    done = len([line for line in Path("scores.jsonl").read_text().split("\n")[:-1] if line])
    assert scored_now(predict("shots", "--out", "scores.jsonl")) == 33 - done
    names = [row["name"] for row in read("scores.jsonl")]
    assert names == sorted(f"shots/{path.name}" for path in Path("shots").iterdir())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", None, "expected .jsonl, .csv, .parquet"),
        ("a.csv", "file,label\nb.jpg,real\n", "name another file"),
        ("a.jsonl", '{"name": "b.jpg"}\n', "name another file"),
        ("a.jsonl", "no JSON\nat all\n", "name another file"),
        ("a.jsonl", "[1]\n", "name another file"),
    ],
)
def test_a_file_of_something_else_is_left_alone(pictures: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        Path(name).write_text(text)
    assert words in predict("shots", "--out", name, status=2).stderr
    assert not Path(name).exists() if text is None else Path(name).read_text() == text


def test_out_and_json_exclude_one_another(pictures: Path) -> None:
    assert "exclude one another" in predict("shots", "--out", "a.csv", "--json", status=2).stderr


def test_standard_input_is_scored_each_time(tmp_path: Path) -> None:
    names = ("-", "https://example.org/a.jpg")
    with ResultFile(tmp_path / "a.csv", form=PREDICTION, settings="s") as file:
        for name in names:
            file.append(name, {"name": name, "faces": [], "size_hw": None, "error": None}, marks_of(name))
    assert file.missing(names) == ["-"]
