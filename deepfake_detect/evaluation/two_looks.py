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
"""Pictures of each class that both looks have scored, below which the weights stay as they are."""

_LARGEST = 100.0  # of a weight, where the classes are separable


def fit_fusion(crop: np.ndarray, texture: np.ndarray, label: np.ndarray, *, look: TextureLook) -> TextureLook:
    """Fit the weights of the looks by a logistic regression in which both classes count the same.

    Those for both looks are fitted on the faces that both have scored; those for the crop alone on all faces. Either
    way the result is a log-odds, so that faces with and without the texture look can be compared.

    Args:
        crop: Logits of the crops [N].
        texture: Logits of the texture [N]; nan where it is withheld.
        label: 1 for fake, 0 for real, [N].
        look: Keeps everything but its weights.

    Returns:
        The look with new weights; unchanged where the pictures of a class are fewer than `LEAST`.

    Example:
        >>> random = np.random.default_rng(0)
        >>> label = np.arange(400) % 2
        >>> crop, texture = random.normal(label, 1.0), random.normal(2.0 * label, 1.0)
        >>> look = fit_fusion(crop, texture, label, look=TextureLook(architecture="cnn4"))
        >>> look.texture_weight > look.crop_weight > 0.5
        True
    """
    both = np.isfinite(texture)
    if not (_has_enough(label[both]) and _has_enough(label)):
        return look
    (crop_weight, texture_weight), bias = fit_logistic(np.column_stack([crop, texture])[both], label[both])
    (alone_weight,), alone_bias = fit_logistic(crop[:, None], label)
    return replace(
        look,
        crop_weight=min(_LARGEST, float(crop_weight)),
        texture_weight=min(_LARGEST, float(texture_weight)),
        bias=bias,
        alone_weight=min(_LARGEST, max(1e-3, float(alone_weight))),
        alone_bias=alone_bias,
    )


def fit_looks(predictor: Predictor, samples: Sequence[Sample]) -> tuple[TextureLook, dict[str, Any]]:
    """Fit the weights of the looks of a detector on labelled pictures that neither was trained on.

    Args:
        predictor: With two looks.
        samples: The pictures; of each, the face with the highest score counts.

    Returns:
        The look with new weights, and the facts for `Card.calibration`.
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
            "the weights of the two looks stay as they were: %d of %d faces have a texture look, at least %d of each "
            "class are needed", count, len(rows), LEAST,
        )  # fmt: skip
    return look, {"n": len(rows), "n_texture": count, "weights": "fitted" if is_new else "kept"}


def _has_enough(label: np.ndarray) -> bool:
    return bool(min((label == 1).sum(), (label == 0).sum()) >= LEAST)
