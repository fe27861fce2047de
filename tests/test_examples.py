"""Test that the scripts in examples/ do what they say, in an empty folder and without a network."""

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)

    def run(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out

    return run


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, np.float32)


def test_make_fake_makes_the_fake_of_this_folder(run: Callable[..., str], tmp_path: Path) -> None:
    run("examples/make_fake.py", "examples/portrait.jpg", "fake.jpg")
    made, kept, real = map(pixels, (tmp_path / "fake.jpg", EXAMPLES / "portrait_fake.jpg", EXAMPLES / "portrait.jpg"))
    assert np.abs(made - kept).mean() < 0.2
    assert np.abs(made - real)[80:170, 185:265].mean() > 3  # the face is another
    assert np.abs(made - real)[260:].mean() < 1  # the suit is not


def test_predict_folder_tells_real_from_fake_and_goes_on_after_errors(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "examples" / "damaged.jpg").write_bytes(b"no picture")
    lines = run("examples/predict_folder.py", "examples", "drawn").splitlines()
    assert [line.split()[0] for line in lines] == ["error", "real", "fake"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["portrait.png", "portrait_fake.png"]
    assert pixels(tmp_path / "drawn" / "portrait_fake.png").shape == (512, 512, 3)


def test_share_weights_gives_the_same_logit(run: Callable[..., str], tmp_path: Path) -> None:
    assert "before" in run("examples/share_weights.py", "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} >= {"card.json", "model.safetensors"}


def test_fine_tune_keeps_a_detector_that_loads(run: Callable[..., str], tmp_path: Path) -> None:
    lines = run("examples/fine_tune.py").splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["epoch  1", "epoch  6", "epoch 11", "epoch 16"]
    assert lines[-1].startswith("meso4-fakefaces-tuned@0: kept in mine/")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"card.json", "history.csv", "model.safetensors"}
