"""Pictures so easy that a network learns them in seconds, without a face finder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from deepfake_detect.datasets.face_cache import Surroundings
from deepfake_detect.datasets.read import Sample
from deepfake_detect.models.registry import create_model
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.loop import fit
from deepfake_detect.training.schedule import Epoch, Schedule
from deepfake_detect.weights.card import Card, Preprocessing

PREPROCESSING = Preprocessing(size_px=32)
CARD = Card(name="toy", version=0, architecture="cnn-simple", preprocessing=PREPROCESSING)
STAGES = {"staged": 1, "head": "backbone"}
"""What two processes freeze, by the name of the training."""
SCHEDULE = Schedule(epochs=3, epoch_samples=64, batch_size=16, lr=3e-3, ema=0.5)


class ToyStore:
    """Faces without a face finder: the whole picture is the face."""

    def load(self, file: Path) -> Surroundings:
        pixels = np.asarray(Image.open(file))
        side = float(len(pixels))
        return Surroundings(pixels=pixels, box_xyxy=(0, 0, side, side), landmarks_xy=np.zeros((5, 2)))


def toy_crops(folder: Path, *, count: int = 24, noise: float = 25, write: bool = True) -> CropDataset:
    """Write pictures that are darker at the bottom where real, at the top where fake."""
    random, samples = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        file = folder / f"{index}.png"
        ramp = np.linspace(200, 60, 32)[:: 1 if index % 2 == 0 else -1, None, None]
        pixels = np.clip(ramp + random.normal(0, noise, (32, 32, 3)), 0, 255).astype(np.uint8)
        if write:
            Image.fromarray(pixels).save(file)
        samples.append(Sample(image=file, label=index % 2, source="toy"))
    return CropDataset(samples, ToyStore(), preprocessing=PREPROCESSING)  # type: ignore[arg-type]


def learn(toy: CropDataset, out: Path, *, architecture: str = "cnn-simple", **options: Any) -> torch.nn.Module:
    """Train a fresh model; what is a field of Schedule changes that, the rest goes to fit."""
    fields = {name: options.pop(name) for name in list(options) if hasattr(SCHEDULE, name)}
    model = create_model(architecture, seed=0, dropout=options.pop("dropout", 0.2))
    model.history = trained(model, toy, out, replace(SCHEDULE, **fields), architecture, **options)  # type: ignore[assignment]
    return model


def trained(
    model: torch.nn.Module, toy: CropDataset, out: Path, schedule: Schedule, architecture: str, **options: Any
) -> list[Epoch]:
    card = replace(CARD, architecture=architecture)
    options = {"valid": toy, "device": "cpu", **options}
    return fit(model, toy, card=card, schedule=schedule, out=out, **options)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Say whether two models have the same weights, to the bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
