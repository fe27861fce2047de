"""Test ``predict --evidence`` and ``verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deepfake_detect.cli.main import main
from tests.small_world import PORTRAIT, small_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return str(small_bundle(tmp_path / "bundle"))


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


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
    assert [check["name"] for check in json.loads(differs.stdout)["checks"] if check["ok"] is False] == [
        "file",
        "metadata",
    ]


def test_a_picture_that_cannot_be_scored_leaves_no_case(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    assert run("predict", tmp_path / "bad.jpg", "--model", bundle, "--evidence", tmp_path / "cases").exit_code == 1
    assert not (tmp_path / "cases").exists()


def test_what_is_no_case_is_said(tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text("{}")
    done = run("verify", tmp_path / "case.json", PORTRAIT)
    assert done.exit_code == 1 and "schema None" in done.stderr
