"""Test that a search finds the best settings, resumes, and keeps the best detector."""

from __future__ import annotations

import csv
import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from deepfake_detect import Detector
from deepfake_detect.errors import DatasetError, InvalidOption, MissingExtra, TrainingDiverged
from deepfake_detect.training.schedule import Epoch
from deepfake_detect.training.search import Trial, ablation, tune

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:optuna")

search_module = importlib.import_module("deepfake_detect.training.search")  # the package's own `tune` is the function


class FakeTraining:
    """Stands for a training: its AUC is known from the settings."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, model: torch.nn.Module, *, card: Any, callbacks: Any, out: Path, **options: Any) -> None:
        self.calls.append({"architecture": card.architecture, **options})
        if options.get("lr") == 1.0:
            raise TrainingDiverged("the loss is nan")
        out.mkdir(parents=True, exist_ok=True)
        (out / "card.json").write_text(card.architecture)
        auc = 0.9 - abs(math.log10(options.get("lr", 1e-3)) + 3) / 10
        for number in range(1, options["epochs"] + 1):
            epoch = Epoch(epoch=number, loss=0.5, valid_loss=0.5, valid_auc=auc - 0.1 / number, valid_accuracy=0.5,
                          collapsed="", rate=1e-3, batch_size=8, samples_per_s=1.0, seconds=0.1)  # fmt: skip
            for callback in callbacks:
                callback(epoch)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    stand_in = FakeTraining()
    monkeypatch.setattr(search_module, "train_model", stand_in)
    monkeypatch.setattr(search_module, "check_data", lambda *_: None)
    return stand_in


DATA = [(f"{number}.jpg", number % 2) for number in range(40)]
GRID = {"lr": [1e-5, 1e-4, 1e-3, 1e-2], "optimizer": ["adam", "sgd"]}


def test_a_grid_tries_every_combination_and_ranks_them(training: FakeTraining, tmp_path: Path) -> None:
    trials = tune(DATA, space=GRID, sampler="grid", trials=100, epochs=2, prune=False, out=tmp_path)
    assert len(trials) == 8
    assert {(t.params["lr"], t.params["optimizer"]) for t in trials} == {
        (r, o) for r in GRID["lr"] for o in GRID["optimizer"]
    }
    assert [t.auc for t in trials] == sorted((t.auc for t in trials), reverse=True)
    assert trials[0].params["lr"] == 1e-3 and trials[0].auc == pytest.approx(0.85)
    assert trials[0].state == "complete" and len(trials[0].history) == 2
    assert "0.850" in str(trials[0]) and "lr 0.001" in str(trials[0])
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert len(rows) == 8 and rows[0]["lr"] == "0.001"
    assert json.loads((tmp_path / "trials.json").read_text())[0]["params"]["lr"] == 1e-3
    assert (tmp_path / "best" / "card.json").read_text() == "meso4"
    assert (tmp_path / "ablation.png").stat().st_size > 5000


def test_settings_reach_the_model_and_the_training(training: FakeTraining) -> None:
    space = {"hidden": [32], "dropout": [0.1], "mixup": [0.3], "freeze": [None]}
    tune(DATA, model="cnn4", space=space, trials=1, epochs=1, seed=4, patience=2)
    (call,) = training.calls
    assert call["architecture"] == "cnn4/32"
    assert (call["mixup"], call["freeze"], call["seed"], call["patience"], call["check"]) == (0.3, None, 4, 2, "off")
    assert "dropout" not in call and "hidden" not in call
    assert {s.split for s in call["dataset"]} == {"train"} and {s.split for s in call["valid"]} == {"val"}


def test_all_trials_share_one_split(training: FakeTraining) -> None:
    tune(DATA, space={"lr": (1e-4, 1e-2)}, trials=3, epochs=1)
    assert all(call["dataset"] == training.calls[0]["dataset"] for call in training.calls)
    assert len({call["lr"] for call in training.calls}) == 3


def test_a_search_goes_on_where_it_was_stopped(training: FakeTraining, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        if len(training.calls) == 3 and epoch.epoch == 2:
            raise Stop

    options: dict[str, Any] = {
        "space": GRID,
        "sampler": "grid",
        "trials": 8,
        "epochs": 2,
        "prune": False,
        "out": tmp_path,
    }
    with pytest.raises(Stop):
        tune(DATA, callbacks=[stop], **options)
    trials = tune(DATA, **options)
    assert len(training.calls) == 9  # the third one again
    finished = [t for t in trials if t.state == "complete"]
    assert len({(t.params["lr"], t.params["optimizer"]) for t in finished}) == 8
    assert tune(DATA, **options)[0].auc == trials[0].auc
    assert len(training.calls) == 9
    with pytest.raises(DatasetError, match="holds a search of the space"):
        tune(DATA, **{**options, "space": {"lr": [1e-3]}})


def test_what_falls_behind_is_given_up(training: FakeTraining) -> None:
    space = {"lr": [1e-3, 9e-4, 1.1e-3, 1e-9]}  # the last one is far behind
    trials = tune(DATA, space=space, trials=30, epochs=4, sampler="random")
    behind = [t for t in trials if t.params["lr"] == 1e-9]
    assert any(t.state == "pruned" and len(t.history) == 2 for t in behind)
    best = [t for t in trials if t.params["lr"] == 1e-3]
    assert best and all(t.state == "complete" and len(t.history) == 4 for t in best)
    kept = tune(DATA, space=space, trials=30, epochs=4, sampler="random", prune=False)
    assert {t.state for t in kept} == {"complete"}


def test_a_divergence_is_a_trial_like_others(training: FakeTraining) -> None:
    trials = tune(DATA, space={"lr": [1.0, 1e-3]}, sampler="grid", trials=9, epochs=1)
    assert [t.params["lr"] for t in trials if t.state == "complete"] == [1e-3]


def test_wrong_searches_are_refused(training: FakeTraining) -> None:
    with pytest.raises(ValueError, match="a grid takes lists, but lr has a range"):
        tune(DATA, space={"lr": (1e-4, 1e-2)}, sampler="grid")
    with pytest.raises(InvalidOption, match="expected 'tpe', 'random' or 'grid'"):
        tune(DATA, sampler="bayes")  # type: ignore[arg-type]


def test_without_optuna_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[tune\]'"):
        tune(DATA)


def test_ablation_draws_none_as_a_word() -> None:
    trials = [
        Trial(number=n, params={"freeze": value, "lr": 0.1}, auc=auc, state="complete", collapsed=False, history=(),
              seconds=1.0, folder=None)
        for n, (value, auc) in enumerate([(None, 0.7), (1, 0.8), (None, math.nan)])
    ]  # fmt: skip
    assert ablation(trials).width > 100


def test_a_real_search_leaves_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.training.test_pipeline import SMALL, write_portraits

    monkeypatch.setenv("DEEPFAKE_DETECT_CACHE", str(tmp_path / "faces"))
    folder = write_portraits(tmp_path / "data", count=12)
    options = {name: value for name, value in SMALL.items() if name != "epochs"}
    trials = tune(folder, model=["cnn-simple", "cnn4"], space={"lr": [3e-3]}, sampler="grid", trials=2, epochs=1,
                  out=tmp_path / "search", **options)  # fmt: skip
    assert {t.params["model"] for t in trials} == {"cnn-simple", "cnn4"}
    best = Detector.from_pretrained(tmp_path / "search" / "best", device="cpu")
    assert best.card.architecture == trials[0].params["model"]
