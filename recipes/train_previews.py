"""Train a preview detector on every source, from the table that lists them.

Usage:
    python -m recipes.train_previews xception-fakefaces --data DATA --trunk TRUNK.safetensors --out RUN
    python -m recipes.train_previews meso4-fakefaces --data DATA --out RUN

A checkpoint is written after every epoch; run the same command again to go on.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import safetensors.torch
import torch

from deepfake_detect.augment import Augmentation
from deepfake_detect.card import Card, Preprocessing
from deepfake_detect.data import CropDataset, FaceStore, read_csv, self_blended, with_faces
from deepfake_detect.faces import FaceFinder
from deepfake_detect.models import create_model
from deepfake_detect.train import Schedule, fit

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

SCHEDULES = {
    "xception-fakefaces": Schedule(epochs=7, epoch_samples=9600, batch_size=32, lr=5e-4),
    "meso4-fakefaces": Schedule(epochs=12, epoch_samples=12800, batch_size=32, lr=2e-3, weight_decay=1e-4),
}


AUGMENTATIONS = {
    "xception-fakefaces": Augmentation(),
    "meso4-fakefaces": Augmentation(rotate=0, light=0.3, jpeg=0.25, shrink=0, blur=0, noise=0, grey=0),
}  # 28,000 weights cannot learn to see through much

SELF_BLENDED = {"xception-fakefaces": 6, "meso4-fakefaces": None}
"""Every so many real pictures also serve as a self-blended fake."""


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
    parser.add_argument("--trunk", type=Path, help="ImageNet weights to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--faces", type=Path, help="folder where found faces are kept; OUT/faces where not given")
    parser.add_argument("--finder", type=Path, help="another face finder")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)  # one core; the other makes the crops

    card, schedule = CARDS[options.name], SCHEDULES[options.name]
    store = FaceStore(options.faces or options.out / "faces", finder=FaceFinder(options.finder))
    train = with_faces(read_csv(options.data / "manifest.csv", splits=["train"]), store)
    valid = with_faces(read_csv(options.data / "manifest.csv", splits=["val"]), store)
    model = create_model(card.architecture, seed=schedule.seed)
    if options.trunk:
        load_trunk(model, options.trunk)
    wanted, every = card.preprocessing, SELF_BLENDED[options.name]
    seen = [*train, *self_blended(train[::every])] if every else train
    fit(
        model,
        CropDataset(seen, store, preprocessing=wanted, augmentation=AUGMENTATIONS[options.name]),
        valid=CropDataset(valid, store, preprocessing=wanted),
        card=card,
        schedule=schedule,
        out=options.out,
        workers=options.workers,
    )


if __name__ == "__main__":
    main()
