"""How does a data set become a detector: read, audited, cropped, learned from, calibrated?"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch

from deepfake_detect.auditing.checks import audit
from deepfake_detect.auditing.report import AuditReport
from deepfake_detect.datasets.crops import Census, FacePolicy, find_crops
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.datasets.split import split_samples
from deepfake_detect.errors import DatasetError, nearest
from deepfake_detect.evaluation.calibration import calibrate, keep_band
from deepfake_detect.models.registry import create_model, imagenet_home, native_mean_std, native_size_px
from deepfake_detect.models.transfer import take_over
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.system.torch_defaults import usual_defaults
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.crop_dataset import CropDataset, self_blended
from deepfake_detect.training.loop import fit
from deepfake_detect.training.schedule import Epoch, Schedule
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.card import WEIGHTS_FILE, Card, Preprocessing
from deepfake_detect.weights.hub import download_file
from deepfake_detect.weights.load import load_model, save_bundle

logger = logging.getLogger("deepfake_detect")

IMAGENET = "imagenet"
"""Stands for the ImageNet weights that timm keeps on the Hub."""

VALID_SHARE = 0.15
"""Of the groups, where the data name no split, so many validate."""

Check = Literal["warn", "strict", "off"]
"""What becomes of the audit's findings: told in the log; an error where one is severe; or no audit at all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What came of a training.

    Attributes:
        card: Calibrated on the validation pictures.
        history: One entry for each epoch.
        audit: Of the pictures learned from and validated on; None where none was asked for.
        census: Which of the pictures learned from had no face, or several.
    """

    card: Card
    history: tuple[Epoch, ...]
    audit: AuditReport | None
    census: Census


def untrained(
    architecture: str,
    *,
    name: str,
    start: str | os.PathLike[str] | None = None,
    size_px: int | None = None,
    margin: float = 1.3,
    dropout: float | None = None,
    seed: int = 0,
) -> tuple[torch.nn.Module, Card]:
    """Build what a training begins with: a model, and the card that says how pictures come to it.

    Args:
        architecture: As for `create_model`.
        name: Of the bundle.
        start: None, ``"imagenet"``, a ``.safetensors`` file, or a bundle as for `find_bundle`.
        size_px: Side of the input in pixels; the architecture's own where None.
        margin: Side of the crop as a multiple of the longer side of the face box.
        dropout: As for `create_model`.
        seed: Of the random weights.

    Raises:
        UnknownModel: No such architecture.
        UnknownWeights: No such weights to start from.
        WeightsMismatch: They are of another architecture.
    """
    model = create_model(architecture, seed=seed, dropout=dropout)
    if start is not None:
        taken = take_over(model, _starting_weights(architecture, start), where=os.fspath(start))
        logger.info("%.0f%% of the weights are those of %s; new: %s", 100 * taken.share, start, ", ".join(taken.new))
    mean, std = native_mean_std(architecture)
    size_px = size_px or native_size_px(architecture)
    wanted = Preprocessing(size_px=size_px, margin=margin, mean=mean, std=std)
    return model, Card(name=name, version=0, architecture=architecture, preprocessing=wanted)


@usual_defaults()
def teach(
    model: torch.nn.Module,
    dataset: Any,
    *,
    card: Card,
    fresh: bool,
    valid: Any = None,
    lr: float | None = None,
    augment: str | Augmentation | None = "default",
    faces: FacePolicy = "keep-largest",
    self_blend: float = 0.0,
    check: Check = "warn",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callbacks: Sequence[Callable[[Epoch], Any]] = (),
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    workers: int | None = None,
    **schedule: Any,
) -> Lesson:
    """Teach a model on a data set, and calibrate its score on pictures that it did not learn from.

    Args:
        model: Where it begins; ends with the weights of the best epoch.
        dataset: Anything that `read_dataset` takes. Pictures of a split ``"test"`` are left alone.
        card: Of the bundle: name and preprocessing count, what is fitted is replaced.
        fresh: The weights are new, so that the rate may be high.
        valid: A data set; or the share of groups to set aside; None takes the split ``"val"`` where the data name
            one, else `VALID_SHARE`.
        lr: Highest rate; 1e-3 for new weights and for a head alone, else 2e-4, where None.
        augment: Of the training crops: a name of `Augmentation.named`, an `Augmentation`, or None.
        faces: What becomes of pictures with several faces.
        self_blend: Self-blended fakes for each real picture, 0 to 1. With any, no fake picture is needed.
        check: What becomes of the audit's findings.
        out: Folder of the bundle, the state and the log; None keeps nothing.
        resume: Go on from the state in ``out``.
        callbacks: Called after each epoch; see `fit`.
        device: As for `Predictor`.
        dtype: As for `Predictor`; ``"auto"`` is what trains fastest here.
        workers: Processes that load; chosen where None.
        **schedule: Fields of `Schedule`.

    Raises:
        DatasetError: The data cannot be understood, hold one class only, or are refused by a strict audit.
        TrainingDiverged: The loss became no number, again and again.
        ValueError: An option that does not exist, or ``resume`` without ``out``.
    """
    if resume and out is None:
        raise ValueError("resume=True needs out=, the folder of the training that shall go on")
    head_only = schedule.get("freeze") == "backbone"
    plan = _schedule(lr=lr or (1e-3 if fresh or head_only else 2e-4), **schedule)
    learned, held = sides(dataset, valid=valid, seed=plan.seed)
    report = audited([*learned, *held], check)
    store = FaceStore()
    census, held_census = (find_crops(side, store, faces=faces) for side in (learned, held))
    logger.info("%s", census)
    seen = _with_blends(census.samples, self_blend)
    checked = _with_blends(held_census.samples, self_blend)
    _need_both_classes(seen)
    wanted = card.preprocessing
    with _folder(out) as folder:
        history = fit(
            model,
            CropDataset(seen, store, preprocessing=wanted, augmentation=_augmentation(augment)),
            valid=CropDataset(checked, store, preprocessing=wanted) if checked else None,
            card=_told(card, seen),
            schedule=plan,
            out=folder,
            device=device,
            dtype=dtype,
            workers=workers,
            resume=resume,
            callbacks=callbacks,
        )
        card = _calibrated(model, _told(card, seen), held, device=device)
        if out is not None:
            card = save_bundle(model, card, out, half=False)
    return Lesson(card=card, history=tuple(history), audit=report, census=census)


def sides(dataset: Any, *, valid: Any, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Give the samples that are learned from, and those set aside to validate on; arguments as for `teach`."""
    samples = read_dataset(dataset)
    if valid is not None and not isinstance(valid, float):
        return [s for s in samples if s.split != "test"], read_dataset(valid)
    share = VALID_SHARE if valid is None else valid
    split = split_samples(samples, valid=share, seed=seed)
    return [s for s in split if s.split == "train"], [s for s in split if s.split == "val"]


def audited(samples: Sequence[Sample], check: Check) -> AuditReport | None:
    """Audit samples and tell the log; None where no audit is asked for.

    Raises:
        DatasetError: A strict audit found an error.
    """
    if check == "off":
        return None
    report = audit(samples, strict=check == "strict", faces=False)
    logger.log(logging.INFO if report.ok else logging.WARNING, "%s", report)
    return report


def bundle_name(out: str | os.PathLike[str] | None, *, otherwise: str) -> str:
    """Choose what a taught bundle is called: as its folder, or else as said."""
    return Path(out).resolve().name if out is not None else otherwise.replace("/", "-").replace(":", "-")


def _starting_weights(architecture: str, start: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    path = Path(start)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise FileNotFoundError(f"no weights at {path}; expected a .safetensors file to start from")
        return dict(safetensors.torch.load_file(path))
    if start == IMAGENET:
        return dict(safetensors.torch.load_file(download_file(imagenet_home(architecture), WEIGHTS_FILE)))
    return load_model(find_bundle(start)).state_dict()


def _schedule(**values: Any) -> Schedule:
    known = [field.name for field in fields(Schedule)]
    for name in values:
        if name not in known:
            raise ValueError(f"there is no option {name!r}{nearest(name, known)}")
    return Schedule(**values)


def _with_blends(samples: Sequence[Sample], share: float) -> list[Sample]:
    """Add a self-blended fake for so many of the real pictures, evenly chosen."""
    reals = [sample for sample in samples if sample.label == 0]
    count = round(share * len(reals))
    chosen = [reals[index * len(reals) // count] for index in range(count)]
    return [*samples, *self_blended(chosen)]


def _need_both_classes(samples: Sequence[Sample]) -> None:
    count = Counter(sample.label for sample in samples)
    if not (count[0] and count[1]):
        found = f"{count[0]} real and {count[1]} fake pictures with a face"
        advice = "self_blend=1.0 makes fakes of the real ones" if count[0] else "add real photographs"
        raise DatasetError(f"a training needs both classes, found {found}; {advice}")


def _augmentation(augment: str | Augmentation | None) -> Augmentation | None:
    return Augmentation.named(augment) if isinstance(augment, str) else augment


def _folder(out: str | os.PathLike[str] | None) -> AbstractContextManager[str | os.PathLike[str]]:
    return tempfile.TemporaryDirectory(prefix="deepfake-detect-") if out is None else nullcontext(out)


def _told(card: Card, samples: Sequence[Sample]) -> Card:
    """Write on the card what was learned from, and take off what was true of other weights."""
    count = Counter((sample.source or "unnamed", "fake" if sample.label else "real") for sample in samples)
    lines = tuple(f"{source}: {number} {label} pictures" for (source, label), number in sorted(count.items()))
    known = tuple(line for line in card.training_data if line not in lines)
    return replace(
        card, training_data=known + lines, metrics={}, golden={}, limits=(), calibration={}, sha256="",
        temperature=1.0, bias=0.0, threshold=0.5, hub_repo=None, hub_revision=None, recipe="",
    )  # fmt: skip


def _calibrated(model: torch.nn.Module, card: Card, held: Sequence[Sample], *, device: str | torch.device) -> Card:
    """Fit temperature and bias on the validation pictures, as they are in use."""
    if len({sample.label for sample in held}) < 2:
        logger.warning("the score is not calibrated: that needs validation pictures of both classes")
        return keep_band(card)
    return calibrate(Predictor(model=model, card=card, device=device), held, method="platt")
