"""Fit how the logits of the two looks of a detector are fused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deepfake_detect.datasets.read import Sample
from deepfake_detect.metrics.logistic import fit_logistic
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.weights.texture import TextureLook

logger = logging.getLogger("deepfake_detect")

LEAST = 20
"""Pictures of each class that both looks have scored, below which the weight stays as it is."""

LARGEST = 4.0
"""Largest weight of the texture look, so that a few pictures that it separates do not make it decide alone."""


def fit_fusion(crop: np.ndarray, texture: np.ndarray, label: np.ndarray, *, look: TextureLook) -> TextureLook:
    """Fit the weight of the texture look by a logistic regression in which both classes count the same.

    Args:
        crop: Logits of the crops [N].
        texture: Logits of the texture [N]; nan where it is withheld.
        label: 1 for fake, 0 for real, [N].
        look: Keeps everything but its weight.

    Returns:
        The look with a new weight; unchanged where fewer than `LEAST` pictures of a class have a texture look, or where
        the logit of the crop says nothing.

    Example:
        >>> random = np.random.default_rng(0)
        >>> label = np.arange(400) % 2
        >>> crop, texture = random.normal(label, 1.0), random.normal(2.0 * label, 1.0)
        >>> fit_fusion(crop, texture, label, look=TextureLook(architecture="cnn4")).weight > 1.5
        True
    """
    seen = label[np.isfinite(texture)]
    if min((seen == 1).sum(), (seen == 0).sum()) < LEAST:
        return look
    added = texture - np.clip(texture, *look.unsure)
    (of_crop, of_texture), _ = fit_logistic(np.column_stack([crop, np.nan_to_num(added)]), label)
    return replace(look, weight=min(LARGEST, float(of_texture / of_crop))) if of_crop > 0 else look


def fit_looks(predictor: Predictor, samples: Sequence[Sample]) -> tuple[TextureLook, dict[str, Any]]:
    """Fit the weight of the texture look of a detector on labelled pictures that neither was trained on.

    Args:
        predictor: With two looks.
        samples: The pictures; of each, the face with the highest score counts.

    Returns:
        The look with a new weight, and the facts for `Card.calibration`.
    """
    assert predictor.card.texture is not None
    predictions = predictor.predict_many((sample.image for sample in samples), on_error="yield")
    rows = [
        (prediction.worst.looks["crop"], prediction.worst.looks["texture"], sample.label)
        for prediction, sample in zip(predictions, samples, strict=True)
        if prediction.worst is not None and prediction.worst.looks is not None
    ]
    crop, texture, label = (np.array([row[column] for row in rows], float) for column in range(3))
    look = fit_fusion(crop, texture, label, look=predictor.card.texture)
    count, is_new = int(np.isfinite(texture).sum()), look != predictor.card.texture
    if not is_new:
        logger.warning(
            "the weight of the texture look stays as it was: %d of %d faces have a texture look, at least %d of each "
            "class are needed", count, len(rows), LEAST,
        )  # fmt: skip
    return look, {"n": len(rows), "n_texture": count, "weight": "fitted" if is_new else "kept"}
