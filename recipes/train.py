"""Train a detector that ships, or one that measures what the recipe is worth.

Usage:
    python -m recipes.train xception-fakefaces --data DATA --weights MODELS --out RUNS
    python -m recipes.train --list

What a training starts from is trained first where it is missing. A checkpoint is written after every epoch: run the
same command again to go on.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from deepfake_detect.augment import Augmentation
from deepfake_detect.crops import SELF_BLEND, CropDataset, find_crops
from deepfake_detect.data import Sample, read_dataset
from deepfake_detect.facestore import FaceStore
from deepfake_detect.loader import CropFeed
from deepfake_detect.preprocess import to_batch
from deepfake_detect.schedule import Schedule
from deepfake_detect.split import split_samples
from deepfake_detect.teach import untrained
from deepfake_detect.train import fit
from deepfake_detect.weights import load_model
from recipes.diets import FAMILIES, FOLDS, Diet

FINISHED = "finished"
"""A file that stands in the folder of a training that needs no more."""

FIRST = Augmentation(colour=0.5, jpeg=0.6, shear=0, erase=0, webp=0)
MILD = replace(
    FIRST, rotate=0.2, light=0.3, colour=0.3, jpeg=0.4, shrink=0.12, blur=0.05, noise=0.05, grey=0.02, webp=0.05
)
MILDEST = replace(FIRST, rotate=0, light=0.3, colour=0.3, jpeg=0.25, shrink=0, blur=0, noise=0, grey=0)
XCEPTION = "legacy_xception.imagenet-trunk.safetensors"
MOBILE = "mobilenetv2_100.imagenet.safetensors"
NEW = "new"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training.

    Attributes:
        architecture: Of `create_model`.
        size_px: Side of the input.
        start: A file of the starting weights, another plan, or `NEW`.
        teacher: A plan whose scores the labels are mixed with, half and half (Hinton and others 2015).
        diet: What is learned from.
        schedule: How long and how fast.
        augmentation: Of the crops.
        valid: So many validation pictures are scored after each epoch; with 0 the last epoch is kept.
    """

    architecture: str = "xception"
    size_px: int = 128
    start: str = XCEPTION
    teacher: str = ""
    diet: Diet = field(default_factory=Diet)
    schedule: Schedule
    augmentation: Augmentation = MILD
    valid: int = 0


FAVOUR = {"dfdc": 2.0, "ciplab": 2.5, "inswapper": 3.0, "ffhq140k": 1.5, "openforensics": 0.5, "upsample": 0.4}
FAVOUR_UNSEEN = {"dfdc": 1.5, "ciplab": 1.5, "inswapper": 2.0, "openforensics": 0.5, "upsample": 0.6}
FAVOUR_UNSEEN |= {"self-blend": 2.0, "autoencoder": 2.0}  # what the unseen is told by

PLANS = {
    "xception-first": Plan(
        size_px=160, schedule=Schedule(epochs=7, epoch_samples=9600, lr=5e-4), augmentation=FIRST, valid=1746
    ),
    "xception-second": Plan(
        size_px=160,
        start="xception-first",
        schedule=Schedule(epochs=4, epoch_samples=9600, lr=2e-4, ema=0.995, favour={"ciplab": 3, "inswapper": 4}),
        valid=1746,
    ),
    "xception-fakefaces": Plan(
        size_px=160,
        start="xception-second",
        schedule=Schedule(epochs=10, epoch_samples=4800, lr=4e-4, balance=0.6, favour=FAVOUR),
        valid=500,
    ),
    "mobile-fakefaces": Plan(
        architecture="timm:mobilenetv2_100",
        size_px=144,
        start=MOBILE,
        teacher="xception-fakefaces",
        schedule=Schedule(epochs=10, epoch_samples=4800, lr=1e-3, smoothing=0.0, balance=0.6, favour=FAVOUR),
        valid=500,
    ),
    "meso4-first": Plan(
        architecture="meso4",
        size_px=256,
        start=NEW,
        schedule=Schedule(epochs=12, epoch_samples=12800, lr=2e-3, weight_decay=1e-4),
        augmentation=MILDEST,  # 28,000 weights cannot learn to see through much
    ),
    "meso4-fakefaces": Plan(
        architecture="meso4",
        size_px=256,
        start="meso4-first",
        schedule=Schedule(
            epochs=6,
            epoch_samples=12800,
            lr=2e-3,
            weight_decay=0.0,
            favour={"dfdc": 2, "ciplab": 2, "inswapper": 3, "lfw-faceswap": 3},
        ),
        augmentation=replace(MILDEST, light=0.1, colour=0.1, jpeg=0.05),
    ),
    "made-up": Plan(
        diet=Diet(fakes=False, blends_every=1),
        schedule=Schedule(epochs=6, epoch_samples=2560, lr=5e-4, favour={"self-blend": 2}),
    ),
    **{
        f"without-{family}": Plan(
            start="made-up",
            diet=Diet(without=family),
            schedule=Schedule(epochs=3, epoch_samples=1920, lr=4e-4, balance=0.6, favour=FAVOUR_UNSEEN),
        )
        for family in FAMILIES
    },
    **{
        f"fold-{number}": Plan(
            start="without-still-swap",
            diet=Diet(without="still-swap", fold=number),
            schedule=Schedule(epochs=1, epoch_samples=1600, lr=3e-4, favour={"inswapper": 15.0}),
        )
        for number in range(FOLDS)
    },
    "shuffled": Plan(diet=Diet(shuffled=True), schedule=Schedule(epochs=2, epoch_samples=1280, lr=5e-4)),
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where everything is: the data, the twins made of them, the starting weights, the trainings."""

    data: Path
    twins: Path
    weights: Path
    runs: Path
    store: FaceStore = field(default_factory=FaceStore)

    def train(self, name: str) -> Path:
        """Run a plan, and those that it starts from; give its folder."""
        plan, out = PLANS[name], self.runs / name
        if (out / FINISHED).exists():
            return out
        start = self.train(plan.start) if plan.start in PLANS else self.weights / plan.start
        model, card = untrained(
            plan.architecture, name=name, start=None if plan.start == NEW else start, size_px=plan.size_px
        )
        learned = find_crops(plan.diet.training(self.data, self.twins), self.store).samples
        if plan.diet.shuffled:
            learned = shuffle_labels(learned)
        held = read_dataset(self.data / "manifest.csv", splits=["val"]) if plan.valid else []
        chosen = split_samples([replace(s, split="") for s in held], valid=plan.valid / len(held)) if held else []
        checked = find_crops([s for s in chosen if s.split == "val"], self.store).samples
        crops = CropDataset(learned, self.store, preprocessing=card.preprocessing, augmentation=plan.augmentation)
        if plan.start == MOBILE:
            unfold_norms(model, crops)
        if plan.teacher:
            crops = Taught(
                crops, scores=scores_of(load_model(self.train(plan.teacher)), crops, plan=PLANS[plan.teacher])
            )
        logging.info("%s: %d pictures, %d to validate on", name, len(learned), len(checked))
        fit(
            model,
            crops,
            valid=CropDataset(checked, self.store, preprocessing=card.preprocessing) if checked else None,
            card=card,
            schedule=plan.schedule,
            out=out,
            dtype="bfloat16" if plan.architecture == "xception" else "float32",
            resume=True,
        )
        (out / FINISHED).touch()
        return out


def shuffle_labels(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Give each picture the label of another one."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    return tuple(replace(s, label=samples[other].label) for s, other in zip(samples, order, strict=True))


class Taught(CropDataset):
    """Crops whose labels are mixed with a teacher's scores."""

    def __init__(self, crops: CropDataset, *, scores: Sequence[float]) -> None:
        super().__init__(crops.samples, crops.store, preprocessing=crops.preprocessing, augmentation=crops.augmentation)
        self.scores = scores

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, float]:
        """Give crop and mixed label."""
        pixels, label = super().__getitem__(key)
        score = self.scores[key[0] if isinstance(key, tuple) else key]
        return pixels, label if math.isnan(score) else (label + score) / 2


def scores_of(teacher: torch.nn.Module, crops: CropDataset, *, plan: Plan) -> list[float]:
    """Score crops as in use; not a number for those that are blended anew each time."""
    _, card = untrained(plan.architecture, name="teacher", size_px=plan.size_px)
    plain = CropDataset(crops.samples, crops.store, preprocessing=card.preprocessing)
    chosen = [index for index, sample in enumerate(crops.samples) if sample.source != SELF_BLEND]
    scores = [math.nan] * len(crops.samples)
    teacher = teacher.eval().to(memory_format=torch.channels_last)
    feed = CropFeed(plain, preprocessing=card.preprocessing)
    said: list[float] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch, _ in feed.batches([(index, 0) for index in chosen], size=64):
            said += teacher(batch.contiguous(memory_format=torch.channels_last)).float().sigmoid().tolist()
    for index, score in zip(chosen, said, strict=True):
        scores[index] = score
    return scores


def unfold_norms(model: torch.nn.Module, crops: CropDataset, *, count: int = 256) -> None:
    """Give batch norms that were folded into the convolutions before them the statistics of some crops.

    What the model says in evaluation mode stays the same; in training mode it is close to that now.
    """
    seen: dict[torch.nn.BatchNorm2d, list[torch.Tensor]] = {}
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(lambda n, x: seen.setdefault(n, []).append(x[0])) for norm in norms]
    drawn = torch.randperm(len(crops.samples), generator=torch.Generator().manual_seed(0))[:count].tolist()
    pixels = torch.stack([crops[index, index][0] for index in drawn])
    with torch.inference_mode():
        model.eval()(to_batch(pixels.numpy(), preprocessing=crops.preprocessing))
    for hook in hooks:
        hook.remove()
    for norm, (maps,) in seen.items():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
        with torch.no_grad():
            norm.bias += (mean - norm.running_mean) * scale
            norm.weight.copy_(scale * (variance + norm.eps).sqrt())
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_(variance)  # type: ignore[union-attr]
    model.train()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(PLANS))
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--twins", type=Path, help="folder of twins; OUT/twins where not given")
    parser.add_argument("--weights", type=Path, required=True, help="folder with the starting weights")
    parser.add_argument("--out", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    bench = Bench(
        data=options.data, twins=options.twins or options.out / "twins", weights=options.weights, runs=options.out
    )
    for name in options.names:
        bench.train(name)


if __name__ == "__main__":
    main()
