"""Train a packaged detector, or one that measures the value of a part of its recipe.

Usage:
    python -m recipes.train xception-fakefaces --data DATA --weights MODELS --out RUNS

The names are those of `plans`. The trainings that a plan starts from, and the forged copies that it is trained on, are
made first where they are missing. A checkpoint is written after every epoch: run the same command again to continue.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from deepfake_detect.datasets.crops import find_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.datasets.split import split_samples
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.initial import untrained
from deepfake_detect.training.loop import fit
from deepfake_detect.weights.card import Card
from deepfake_detect.weights.load import load_model
from recipes.forged_copies import photographs, write_forged_copies
from recipes.mobile import Taught, quieten_head, unfold_norms
from recipes.plans import MOBILE, NEW, PLANS, Plan, shortened

FINISHED = "finished"
"""A file that stands in the folder of a training that needs no more."""

FORGED_COPIES = {"dfdc": 400, "ciplab": 250, "ffhq140k": 300, "lfw-faceswap": 120, "openforensics": 130}
"""Number of photographs of each source that are forged, once in each way."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Folders of the data, the initial weights and the trainings.

    Attributes:
        data: Folder with manifest.csv.
        weights: Folder with the initial weights.
        runs: Folder of all trainings, and of the forged copies.
        short: Whether to train on a handful of pictures, as a test.
        store: Cache of found faces.
    """

    data: Path
    weights: Path
    runs: Path
    short: bool = False
    store: FaceStore = field(default_factory=FaceStore)

    def train(self, name: str) -> Path:
        """Run a plan, after those that it starts from; return its folder."""
        plan, out = self.plan(name), self.runs / name
        if (out / FINISHED).exists():
            return out
        start = self.train(plan.start) if plan.start in PLANS else self.weights / plan.start
        model, card = untrained(
            plan.architecture,
            name=name,
            start=None if plan.start == NEW else start,
            size_px=plan.size_px,
            margin=plan.margin,
        )
        learned = self.crops(plan.pictures.training(self.data, self.forged_copies(plan.pictures.forged_by)), card)
        if plan.pictures.shuffled:
            learned.samples = shuffle_labels(learned.samples)
        checked = self.crops(self.valid(plan.valid), card) if plan.valid else None
        learned.augmentation = plan.augmentation
        if plan.start == MOBILE:
            unfold_norms(model, learned)
            quieten_head(model)
        logging.info("%s: %d pictures, %d to validate on", name, len(learned), len(checked or ()))
        fit(
            model,
            self.taught(learned, plan.teacher) if plan.teacher else learned,
            valid=checked,
            card=card,
            schedule=plan.schedule,
            out=out,
            dtype="bfloat16" if plan.architecture == "xception" else "float32",
            resume=True,
            callbacks=[lambda epoch: epoch.epoch < plan.cut] if plan.cut else [],
        )
        (out / FINISHED).touch()
        return out

    def plan(self, name: str) -> Plan:
        """Return a plan, shortened where ``short`` is set."""
        return shortened(PLANS[name]) if self.short else PLANS[name]

    def forged_copies(self, ways: Sequence[str]) -> Path:
        """Return the folder of photographs and their copies, forged in these ways; make those that are missing."""
        folder = self.runs / "forged-copies"
        for way in ways:
            for source, count in FORGED_COPIES.items():
                out = folder / f"{way}-{source}"
                if not (out / "manifest.csv").exists():
                    originals = photographs(self.data, [source], ["train"], count=2 if self.short else count)
                    write_forged_copies(way, originals, out, weights=self.weights, size_px=192)
        return folder

    def valid(self, count: int) -> list[Sample]:
        """Draw ``count`` pictures of the val split, with the same share of every source."""
        held = [replace(s, split="") for s in read_dataset(self.data / "manifest.csv", splits=["val"])]
        dealt = split_samples(held, valid=count / len(held)) if count < len(held) else []
        return [s for s in dealt if s.split == "val"] if dealt else held

    def crops(self, samples: list[Sample], card: Card) -> CropDataset:
        """Find the faces of pictures."""
        with_faces = find_crops(samples, self.store).samples
        return CropDataset(with_faces, self.store, preprocessing=card.preprocessing)

    def taught(self, crops: CropDataset, teacher: str) -> Taught:
        """Mix the labels with the scores of a teacher."""
        folder = self.train(teacher)
        card = Card.from_json((folder / "card.json").read_bytes())
        return Taught(crops, teacher=load_model(folder), preprocessing=card.preprocessing)


def shuffle_labels(samples: tuple[Sample, ...] | list[Sample]) -> tuple[Sample, ...]:
    """Permute the labels at random."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    return tuple(replace(s, label=samples[other].label) for s, other in zip(samples, order, strict=True))


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(PLANS))
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--weights", type=Path, required=True, help="folder with the starting weights")
    parser.add_argument("--out", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--short", action="store_true", help="a handful of pictures, to see whether all is there")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    bench = Bench(data=options.data, weights=options.weights, runs=options.out, short=options.short)
    for name in options.names:
        bench.train(name)


if __name__ == "__main__":
    main()
