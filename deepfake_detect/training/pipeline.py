"""Turn a data set into a detector: prepare the data, train, calibrate, and save."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from deepfake_detect._options import output_folder
from deepfake_detect.auditing.report import AuditReport
from deepfake_detect.datasets.crops import Census, FacePolicy
from deepfake_detect.datasets.read import Sample
from deepfake_detect.engines.runner import Backend
from deepfake_detect.errors import InvalidOption
from deepfake_detect.evaluation.calibration import calibrate, keep_band
from deepfake_detect.evaluation.two_looks import fit_looks
from deepfake_detect.faces.finder import PACKAGED
from deepfake_detect.metrics.classes import fit_class_temperature
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.system.device import find_device
from deepfake_detect.system.torch_defaults import usual_defaults
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.batches import CropFeed
from deepfake_detect.training.checkpoint import check_folder
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.loop import fit
from deepfake_detect.training.prepare import Check, prepare_data
from deepfake_detect.training.schedule import Epoch, make_schedule
from deepfake_detect.weights.card import DETECTS, Card
from deepfake_detect.weights.load import save_bundle

logger = logging.getLogger("deepfake_detect")

WHOLE_PICTURES = "none"
"""Face finder on the card of a model that was trained on whole pictures."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingResult:
    """Result of a training.

    Attributes:
        card: Card of the trained weights, calibrated on the validation pictures.
        history: Figures of each epoch.
        audit: Findings of the audit of training and validation pictures; None where there was none.
        census: The faces found in the training pictures, and the pictures left out.
        freeze: What was frozen; see `Schedule`.
    """

    card: Card
    history: tuple[Epoch, ...]
    audit: AuditReport | None
    census: Census
    freeze: str | int | None


def train_model(
    model: torch.nn.Module,
    dataset: Any,
    *,
    card: Card,
    fresh: bool,
    texture: torch.nn.Module | None = None,
    valid: Any = None,
    labels: Mapping[Any, str] | None = None,
    lr: float | None = None,
    augment: str | Augmentation | None = "default",
    faces: FacePolicy | None = None,
    self_blend: float = 0.0,
    check: Check = "warn",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callbacks: Sequence[Callable[[Epoch], Any]] | Callable[[Epoch], Any] = (),
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    backend: Backend = "auto",
    workers: int | None = None,
    **schedule: Any,
) -> TrainingResult:
    """Train a model on a data set, and calibrate its score on pictures that it was not trained on.

    Args:
        model: The initial model; ends with the weights of the best epoch.
        dataset: Anything that `read_dataset` takes. Pictures of a split ``"test"`` are not used.
        card: Card of the initial model; name and preprocessing are kept, everything fitted is replaced.
        fresh: The weights are random, so that the learning rate may be high.
        texture: Network of the card's texture look, which is not trained: its weight is fitted anew on the
            validation pictures.
        valid: Validation data: a data set, or the share of groups to set aside; None takes the split ``"val"`` where
            the data name one, else 15 % of the groups.
        labels: Meaning of unknown labels, ``{"mine": "fake"}``, as for `read_dataset`.
        lr: Highest learning rate; where None, 1e-3 for random weights and for a head alone, else 2e-4.
        augment: Augmentation of the training crops: a name as for `Augmentation.named`, an `Augmentation`, or None.
        faces: How pictures with several faces are used; ``"none"`` trains on whole pictures. None takes the largest
            face, or whole pictures where the card is of a model of those.
        self_blend: Share of real images turned into self-blended fakes, 0 to 1. With any, no fakes are needed.
        check: What the audit does: ``"warn"`` logs findings, ``"strict"`` raises, ``"off"`` skips it.
        out: Folder of the bundle, the state and the history; None keeps nothing. Until the training has ended, the
            bundle has one look.
        resume: Go on from the state in ``out``.
        callbacks: Called after each epoch; see `fit`.
        device: As for `Predictor`.
        dtype: As for `Predictor`; ``"auto"`` is what trains fastest here.
        backend: As for `Predictor`: what scores the validation pictures for the calibration.
        workers: Processes that load; chosen where None.
        **schedule: Fields of `Schedule`.

    Raises:
        DatasetError: The data cannot be read, hold one class only, or are refused by a strict audit.
        TrainingDiverged: The loss was not finite, again and again.
        InvalidOption: An unknown option, or one of the wrong type or out of range; ``resume`` without ``out``; or
            ``out`` holds another training or the weights of a detector.
    """
    folder = _checked_folder(out, resume=resume)
    head_only = schedule.get("freeze") == "backbone"
    default_lr = 1e-3 if fresh or head_only else 2e-4
    settings = make_schedule(lr=default_lr if lr is None else lr, **schedule)
    if faces is None:
        faces = "none" if card.preprocessing.finder == WHOLE_PICTURES else "keep-largest"
    card, look = replace(_for_faces(card, faces), texture=None), card.texture
    with usual_defaults():
        data = prepare_data(
            dataset,
            preprocessing=card.preprocessing,
            valid=valid,
            labels=labels,
            seed=settings.seed,
            faces=faces,
            augment=augment,
            self_blend=self_blend,
            check=check,
            classes=card.classes,
        )
        card = _training_card(card, data.train.samples)
        with contextlib.nullcontext(folder) if folder else _temporary_folder() as run_folder:
            history = fit(
                model,
                data.train,
                valid=data.valid,
                card=card,
                schedule=settings,
                out=run_folder,
                device=device,
                dtype=dtype,
                workers=workers,
                resume=resume,
                callbacks=callbacks,
            )
        if card.classes == DETECTS:
            card = replace(card, texture=look)
            card = _calibrated_card(model, card, data.held, texture=texture, device=device, backend=backend)
        else:
            card = _calibrated_classes(model, card, data.valid, device=device)
        if folder is not None:
            card = save_bundle(model, card, folder, texture=texture, half=False)
    return TrainingResult(
        card=card, history=tuple(history), audit=data.audit, census=data.census, freeze=settings.freeze
    )


def _for_faces(card: Card, faces: FacePolicy) -> Card:
    """Return the card of a model that gets face crops or whole pictures."""
    if faces == "none":
        return replace(card, preprocessing=replace(card.preprocessing, finder=WHOLE_PICTURES))
    if card.preprocessing.finder == WHOLE_PICTURES:  # a model of whole pictures, now trained on faces
        return replace(card, preprocessing=replace(card.preprocessing, finder=PACKAGED))
    return card


def _training_card(card: Card, samples: Sequence[Sample]) -> Card:
    """Return a card with the training data, and without what was true of the old weights only.

    Args:
        card: Card of the initial weights; its uncertain band stays until one is fitted.
        samples: Training samples.
    """
    count = Counter((sample.source or "unnamed", card.classes[sample.label]) for sample in samples)
    lines = tuple(f"{source}: {number} {label} pictures" for (source, label), number in sorted(count.items()))
    known = tuple(line for line in card.training_data if line not in lines)
    return replace(
        card, training_data=known + lines, metrics={}, golden={}, limits=(), calibration={}, sha256="",
        temperature=1.0, bias=0.0, threshold=0.5, hub_repo=None, hub_revision=None, recipe="",
    )  # fmt: skip


def _calibrated_classes(
    model: torch.nn.Module, card: Card, valid: CropDataset | None, *, device: str | torch.device
) -> Card:
    """Fit the temperature of a network with classes of its own on the validation pictures.

    Args:
        model: The trained model.
        card: From `_training_card`.
        valid: Validation pictures, as used by `Classifier.predict`; None where there are none.
        device: As for `Classifier`.

    Returns:
        The card; its temperature stays 1 where fewer than two classes have validation pictures, and
        `Card.calibration` says so.
    """
    labels = [] if valid is None else [sample.label for sample in valid.samples]
    if valid is None or len(set(labels)) < 2:
        logger.warning("the scores are not calibrated: that needs validation pictures of two classes or more")
        return replace(card, calibration={"method": "none", "note": "too few validation pictures"})
    feed, place = CropFeed(valid, preprocessing=card.preprocessing), find_device(device)
    keys = [(index, 0) for index in range(len(labels))]
    with torch.inference_mode():
        logits = torch.cat([model.to(place)(batch.to(place)).float().cpu() for batch, _ in feed.batches(keys, size=32)])
    temperature = fit_class_temperature(labels, logits.numpy())
    facts = {"method": "temperature", "n": len(labels), "note": f"temperature fitted to {len(labels)} pictures"}
    return replace(card, temperature=temperature, calibration=facts)


def _calibrated_card(
    model: torch.nn.Module,
    card: Card,
    held: Sequence[Sample],
    *,
    texture: torch.nn.Module | None,
    device: str | torch.device,
    backend: Backend,
) -> Card:
    """Fit the weight of the texture look and the calibration on the validation pictures, as `predict` scores them.

    Args:
        model: The trained model.
        card: From `_training_card`.
        held: Validation samples.
        texture: As for `train_model`.
        device: As for `Predictor`.
        backend: As for `Predictor`.

    Returns:
        The card; where the pictures are too few, its uncertain band is the one before, and `Card.calibration` says so.
    """
    if len({sample.label for sample in held}) < 2:
        logger.warning("the score is not calibrated: that needs validation pictures of both classes")
        return keep_band(card)
    predictor = Predictor(model=model, card=card, texture=texture, device=device, backend=backend)
    if texture is None:
        return calibrate(predictor, held, method="platt")
    look, facts = fit_looks(predictor, held)
    predictor.card = replace(card, texture=look)
    card = calibrate(predictor, held, method="platt")
    return replace(card, calibration={**card.calibration, "looks": facts})


def _checked_folder(out: Any, *, resume: Any) -> Path | None:
    if not isinstance(resume, bool):
        raise InvalidOption(f"resume is {resume!r}, expected True or False")
    folder = output_folder(out)
    if resume and folder is None:
        raise InvalidOption("resume=True needs out=, the folder of the training to go on with")
    if folder is not None:
        check_folder(folder, resume=resume)
    return folder


def _temporary_folder() -> contextlib.AbstractContextManager[str]:
    return tempfile.TemporaryDirectory(prefix="deepfake-detect-")
