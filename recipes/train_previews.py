"""Train a preview detector on every source, from the table that lists them.

Usage:
    python -m recipes.train_previews xception-fakefaces --data DATA --trunk TRUNK.safetensors --out RUN1
    python -m recipes.train_previews xception-fakefaces --data DATA --stage 2 --start RUN1 --out RUN2
    python -m recipes.train_previews meso4-fakefaces --data DATA --out RUN1
    python -m recipes.train_previews meso4-fakefaces --data DATA --stage 2 --start RUN1 --out RUN2
    python -m recipes.train_previews meso4-fakefaces --data DATA --stage 3 --start RUN2 --out RUN3

A later stage goes on from the one before with milder augmentation, and more of the sources that are
hardest to learn. A checkpoint is written after every epoch; run the same command
again to go on.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch

from deepfake_detect.augment import Augmentation
from deepfake_detect.card import Card, Preprocessing
from deepfake_detect.crops import CropDataset, find_crops, self_blended
from deepfake_detect.data import read_dataset
from deepfake_detect.faces import FaceFinder
from deepfake_detect.facestore import FaceStore
from deepfake_detect.models import create_model
from deepfake_detect.schedule import Schedule
from deepfake_detect.train import fit
from deepfake_detect.weights import load_model

CARDS = {
    "xception-fakefaces": Card(
        name="xception-fakefaces",
        version=0,
        architecture="xception",
        preprocessing=Preprocessing(size_px=160, margin=1.3),
    ),
    "meso4-fakefaces": Card(
        name="meso4-fakefaces",
        version=0,
        architecture="meso4",
        preprocessing=Preprocessing(size_px=256, margin=1.3, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How long to learn, and from what."""

    schedule: Schedule
    augmentation: Augmentation
    self_blended_every: int | None = None  # so many real pictures give one self-blended fake


FIRST = Augmentation(colour=0.5, jpeg=0.6, shear=0, erase=0, webp=0)
MILD = replace(FIRST, rotate=0.2, light=0.3, colour=0.3, jpeg=0.3, shrink=0.05, blur=0.05, noise=0.05, grey=0.02)
MILDEST = replace(FIRST, rotate=0, light=0.3, colour=0.3, jpeg=0.25, shrink=0, blur=0, noise=0, grey=0)

STAGES = {
    ("xception-fakefaces", 1): Stage(
        schedule=Schedule(epochs=7, epoch_samples=9600, lr=5e-4),
        augmentation=FIRST,
        self_blended_every=6,
    ),
    ("xception-fakefaces", 2): Stage(
        schedule=Schedule(epochs=4, epoch_samples=9600, lr=2e-4, ema=0.995, favour={"ciplab": 3, "inswapper": 4}),
        augmentation=MILD,
        self_blended_every=6,
    ),
    ("meso4-fakefaces", 1): Stage(
        schedule=Schedule(epochs=12, epoch_samples=12800, lr=2e-3, weight_decay=1e-4),
        augmentation=MILDEST,  # 28,000 weights cannot learn to see through much
    ),
    ("meso4-fakefaces", 2): Stage(
        schedule=Schedule(
            epochs=6,
            epoch_samples=12800,
            lr=2e-3,
            weight_decay=1e-4,
            favour={"dfdc": 2, "ciplab": 2, "inswapper": 3, "lfw-faceswap": 3},
        ),
        augmentation=replace(MILDEST, light=0.2, colour=0.2, jpeg=0.1),
    ),
    ("meso4-fakefaces", 3): Stage(
        schedule=Schedule(
            epochs=5,
            epoch_samples=12800,
            lr=3e-3,
            weight_decay=0.0,
            favour={"dfdc": 2, "ciplab": 2, "inswapper": 6, "lfw-faceswap": 8, "mebeauty": 3},
        ),
        augmentation=replace(MILDEST, light=0.1, colour=0.1, jpeg=0.05),
    ),
}


def load_trunk(model: torch.nn.Module, path: Path) -> None:
    """Take over ImageNet weights for every layer that the file has."""
    tensors = {name: value.float() for name, value in safetensors.torch.load_file(path).items()}
    state = model.state_dict()
    prefix = "" if set(tensors) <= set(state) else "net."
    found = {prefix + name: value for name, value in tensors.items()}
    unknown = sorted(set(found) - set(state))
    if unknown:
        raise SystemExit(f"{path} has layers that the model lacks: {unknown[:5]}")
    model.load_state_dict({**state, **found})


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(CARDS))
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), default=1)
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--trunk", type=Path, help="ImageNet weights to start from")
    start.add_argument("--start", type=Path, help="folder of an earlier stage to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--faces", type=Path, help="folder where found faces are kept; OUT/faces where not given")
    parser.add_argument("--finder", type=Path, help="another face finder")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)  # one core; the other makes the crops

    card, stage = CARDS[options.name], STAGES[options.name, options.stage]
    store = FaceStore(options.faces or options.out / "faces", finder=FaceFinder(options.finder))
    train = find_crops(read_dataset(options.data / "manifest.csv", splits=["train"]), store).samples
    valid = find_crops(read_dataset(options.data / "manifest.csv", splits=["val"]), store).samples
    made = create_model(card.architecture, seed=stage.schedule.seed)
    model = load_model(options.start) if options.start else made
    if options.trunk:
        load_trunk(model, options.trunk)
    every = stage.self_blended_every
    seen = [*train, *self_blended(train[::every])] if every else train
    fit(
        model,
        CropDataset(seen, store, preprocessing=card.preprocessing, augmentation=stage.augmentation),
        valid=CropDataset(valid, store, preprocessing=card.preprocessing),
        card=card,
        schedule=stage.schedule,
        out=options.out,
        workers=options.workers,
        resume=True,
    )


if __name__ == "__main__":
    main()
