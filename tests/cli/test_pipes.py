"""Test that a named pipe that nobody writes to is refused by name, wherever a path is taken, and never waited for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deepfake_detect import DeepfakeDetectError, Detector, audit
from deepfake_detect.cli.main import main
from deepfake_detect.cli.paths import open_stdin
from deepfake_detect.datasets.read import read_dataset
from deepfake_detect.evaluation.verification import verify
from tests.small_world import PORTRAIT, small_bundle

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[Path]:
    """Give a folder of named pipes, one for each ending; what waits for one of them is ended after a minute."""

    def too_long(*_: Any) -> None:
        raise TimeoutError("waited for a pipe that nobody writes to")

    for name in ("pipe", "a.jpg", "a.csv", "a.json", "a.mp4", "a.safetensors", "a.onnx"):
        os.mkfifo(tmp_path / name)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("predict {0}/pipe", 1),
        ("predict {0}/a.jpg {1} --jsonl", 1),
        ("predict {0}", 1),
        ("predict {0}/a.jpg --out {0}/scores.csv", 1),
        ("predict {1} --model {0}/pipe", 1),
        ("predict {1} --model {0}/a.onnx", 1),
        ("video {0}/a.mp4", 1),
        ("explain {0}/pipe", 1),
        ("stability {0}/pipe", 1),
        ("faces {0}/pipe", 1),
        ("classify {0}/pipe", 1),
        ("metadata {0}/pipe", 1),
        ("sheet {0}/pipe --out {0}/sheet.jpg", 1),
        ("verify {0}/a.json {1}", 2),
        ("audit {0}/pipe", 1),
        ("audit {0}/a.csv", 1),
        ("evaluate {0}/a.csv", 1),
        ("calibrate {0}/a.csv --out {0}/out", 1),
        ("train {0}/a.csv --out {0}/out", 1),
        ("train {0}/pipe --classes --out {0}/out", 1),
    ],
)
def test_a_pipe_on_the_command_line_is_an_error_that_names_it(pipes: Path, arguments: str, status: int) -> None:
    model = [] if "--model" in arguments or arguments.split()[0] in _WITHOUT_MODEL else ["--model", "meso4-fakefaces"]
    words = [word.format(pipes, PORTRAIT) for word in arguments.split()]
    result = CliRunner().invoke(main, [*words, *model])
    assert result.exit_code == status, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert str(pipes) in result.stderr and "Traceback" not in result.stderr
    if words[0] == "predict" and words[1].endswith("pipe"):  # as bash makes of <(COMMAND)
        assert "| deepfake-detect predict -" in result.stderr


_WITHOUT_MODEL = ("faces", "classify", "metadata", "verify", "audit", "train")


def test_a_pipe_among_the_pictures_of_a_data_set_is_an_unreadable_picture(pipes: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.png")
    pictures = [(PORTRAIT, "real"), (tmp_path / "never.png", "fake")]
    assert any(finding.code == "unreadable" for finding in audit(pictures, faces=False).findings)
    report = Detector.from_pretrained("meso4-fakefaces").evaluate(pictures)
    assert "a named pipe" in report.unreadable[0][1] if isinstance(report.unreadable, tuple) else report.unreadable == 1


def test_the_library_refuses_pipes(pipes: Path) -> None:
    detector = Detector.from_pretrained(small_bundle(pipes / "bundle"), device="cpu")
    for call in (
        lambda: detector.predict(pipes / "pipe"),
        lambda: detector.predict_video(pipes / "a.mp4"),
        lambda: read_dataset(pipes / "a.json"),
        lambda: verify(pipes / "a.json", PORTRAIT),
        lambda: Detector.from_pretrained(pipes / "a.onnx"),
        lambda: Detector.train([(PORTRAIT, "real"), (PORTRAIT, "fake")], start=pipes / "a.safetensors", device="cpu"),
    ):
        with pytest.raises((DeepfakeDetectError, FileNotFoundError)):
            call()


def test_a_closed_standard_input_is_an_empty_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert list(open_stdin(["a.jpg", "-"])) == ["a.jpg", b""]
