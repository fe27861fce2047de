"""Test that lines reach every stream, whatever its encoding is, and that a missing stream stops nothing."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import deepfake_detect
from deepfake_detect.cli import console
from deepfake_detect.cli.main import main
from deepfake_detect.errors import DatasetError, InvalidOption
from tests.small_world import PORTRAIT

ROOT = Path(deepfake_detect.__file__).parents[1]
NAMES = ["中文.jpg", "naïve.jpg", "\N{GRINNING FACE}.jpg"]


def run(*arguments: str, code: str = "pass", **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = f"import sys; sys.path.append({str(ROOT)!r}); {code}; from deepfake_detect.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, env=environment, timeout=120
    )


@pytest.mark.parametrize(("encoding", "kept"), [("cp1252", "naïve"), ("ascii", ""), ("utf-8", "中文")])
def test_json_stays_json_where_the_stream_knows_fewer_letters(encoding: str, kept: str) -> None:
    done = run("predict", "--json", *NAMES, "--model", "meso4-fakefaces", PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert [row["name"] for row in json.loads(done.stdout.decode(encoding))] == NAMES
    assert kept in done.stdout.decode(encoding)
    assert "u4e2d" in done.stderr.decode(encoding) or encoding == "utf-8"


def test_lines_for_people_are_escaped_too() -> None:
    done = run("faces", *NAMES, PYTHONIOENCODING="cp1252")
    assert [line.split()[-1] for line in done.stdout.decode("cp1252").splitlines()] == [
        *("\\u4e2d\\u6587.jpg", "naïve.jpg", "\\ud83d\\ude00.jpg"),
    ]


@pytest.mark.parametrize("streams", ["sys.stderr = None", "sys.stderr = sys.stdout = None"])
def test_a_program_without_a_console_scores_all_the_same(streams: str, tmp_path: Path) -> None:
    picture = str(PORTRAIT)
    arguments = ("predict", picture, "missing.jpg", "--model", "meso4-fakefaces", "--save", str(tmp_path))
    assert run(*arguments, code=streams).returncode == 1
    assert (tmp_path / "portrait.json").exists()
    done = run("audit", str(tmp_path), code=streams)
    assert (done.returncode, done.stderr) == (1, b"")


def test_no_colour_where_the_environment_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = ["faces", "missing.jpg"], ["predict", "missing.jpg", "--model", "meso4-fakefaces"]
    assert "\x1b[35merror" in CliRunner().invoke(main, arguments[1], color=True).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in CliRunner().invoke(main, arguments[1], color=True).stdout


def test_plurals() -> None:
    assert [console.plural(number, "face") for number in (0, 1, 2)] == ["0 faces", "1 face", "2 faces"]


def test_progress_without_a_terminal_is_a_line_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 100, 4))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    assert list(console.with_bar(range(5), total=9, initial=4, lines_on_stdout=False)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == "7 of 9, 0.2 per second, 8 s left\n"
    assert list(console.with_bar(range(5), total=5)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [ValueError("lr is -1"), InvalidOption("lr is -1")])
def test_a_wrong_option_is_wrong_usage(error: Exception) -> None:
    with pytest.raises(console.click.UsageError, match="lr is -1"), console.log_on_stderr():
        raise error


def test_an_error_of_the_data_stays_what_it_is_and_the_log_is_left_as_it_was() -> None:
    log = logging.getLogger("deepfake_detect")
    before = (log.level, list(log.handlers))
    with pytest.raises(DatasetError), console.log_on_stderr():
        raise DatasetError("no data")
    assert (log.level, list(log.handlers)) == before


def test_a_stream_without_an_encoding_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    stream: Any = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    console.write_line("中文")
    assert stream.getvalue() == "中文\n"
