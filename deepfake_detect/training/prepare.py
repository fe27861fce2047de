"""Prepare a data set for a training: read it, split it, audit it, and find the faces, each picture opened once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from deepfake_detect._options import check_choice, real_number
from deepfake_detect.auditing.checks import audit
from deepfake_detect.auditing.report import AuditReport
from deepfake_detect.datasets.crops import Census, FacePolicy, find_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.datasets.split import split_samples
from deepfake_detect.errors import DatasetError, InvalidOption
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.crop_dataset import CropDataset, self_blended
from deepfake_detect.training.history import FEW
from deepfake_detect.weights.card import DETECTS, Preprocessing

logger = logging.getLogger("deepfake_detect")

VALID_SHARE = 0.15
"""Share of the groups to validate on, where the data name no split."""

Check = Literal["warn", "strict", "off"]
"""What the audit does: log its findings; raise an error where one is severe; or no audit at all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A data set that is ready to train on.

    Attributes:
        train: Training crops, augmented.
        valid: Validation crops, as used by `predict`; None without validation pictures.
        held: Validation samples, as they came.
        census: The faces found in the training pictures, and the pictures left out.
        audit: Findings of the audit; None where there was none.
    """

    train: CropDataset
    valid: CropDataset | None
    held: list[Sample]
    census: Census
    audit: AuditReport | None


def prepare_data(
    dataset: Any,
    *,
    preprocessing: Preprocessing,
    valid: Any = None,
    labels: Mapping[Any, str] | None = None,
    seed: int = 0,
    faces: FacePolicy = "keep-largest",
    augment: str | Augmentation | None = "default",
    self_blend: float = 0.0,
    check: Check = "warn",
    classes: Sequence[str] = DETECTS,
) -> Prepared:
    """Read, split and audit a data set, and find its faces.

    Args:
        dataset: Anything that `read_dataset` takes. Pictures of a split ``"test"`` are not used.
        preprocessing: From the card.
        valid: As for `split_data`.
        labels: Meaning of unknown labels, as for `read_dataset`.
        seed: Random seed of the split.
        faces: How pictures with several faces are used; ``"none"`` trains on whole pictures.
        augment: Name of an augmentation, an `Augmentation`, or None.
        self_blend: Share of real images turned into self-blended fakes, 0 to 1, added to the others.
        check: What the audit does.
        classes: Of the card. Where these are not real and fake, the data are samples, labelled by number.

    Raises:
        DatasetError: The data cannot be read, hold one class only, or a strict audit found an error.
        InvalidOption: An option of the wrong type or out of range.
    """
    check_choice("faces", faces, get_args(FacePolicy))
    self_blend = real_number("self_blend", self_blend, low=0, high=1)
    if self_blend and faces == "none":
        raise InvalidOption("self_blend needs faces to blend, and faces='none' looks for none; leave one of them out")
    augmentation = _augmentation(augment)
    train, held = split_data(dataset, valid=valid, seed=seed, labels=labels)
    store = FaceStore()
    report = check_data([*train, *held], check, store=None if faces == "none" else store, classes=classes)
    census, held_census = (find_crops(samples, store, faces=faces) for samples in (train, held))
    logger.info("%s", census)
    train_samples = _with_blends(census.samples, self_blend)
    valid_samples = _with_blends(held_census.samples, self_blend)
    _need_all_classes(train_samples, faces, classes)
    _describe_split(train_samples, valid_samples, classes)
    return Prepared(
        train=CropDataset(train_samples, store, preprocessing=preprocessing, augmentation=augmentation),
        valid=CropDataset(valid_samples, store, preprocessing=preprocessing) if valid_samples else None,
        held=held,
        census=census,
        audit=report,
    )


def split_data(
    dataset: Any, *, valid: Any, seed: int, labels: Mapping[Any, str] | None = None
) -> tuple[list[Sample], list[Sample]]:
    """Return the training samples and the validation samples of a data set.

    Args:
        dataset: Anything that `read_dataset` takes.
        valid: Another data set; the share of groups to set aside; or None, which takes the split ``"val"`` where the
            data name one, else `VALID_SHARE`.
        seed: Random seed.
        labels: Meaning of unknown labels, as for `read_dataset`.

    Raises:
        InvalidOption: ``valid`` is a number that is no share.
    """
    samples = read_dataset(dataset, labels=labels)
    if valid is None or isinstance(valid, int | float):
        share = VALID_SHARE if valid is None else real_number("valid", valid, low=0, high=1, ends="[)")
        sides = split_samples(samples, valid=share, seed=seed)
        return [s for s in sides if s.split == "train"], [s for s in sides if s.split == "val"]
    return [s for s in samples if s.split != "test"], read_dataset(valid, labels=labels)


def check_data(
    samples: Sequence[Sample], check: Check, *, store: FaceStore | None = None, classes: Sequence[str] = DETECTS
) -> AuditReport | None:
    """Audit samples and log the findings; None where no audit is wanted.

    Args:
        samples: Training and validation samples.
        check: What the audit does.
        store: Faces are found, too, while the pictures are open, and kept here for the training.
        classes: As for `audit`.

    Raises:
        DatasetError: A strict audit found an error.
        InvalidOption: An unknown check.
    """
    check_choice("check", check, get_args(Check))
    if check == "off":
        return None
    report = audit(samples, strict=check == "strict", faces=False, store=store, classes=classes)
    logger.log(logging.INFO if report.ok else logging.WARNING, "audit: %s", report)
    return report


def _with_blends(samples: Sequence[Sample], share: float) -> list[Sample]:
    """Add a self-blended fake for a share of the real pictures, evenly chosen."""
    reals = [sample for sample in samples if sample.label == 0]
    count = round(share * len(reals))
    chosen = [reals[index * len(reals) // count] for index in range(count)]
    return [*samples, *self_blended(chosen)]


def _need_all_classes(samples: Sequence[Sample], faces: FacePolicy, classes: Sequence[str]) -> None:
    count = Counter(sample.label for sample in samples)
    missing = [name for place, name in enumerate(classes) if not count[place]]
    if missing and classes != DETECTS:
        raise DatasetError(f"no readable training pictures of {', '.join(missing)}; add some of each class")
    if not (count[0] and count[1]):
        what = "pictures" if faces == "none" else "pictures with a face"
        advice = "add real photographs"
        if count[0]:
            advice = "add fakes" if faces == "none" else "self_blend=1.0 makes fakes of the real ones"
        raise DatasetError(f"training needs both classes, found {count[0]} real and {count[1]} fake {what}; {advice}")


def _describe_split(train: Sequence[Sample], valid: Sequence[Sample], classes: Sequence[str]) -> None:
    """Log how many pictures train and validate, and whether they are too few to validate."""
    grouped = any(sample.group for sample in (*train, *valid))
    how = "by group" if grouped else "each picture its own group: name persons or videos in a column 'group'"
    logger.info("split: %d train, %d validation, %s", len(train), len(valid), how)
    count = Counter(sample.label for sample in valid)
    few = ", ".join(f"{count[place]} {name}" for place, name in enumerate(classes) if count[place] < FEW)
    if few:
        logger.warning(
            "too few to validate: %s among the validation pictures, at least %d of each class are needed for figures "
            "that mean something; add pictures, give valid=, cross_validate, or measure on others with evaluate",
            few, FEW,
        )  # fmt: skip


def _augmentation(augment: str | Augmentation | None) -> Augmentation | None:
    if isinstance(augment, str):
        return Augmentation.named(augment)
    if augment is None or isinstance(augment, Augmentation):
        return augment
    raise InvalidOption(f"augment is {augment!r}, expected the name of an augmentation, an Augmentation, or None")
