"""Test the commands that train, evaluate, calibrate and search: their output and their exit status."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from deepfake_detect import Detector
from deepfake_detect.cli.main import main
from deepfake_detect.cli.render import training_summary
from tests.inputs.test_frames import write_video
from tests.small_world import PORTRAIT, small_bundle
from tests.training.test_pipeline import write_portraits


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with labelled faces and a bundle."""
    folder = tmp_path_factory.mktemp("world")
    write_portraits(folder / "faces", count=12)
    small_bundle(folder / "bundle")
    return folder


@pytest.fixture(autouse=True)
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("DEEPFAKE_DETECT_CACHE", str(world / "cache"))
    torch.set_num_threads(1)


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, (result.output, result.exception)
    return result


def asked(*arguments: object, status: int = 0, **_: Any) -> Any:
    return json.loads(run(*arguments, "--json", status=status).stdout)


def test_train_then_resume_then_fine_tune() -> None:
    options = ("--epochs", 1, "--batch-size", 8, "--no-audit", "--device", "cpu")
    begun = run("train", "faces", "--arch", "cnn-simple", "--size-px", 48, "--out", "mine", *options)
    assert begun.stdout.startswith("mine@0: 1 epoch, validation AUC 0.")
    assert "24 faces" in begun.stderr or "faces, no face in" in begun.stderr
    again = run("train", "faces", "--arch", "cnn-simple", "--size-px", 48, "--out", "mine", *options, status=2)
    assert "pass resume=True" in again.stderr
    run("train", "faces", "--arch", "cnn-simple", "--size-px", 48, "--out", "mine", "--resume", *options)
    tuned = run("fine-tune", "faces", "--model", "mine", "--freeze", "backbone", "--out", "tuned", *options)
    assert tuned.stdout.startswith("tuned@0: 1 epoch, ")
    assert Detector.from_pretrained("tuned", device="cpu").card.architecture == "cnn-simple"


def test_a_classifier_is_trained_retrained_measured_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, colour in (("cat", "red"), ("dog", "blue"), ("hen", "green")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 30 + number), colour).save(tmp_path / "pets" / name / f"{number}.png")
    options = ("--epochs", 1, "--batch-size", 4, "--no-audit", "--device", "cpu")
    begun = run(
        "train", tmp_path / "pets", "--classes", "--arch", "cnn-simple", "--size-px", 32, "--out=~/one", *options
    )
    assert begun.stdout.startswith("one@0: 1 epoch") and (tmp_path / "home" / "one" / "card.json").exists()
    run("fine-tune", tmp_path / "pets", "--model", "~/one", "--out", tmp_path / "two", *options)
    row = asked("classify", tmp_path / "pets" / "cat" / "0.png", "--model", tmp_path / "two")[0]
    assert sorted(row["scores"]) == ["cat", "dog", "hen"] and row["model"] == "two@0"
    report = asked("evaluate", tmp_path / "pets", "--model", tmp_path / "two", "--save=~/report")
    assert (report["n"], sorted(report["confusion"])) == (12, ["cat", "dog", "hen"])
    assert (tmp_path / "home" / "report" / "scores.csv").exists()
    refused = run("evaluate", tmp_path / "pets", "--model", tmp_path / "two", "--robustness", status=2)
    assert "for detectors" in refused.stderr
    refused = run(
        "train", tmp_path / "pets", "--classes", "--faces", "all", "--out", tmp_path / "no", *options, status=2
    )
    assert "whole pictures" in refused.stderr


def test_a_folder_of_videos_with_a_table_becomes_a_training_set(world: Path) -> None:
    (world / "clips").mkdir()
    write_video(world / "clips" / "a.avi")
    (world / "clips" / "labels.csv").write_text("file,label\na.avi,fake\n")
    result = run("train", "clips", "--arch", "cnn-simple", "--no-audit", "--out", "none", status=1)
    assert "found 0 real and 0 fake pictures with a face" in result.stderr
    assert "no face in 1" in result.stderr  # the frames were looked at: there is nobody in them


def test_a_strict_audit_refuses_to_train() -> None:
    result = run("train", "faces", "--arch", "cnn-simple", "--strict", "--out", "none", status=1)
    assert "strict refuses them" in result.stderr


def test_evaluate_prints_and_keeps() -> None:
    result = run("evaluate", "faces", "--model", "bundle", "--device", "cpu", "--save", "report")
    assert "24 pictures, 12 real and 12 fake" in result.stdout
    assert Path("report/report.html").exists()
    assert asked("evaluate", "faces", "--model", "bundle", "--device", "cpu", "--threshold", 0.9)["threshold"] == 0.9
    assert (
        "the data names no split" in run("evaluate", "faces", "--model", "bundle", "--split", "test", status=1).stderr
    )


def test_a_picture_that_cannot_be_read_shows_in_the_status(world: Path) -> None:
    (world / "table.csv").write_text(
        "file,label\nfaces/real/00.png,real\nfaces/fake/00.png,fake\nbundle/card.json,real\n"
    )
    assert asked("evaluate", "table.csv", "--model", "bundle", "--device", "cpu", status=1)["unreadable"] == 1


def test_audit_prints_keeps_and_judges(world: Path) -> None:
    result = run("audit", "faces", "--save", "audit.html")
    assert result.stdout.startswith("24 pictures: 12 real, 12 fake")
    assert Path("audit.html").exists()
    assert asked("audit", "faces")["n"] == 24
    (world / "both.csv").write_text("file,label\nfaces/real/00.png,real\nfaces/real/00.png,fake\n")
    result = run("audit", "both.csv", "--strict", status=1)
    assert "ERROR" in result.stdout and "duplicates" in result.stdout
    run("audit", "both.csv")


def test_calibrate_says_what_it_promises(world: Path) -> None:
    (world / "reals").mkdir(exist_ok=True)
    head = Image.open(PORTRAIT).crop((100, 0, 412, 312)).resize((112, 112))
    for number in range(12):
        head.rotate(number).save(world / "reals" / f"{number}.png")
    result = run(
        "calibrate", "reals", "--model", "bundle", "--device", "cpu", "--max-false-alarm", 0.2, "--out", "sure"
    )
    assert "at most 20" in result.stdout and "threshold" in result.stdout
    assert Detector.from_pretrained("sure", device="cpu").calibration["method"] == "conformal"
    few = run("calibrate", "reals", "--model", "bundle", "--device", "cpu", "--out", "sure", status=1)
    assert "12 real photographs allow" in few.stderr
    fitted = asked(
        "calibrate", "faces", "--model", "bundle", "--method", "temperature", "--device", "cpu", "--out", "warm"
    )
    assert fitted["method"] == "temperature"


def test_tune_ranks_and_keeps_the_best() -> None:
    options = ("--arch", "cnn-simple", "--trials", 1, "--epochs", 1, "--out", "search", "--device", "cpu")
    (trial,) = asked("tune", "faces", *options)
    assert trial["params"]["model"] == "cnn-simple" and Path("search/best/card.json").exists()
    assert "1 epochs" in run("tune", "faces", *options).stdout


def test_tune_searches_what_is_named() -> None:
    options = ("--arch", "cnn-simple", "--trials", 2, "--epochs", 1, "--out", "named", "--device", "cpu")
    named = ("--optimizer", "sgd", "--lr", "0.01..0.02", "--width", 8, "--dropout", 0.25, "--augment", "none")
    trials = asked("tune", "faces", *options, *named, "--size-px", 40, "--size-px", 48)
    assert len(trials) == 2
    for trial in trials:
        params = trial["params"]
        assert (params["optimizer"], params["hidden"], params["dropout"], params["augment"]) == ("sgd", 8, 0.25, "none")
        assert 0.01 <= params["lr"] <= 0.02 and params["size_px"] in (40, 48)
        card = json.loads((Path(trial["folder"]) / "card.json").read_text())
        assert card["preprocessing"]["size_px"] == params["size_px"]
    for wrong in (("--lr", "fast"), ("--lr", "1..x"), ("--lr", "0.1..0.2", "--lr", 0.3), ("--optimizer", "adagrad")):
        assert "--" in run("tune", "faces", *options, *wrong, status=2).stderr


def test_the_epoch_that_was_kept_is_named() -> None:
    def epoch(number: int, auc: float, loss: float) -> Any:
        return SimpleNamespace(epoch=number, valid_auc=auc, merit=(0.0 if math.isnan(auc) else auc, -loss))

    def line(*epochs: Any) -> str:
        return training_summary(SimpleNamespace(history=epochs, card=SimpleNamespace(id="mine@0")), Path("mine"))

    assert line(epoch(1, 0.9, 0.5), epoch(2, 0.9, 0.4)) == (
        "mine@0: 2 epochs, validation AUC 0.900 in epoch 2, which was kept; saved in mine"
    )
    assert line(epoch(1, math.nan, 0.5)) == "mine@0: 1 epoch; saved in mine"
    assert line() == "mine@0: 0 epochs; saved in mine"


def test_stability_shows_the_interval(world: Path) -> None:
    row, bad = asked("stability", PORTRAIT, world / "bundle" / "card.json", "--model", "bundle", status=1)
    assert row["interval"][0] <= row["score"] <= row["interval"][1]
    assert bad["error"]["type"] == "ImageUnreadable"
    assert "[" in run("stability", PORTRAIT, "--model", "bundle", "--save", "kept").stdout
    assert Path("kept/portrait.png").exists()
    header, line = run("stability", PORTRAIT, "--model", "bundle", "--csv").stdout.splitlines()
    assert header.startswith("name,label,score,low,high,flips") and line.startswith(str(PORTRAIT))


def test_wrong_data_is_told_by_name() -> None:
    assert "no data set at nowhere" in run("audit", "nowhere", status=1).stderr
    assert "expected real/ and fake/" in run("audit", "faces/real", status=1).stderr
