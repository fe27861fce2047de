"""Write the card of a trained model: training data, calibration and the uncertain band."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from deepfake_detect.datasets.read import Sample
from deepfake_detect.evaluation.calibration import calibrate, keep_band
from deepfake_detect.metrics.classes import fit_class_temperature
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.system.device import find_device
from deepfake_detect.training.batches import CropFeed
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.weights.card import Card

logger = logging.getLogger("deepfake_detect")


def training_card(card: Card, samples: Sequence[Sample]) -> Card:
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


def calibrated_classes(
    model: torch.nn.Module, card: Card, valid: CropDataset | None, *, device: str | torch.device
) -> Card:
    """Fit the temperature of a network with classes of its own on the validation pictures.

    Args:
        model: The trained model.
        card: From `training_card`.
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


def calibrated_card(model: torch.nn.Module, card: Card, held: Sequence[Sample], *, device: str | torch.device) -> Card:
    """Fit temperature, bias and the uncertain band on the validation pictures, as `predict` scores them.

    Args:
        model: The trained model.
        card: From `training_card`.
        held: Validation samples.
        device: As for `Predictor`.

    Returns:
        The card; where the pictures are too few, its uncertain band is the one before, and `Card.calibration` says so.
    """
    if len({sample.label for sample in held}) < 2:
        logger.warning("the score is not calibrated: that needs validation pictures of both classes")
        return keep_band(card)
    return calibrate(Predictor(model=model, card=card, device=device), held, method="platt")
