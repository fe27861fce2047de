"""Settings of every training: initial weights, data and length."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.schedule import Schedule
from recipes.training_pictures import FAMILIES, FOLDS, TrainingPictures

LIGHT = Augmentation(
    zoom=0.1, shift=0.025, rotate=0.1, shear=0, light=0.3, colour=0.2, grey=0, erase=0, shrink=0.08, blur=0.03,
    noise=0.03, webp=0.05, jpeg=0.35,
)  # fmt: skip
MILDEST = replace(LIGHT, zoom=0.15, shift=0.04, rotate=0, colour=0.3, jpeg=0.25, shrink=0, blur=0, noise=0, webp=0)
XCEPTION = "legacy_xception.imagenet-trunk.safetensors"
MOBILE = "mobilenetv2_100.imagenet.safetensors"
NEW = "new"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training.

    Attributes:
        architecture: Of `create_model`.
        size_px: Side of the input.
        start: A file of initial weights, another plan, or `NEW` for random weights.
        teacher: A plan whose scores are averaged with the labels (Hinton and others 2015).
        pictures: Pictures to train on.
        schedule: Length and learning rates.
        augmentation: Augmentation of the crops.
        margin: Side of the crop, in longer sides of the face box.
        cut: Number of epochs after which the training stops, while the rate is still high; 0 runs all of them.
        valid: Number of validation pictures that are scored after each epoch; with 0 the last epoch is kept.
    """

    architecture: str = "xception"
    size_px: int = 160
    margin: float = 1.3
    start: str = XCEPTION
    teacher: str = ""
    pictures: TrainingPictures = field(default_factory=TrainingPictures)
    schedule: Schedule
    augmentation: Augmentation = LIGHT
    cut: int = 0
    valid: int = 0


FAVOUR = {"dfdc": 2.2, "ciplab": 2.2, "inswapper": 2.5, "ffhq140k": 1.5, "openforensics": 0.4, "upsample": 0.2}
FAVOUR_FINE = FAVOUR | {"inswapper": 4.0, "levelled": 0.5}
FAVOUR_UNSEEN = {"dfdc": 1.5, "ciplab": 1.5, "inswapper": 2.0, "openforensics": 0.5}
MADE_UP = {"self-blend": 2.0, "levelled": 2.0}  # what the unseen is told by
FAVOUR_UNSEEN |= MADE_UP
FAVOUR_MESO = {"dfdc": 2, "ciplab": 2, "inswapper": 3, "lfw-faceswap": 3}
PLAIN = TrainingPictures(blends_every=0, forged_by=())

PLANS = {
    "xception-first": Plan(
        margin=1.5,
        pictures=TrainingPictures(forged_by=("autoencoder", "upsample")),
        schedule=Schedule(epochs=26, epoch_samples=4800, lr=5e-4, balance=0.6, favour=FAVOUR, pairs=0.8),
        cut=16,
        valid=500,
    ),
    "xception-fakefaces": Plan(
        size_px=192,
        start="xception-first",
        schedule=Schedule(epochs=7, epoch_samples=4800, lr=3e-4, balance=0.6, favour=FAVOUR_FINE, pairs=0.8),
        valid=500,
    ),
    "mobile-first": Plan(
        architecture="timm:mobilenetv2_100",
        start=MOBILE,
        schedule=Schedule(epochs=7, epoch_samples=4000, lr=4e-4, balance=0.6, favour=FAVOUR_FINE),
        valid=500,
    ),
    "mobile-second": Plan(
        architecture="timm:mobilenetv2_100",
        start="mobile-first",
        schedule=Schedule(epochs=8, epoch_samples=4000, lr=4e-4, balance=0.6, favour=FAVOUR_FINE, seed=1),
        valid=500,
    ),
    "mobile-fakefaces": Plan(
        architecture="timm:mobilenetv2_100",
        start="mobile-second",
        teacher="xception-fakefaces",
        schedule=Schedule(epochs=18, epoch_samples=8000, lr=4e-4, smoothing=0.0, balance=0.6, favour=FAVOUR_FINE),
        valid=500,
    ),
    "meso4-first": Plan(
        architecture="meso4",
        size_px=256,
        start=NEW,
        pictures=PLAIN,
        schedule=Schedule(epochs=12, epoch_samples=12800, lr=2e-3, weight_decay=1e-4),
        augmentation=MILDEST,  # 28,000 weights cannot learn to see through much
        valid=1746,
    ),
    "meso4-second": Plan(
        architecture="meso4",
        size_px=256,
        start="meso4-first",
        pictures=PLAIN,
        schedule=Schedule(epochs=6, epoch_samples=12800, lr=2e-3, weight_decay=1e-4, favour=FAVOUR_MESO),
        augmentation=replace(MILDEST, light=0.2, colour=0.2, jpeg=0.1),
        valid=1746,
    ),
    "meso4-fakefaces": Plan(
        architecture="meso4",
        size_px=256,
        start="meso4-second",
        pictures=PLAIN,
        schedule=Schedule(
            epochs=5,
            epoch_samples=12800,
            lr=3e-3,
            weight_decay=0.0,
            favour={**FAVOUR_MESO, "inswapper": 6, "lfw-faceswap": 8, "mebeauty": 3},
        ),
        augmentation=replace(MILDEST, light=0.1, colour=0.1, jpeg=0.05),
        valid=1746,
    ),
    "made-up": Plan(
        pictures=TrainingPictures(fakes=False, blends_every=1),
        schedule=Schedule(epochs=5, epoch_samples=2560, lr=5e-4, favour=MADE_UP, pairs=1.0),
    ),
    **{
        f"without-{family}": Plan(
            start="made-up",
            pictures=TrainingPictures(without=family),
            schedule=Schedule(epochs=4, epoch_samples=1280, lr=5e-4, balance=0.6, favour=FAVOUR_UNSEEN, pairs=0.8),
        )
        for family in FAMILIES
    },
    **{
        f"fold-{number}": Plan(
            start="without-still-swap",
            size_px=192,
            pictures=TrainingPictures(without="still-swap", fold=number),
            schedule=Schedule(epochs=4, epoch_samples=960, lr=3e-4, favour={"inswapper": 15.0}),
        )
        for number in range(FOLDS)
    },
    "shuffled": Plan(
        pictures=TrainingPictures(shuffled=True), schedule=Schedule(epochs=1, epoch_samples=1280, lr=5e-4)
    ),
}


def shortened(plan: Plan) -> Plan:
    """Give the same training on a handful of small pictures: it proves that the recipe is alive, and no more."""
    schedule = replace(plan.schedule, epochs=1, epoch_samples=8, batch_size=4)
    return replace(plan, size_px=64, schedule=schedule, valid=4 if plan.valid else 0)
