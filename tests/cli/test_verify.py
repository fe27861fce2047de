"""Test ``predict --evidence`` and ``verify``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deepfake_detect.cli import render
from deepfake_detect.cli.main import main
from deepfake_detect.predict.evidence import fingerprint_case
from tests.small_world import PORTRAIT, small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_bundle(tmp_path_factory.mktemp("weights") / "small"))


def run(*arguments: Any, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def cases_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]


@pytest.fixture(scope="module")
def case(bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    assert run("predict", PORTRAIT, "--model", bundle, "--evidence", folder).exit_code == 0
    return next(folder.glob("*.json"))


def test_a_case_is_written_for_each_picture_and_checked_again(bundle: str, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(PORTRAIT.read_bytes() + b"x")
    done = run("predict", PORTRAIT, other, "--model", bundle, "--evidence", tmp_path / "cases")
    assert done.exit_code == 0
    first, second = sorted((tmp_path / "cases").glob("*.json"))
    assert first.name.startswith("other-") and second.name.startswith("portrait-")
    assert json.loads(second.read_text("utf-8"))["input"]["name"] == str(PORTRAIT)
    same = run("verify", second, PORTRAIT, "--model", bundle)
    assert same.exit_code == 0 and same.stdout.endswith("The verdict stands.\n")
    differs = run("verify", second, other, "--model", bundle, "--json")
    assert differs.exit_code == 1
    assert "file" in [check["name"] for check in json.loads(differs.stdout)["checks"] if not check["ok"]]


def test_no_case_takes_the_place_of_another(bundle: str, tmp_path: Path) -> None:
    cases, model = tmp_path / "cases", ("--model", bundle)
    other_model = ("--model", small_bundle(tmp_path / "other", name="other"))
    for folder in ("a", "b"):  # the same content under the same name
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "portrait.jpg").write_bytes(PORTRAIT.read_bytes())
    runs: list[tuple[Any, ...]] = [
        (tmp_path / "a", *model),
        (tmp_path / "a", *other_model),
        (tmp_path / "a", *model, "--threshold", 0.9),
        (tmp_path / "a", *model, "--faces", "none"),
        (tmp_path / "b", *model),
    ]
    for number, arguments in enumerate(runs, start=1):
        assert run("predict", *arguments, "--evidence", cases).exit_code == 0
        assert len(cases_in(cases)) == number
    for arguments in runs:  # each takes its own place
        assert run("predict", *arguments, "--evidence", cases).exit_code == 0
    facts = {
        (case["input"]["name"][-14:], case["weights"]["id"], case["settings"]["threshold"], case["settings"]["faces"])
        for case in cases_in(cases)
    }
    assert len(facts) == len(cases_in(cases)) == 5


def test_the_case_of_a_report_stays(bundle: str, tmp_path: Path) -> None:
    options = ("--model", bundle)
    run("report", PORTRAIT, *options, "--out", tmp_path, "--no-explain", "--no-stability")
    (page,) = tmp_path.glob("*.html")
    before = page.with_suffix(".json").read_bytes()
    assert run("predict", PORTRAIT, *options, "--evidence", tmp_path).exit_code == 0
    assert page.with_suffix(".json").read_bytes() == before and len(cases_in(tmp_path)) == 2


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_scored(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for option in ("--evidence", "--save"):
        done = run("predict", PORTRAIT, "--model", bundle, option, tmp_path / "file" / "cases")
        assert done.exit_code == 2 and "choose another folder" in done.stderr and done.stdout == ""


def test_a_picture_that_cannot_be_scored_leaves_no_case(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    assert run("predict", tmp_path / "bad.jpg", "--model", bundle, "--evidence", tmp_path / "cases").exit_code == 1
    assert not (tmp_path / "cases").exists()


def test_a_picture_that_changes_before_its_case_is_written_is_an_error(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PORTRAIT.read_bytes())
    save_case = render.save_case

    def change_first(prediction: Any, folder: Path) -> Path:
        photo.write_bytes(PORTRAIT.read_bytes() + b"x")
        return save_case(prediction, folder)

    monkeypatch.setattr(render, "save_case", change_first)
    done = run("predict", photo, "--model", bundle, "--evidence", tmp_path / "cases", "--jsonl")
    assert done.exit_code == 1 and "is not the file that was scored" in done.stderr
    assert json.loads(done.stdout)["error"]["type"] == "ImageUnreadable" and not (tmp_path / "cases").exists()


def test_evidence_is_written_for_pictures_that_a_file_of_results_holds_already(bundle: str, tmp_path: Path) -> None:
    command = ("predict", PORTRAIT, "--model", bundle, "--out", tmp_path / "results.jsonl")
    assert run(*command).exit_code == 0
    for _ in range(2):
        assert run(*command, "--evidence", tmp_path / "cases").exit_code == 0
        assert len(cases_in(tmp_path / "cases")) == 1


def test_standard_input_may_hold_the_picture_or_the_case(bundle: str, case: Path) -> None:
    options = ("--model", bundle)
    assert run("verify", case, "-", *options, stdin=PORTRAIT.read_bytes()).exit_code == 0
    assert run("verify", "-", PORTRAIT, *options, stdin=case.read_bytes()).exit_code == 0
    both = run("verify", "-", "-", *options, stdin=b"")
    assert both.exit_code == 2 and "cannot both" in both.stderr


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("case", "missing.json", "No such file"),
        ("case", ".", "is a folder"),
        ("case", "text.json", "schema None"),
        ("photo", "missing.jpg", "no such file"),
        ("photo", ".", "a folder, expected a picture"),
        ("photo", "*.jpg", "no such file"),
        ("model", "missing", "pass model="),
        ("model", ".", ""),
        ("tolerance", "2", ""),
        ("tolerance", "nan", "tolerance is nan"),
        ("tolerance", "x", ""),
    ],
)
def test_what_cannot_be_checked_has_a_status_of_its_own(
    place: str, value: str, reason: str, case: Path, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text("{}")
    given = {"case": str(case), "photo": str(PORTRAIT), "model": bundle, "tolerance": "0.01", place: value}
    done = run("verify", given["case"], given["photo"], "--model", given["model"], "--tolerance", given["tolerance"])
    assert done.exit_code == 2 and reason in done.stderr and done.stdout == ""
    assert isinstance(done.exception, SystemExit)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_pipes_are_refused_by_name(bundle: str, case: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    photo = run("verify", case, tmp_path / "pipe", "--model", bundle)
    assert photo.exit_code == 2 and "COMMAND | deepfake-detect verify CASE.json -" in photo.stderr
    metadata = run("metadata", tmp_path / "pipe")
    assert "COMMAND | deepfake-detect metadata -" in metadata.stderr
    assert run("verify", tmp_path / "pipe", PORTRAIT, "--model", bundle).exit_code == 2


def test_an_edited_case_is_not_confirmed(bundle: str, case: Path, tmp_path: Path) -> None:
    record = json.loads(case.read_text("utf-8"))
    record["verdict"]["faces"][0]["score"] = 0.01
    record["verdict"]["label"] = "real\nThe verdict stands."
    (tmp_path / "case.json").write_text(json.dumps({**record, "sha256": fingerprint_case(record)}))
    done = run("verify", tmp_path / "case.json", PORTRAIT, "--model", bundle)
    assert done.exit_code == 1 and done.stdout.splitlines()[-1] == "The verdict is not confirmed."
    assert "The verdict stands." not in done.stdout.splitlines()


def test_names_are_printed_so_that_they_cannot_pass_for_other_lines(bundle: str, tmp_path: Path) -> None:
    name = tmp_path / "a\nreal       0.001  b\u202egpj.jpg"
    name.write_bytes(PORTRAIT.read_bytes())
    bad = tmp_path / "bad\n\x1b[31m.jpg"
    bad.write_bytes(b"no picture")
    for command in ("predict", "metadata", "faces", "classify"):
        done = run(command, name, bad, *(("--model", bundle) if command == "predict" else ()))
        for line in (done.stdout + done.stderr).splitlines():
            assert line.isprintable() and not line.startswith("real       0.001"), command
        assert "\\nreal" in done.stdout and "\\u202e" in done.stdout
