"""Does a model learn, stop and go on as if it had never stopped?"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepfake_detect.card import Card, Preprocessing
from deepfake_detect.crops import CropDataset
from deepfake_detect.data import Sample
from deepfake_detect.errors import TrainingDiverged, WeightsMismatch
from deepfake_detect.facestore import Surroundings
from deepfake_detect.models import create_model
from deepfake_detect.train import STATE, Schedule, _draw, fit
from deepfake_detect.weights import load_model

PREPROCESSING = Preprocessing(size_px=32)
CARD = Card(name="toy", version=0, architecture="cnn-simple", preprocessing=PREPROCESSING)
SCHEDULE = Schedule(epochs=3, epoch_samples=64, batch_size=16, lr=3e-3, ema=0.5, bfloat16=False)


class ToyStore:
    """Faces without a face finder: the whole picture is the face."""

    def load(self, file: Path) -> Surroundings:
        pixels = np.asarray(Image.open(file))
        side = float(len(pixels))
        return Surroundings(pixels=pixels, box_xyxy=(0, 0, side, side), landmarks_xy=np.zeros((5, 2)))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> CropDataset:
    """Real pictures are darker at the bottom, fake ones at the top."""
    folder, random = tmp_path_factory.mktemp("toy"), np.random.default_rng(0)
    samples = []
    for index in range(24):
        ramp = np.linspace(200, 60, 32)[:: 1 if index % 2 == 0 else -1, None, None]
        pixels = np.clip(ramp + random.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        samples.append(Sample(image=folder / f"{index}.png", label=index % 2, source="toy"))
    return CropDataset(samples, ToyStore(), preprocessing=PREPROCESSING)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def learn(toy: CropDataset, out: Path, **changes: object) -> torch.nn.Module:
    model = create_model("cnn-simple", seed=0, dropout=0.2)
    fit(model, toy, valid=toy, card=CARD, schedule=replace(SCHEDULE, **changes), out=out, workers=0)  # type: ignore[arg-type]
    return model


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns(toy: CropDataset, tmp_path: Path) -> None:
    model = create_model("cnn-simple", seed=0)
    history = fit(model, toy, valid=toy, card=CARD, schedule=replace(SCHEDULE, epochs=5), out=tmp_path, workers=0)
    assert history[-1].valid_auc > 0.95
    assert history[-1].loss < 0.75 * history[0].loss
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4, 5]
    assert (tmp_path / "history.csv").read_text().count("\n") == 6


def test_same_seed_same_weights_and_another_seed_other_weights(toy: CropDataset, tmp_path: Path) -> None:
    first = learn(toy, tmp_path / "a", epochs=1)
    assert same(first, learn(toy, tmp_path / "b", epochs=1))
    assert not same(first, learn(toy, tmp_path / "c", epochs=1, seed=1))
    assert _draw(toy, SCHEDULE, 0) != _draw(toy, replace(SCHEDULE, seed=1), 0) != _draw(toy, SCHEDULE, 1)


class PowerCut(Exception):
    """The machine goes off."""


def test_interrupted_run_ends_with_the_same_weights(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    whole = learn(toy, tmp_path / "whole")
    torch.manual_seed(2)
    calls = []

    def cut(*args: object, **kwargs: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise PowerCut

    monkeypatch.setattr("deepfake_detect.train._write_history", cut)
    with pytest.raises(PowerCut):
        learn(toy, tmp_path / "parts")
    monkeypatch.undo()
    assert same(whole, learn(toy, tmp_path / "parts"))


def test_bundle_of_each_epoch_loads(toy: CropDataset, tmp_path: Path) -> None:
    model = learn(toy, tmp_path, epochs=1)
    assert same(model.eval(), load_model(tmp_path))
    assert not list(tmp_path.glob("*.partial"))


def test_state_of_another_model_is_refused(toy: CropDataset, tmp_path: Path) -> None:
    learn(toy, tmp_path / "a", epochs=1)
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / STATE, tmp_path / "b" / STATE)
    with pytest.raises(WeightsMismatch, match="another model"):
        fit(create_model("meso4", seed=0), toy, card=CARD, schedule=SCHEDULE, out=tmp_path / "b", workers=0)


def test_divergence_is_named(toy: CropDataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="use a lower rate"):
        learn(toy, tmp_path, lr=1e30)
