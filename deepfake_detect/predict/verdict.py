"""Turn logits into scores and labels, as the card says, and those into the verdict on a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.faces.face import Face, FaceLabel, worst_face
from deepfake_detect.predict.look import Look
from deepfake_detect.predict.prediction import Prediction, Settings
from deepfake_detect.weights.card import Card

if TYPE_CHECKING:
    import torch

_Number = TypeVar("_Number", float, np.ndarray, "torch.Tensor")


class FaceLogits(NamedTuple):
    """The logits of a face by each look; positive means fake.

    Attributes:
        crop: Of the face crop.
        texture: Mean over its patches; None where the texture look is withheld or there is none.
    """

    crop: float
    texture: float | None = None


def judge(logit: float, *, card: Card, threshold: float | None = None) -> tuple[float, FaceLabel]:
    """Turn a logit into a score and a label, as the card says.

    Args:
        logit: From the model.
        card: Gives temperature, bias, threshold and uncertain interval.
        threshold: In place of the card's; the card's uncertain interval is then left aside.

    Returns:
        The calibrated probability of fake in 0..1, and ``"fake"`` where it reaches the threshold,
        ``"uncertain"`` inside the card's open interval, else ``"real"``.

    Raises:
        WeightsMismatch: The logit is infinite or not a number.

    Example:
        >>> from deepfake_detect import Preprocessing
        >>> card = Card(name="a", version=1, architecture="meso4", preprocessing=Preprocessing(size_px=256))
        >>> judge(0.0, card=card)
        (0.5, 'fake')
    """
    if not math.isfinite(logit):
        raise WeightsMismatch(
            f"{card.id} gave the logit {logit}, expected a finite number; "
            "use dtype='float32', or run `deepfake-detect doctor` to check the weights"
        )
    score = _sigmoid(calibrate_logit(logit, card=card))
    if threshold is None and card.uncertain is not None and card.uncertain[0] < score < card.uncertain[1]:
        return score, "uncertain"
    return score, "fake" if score >= (card.threshold if threshold is None else threshold) else "real"


def calibrate_logit(logit: _Number, *, card: Card) -> _Number:
    """Apply the card's calibration (Platt 1999): the sigmoid of the result is the score.

    Args:
        logit: A number, an array or a tensor of logits.
        card: Gives temperature and bias.

    Returns:
        ``logit / temperature + bias``, of the same type.

    Example:
        >>> from deepfake_detect import Preprocessing
        >>> card = Card(name="a", version=1, architecture="meso4", preprocessing=Preprocessing(size_px=256))
        >>> calibrate_logit(3.0, card=card)
        3.0
    """
    return logit / card.temperature + card.bias


def fuse_logits(crop: _Number, texture: float | None, *, card: Card) -> _Number:
    """Fuse the logits of the looks, as the card says.

    Args:
        crop: Of the face crop: a number, an array or a tensor.
        texture: Of the patches; None where the texture look is withheld or there is none.
        card: Of the detector.

    Returns:
        The logit that is calibrated and judged; that of the crop for a detector with one look.
    """
    return crop if card.texture is None else card.texture.fuse(crop, texture)


def judge_face(face: Face, logits: FaceLogits, *, card: Card, threshold: float | None = None) -> Face:
    """Return a face with its verdict.

    Args:
        face: Without one.
        logits: Of its looks.
        card: Fuses and calibrates them.
        threshold: In place of the card's.

    Raises:
        WeightsMismatch: A logit is infinite or not a number.
    """
    logit = fuse_logits(logits.crop, logits.texture, card=card)
    score, label = judge(logit, card=card, threshold=threshold)
    looks = None if card.texture is None else logits._asdict()
    return replace(face, logit=logit, score=score, label=label, looks=looks)


def compose_prediction(
    look: Look,
    logits: Sequence[FaceLogits],
    *,
    card: Card,
    revision: str | None = None,
    threshold: float | None = None,
    seconds: float = 0.0,
    backend: str = "torch",
    dtype: str = "float32",
) -> Prediction:
    """Make a prediction of the faces of a picture and their logits.

    Args:
        look: The faces.
        logits: Of each face.
        card: Turns logits into scores and labels.
        revision: Named in the prediction.
        threshold: In place of the card's.
        seconds: Named in the prediction, as are the others.
        backend: See `Prediction`.
        dtype: See `Prediction`.

    Returns:
        The verdict; the face with the highest score decides it.

    Raises:
        WeightsMismatch: A logit is infinite or not a number.
    """
    faces = tuple(
        judge_face(face, each, card=card, threshold=threshold) for face, each in zip(look.faces, logits, strict=True)
    )
    worst = worst_face(faces)
    return Prediction(
        name=look.name,
        source=look.source,
        size_hw=look.size_hw,
        label=(worst.label or "no-face") if worst else "no-face",
        score=worst.score if worst else None,
        logit=worst.logit if worst else None,
        faces=faces,
        threshold=card.threshold if threshold is None else threshold,
        model=card.id,
        revision=revision,
        seconds=seconds,
        backend=backend,
        dtype=dtype,
        settings=Settings(card=card, faces=look.choice, threshold=threshold),
        fingerprint=look.fingerprint,
    )


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
