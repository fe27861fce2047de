"""Classify what a picture shows: an animal, a face, a vehicle, or something else."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deepfake_detect.drawing.result import Result
from deepfake_detect.engines.runner import Runner
from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.faces.crop import crop_square, whole_picture
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.inputs.image import ImageInput, name_image, open_image
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.weights.bundle import CONTENT, find_bundle
from deepfake_detect.weights.card import Card

LEAST_FACE = 0.15
"""Least side of a face, as a share of the picture's shorter side, that may make it a picture of a face."""

AROUND = 2.0
"""Side of the square around such a face that is classified, in longer sides of its box: as in the training data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content(Result):
    """What a picture shows, as a whole: what `classify_content` and a `Classifier` say.

    Attributes:
        label: The class of the highest score; of `classify_content`, ``"animal"``, ``"face"``, ``"vehicle"`` or
            ``"other"``.
        scores: Probability of each class, 0..1; they sum to 1.
        size_hw: Height and width of the picture, in pixels.
        model: ``"content-classes@1"``, or the name and version of a classifier.
    """

    label: str
    scores: dict[str, float]
    size_hw: tuple[int, int]
    model: str

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain Python values."""
        return {**asdict(self), "size_hw": list(self.size_hw)}

    def __repr__(self) -> str:
        return f"Content({self.label!r}, {self.scores[self.label]:.3f}, model={self.model!r})"


def classify_content(image: ImageInput | None) -> Content:
    """Classify what a picture shows; detectors of face forgeries give no score for a lorry.

    The whole picture is scaled to a square and classified on the CPU. Where the result is not ``"face"``, but the face
    finder finds a face of at least `LEAST_FACE` of the picture's shorter side, the square around that face is
    classified, too; if that gives ``"face"``, it is the result. The first call loads the network.

    Args:
        image: As for `Predictor.predict`.

    Returns:
        The class with the highest score, and all scores.

    Raises:
        ImageUnreadable: Not a picture; the message says what was found.
        ImageTooLarge: More pixels than the limit.

    Example:
        >>> classify_content("examples/portrait.jpg").label
        'face'
    """
    card = _classifier()[1]
    picture = open_image(image, min_side_px=2 * card.preprocessing.size_px)
    logits = content_logits(picture.pixels)
    if max(logits, key=lambda name: logits[name]) != "face":
        logits = _closer(picture.pixels) or logits
    return content_of(logits, card=card, size_hw=picture.size_hw, name=name_image(image))


def content_of(logits: Mapping[str, float], *, card: Card, size_hw: tuple[int, int], name: str) -> Content:
    """Turn the logits of a picture into its class, and into scores by a softmax with the temperature of the card.

    Args:
        logits: Of each class.
        card: Of the network.
        size_hw: Height and width of the picture, in pixels.
        name: Of the picture, for the error message.

    Raises:
        WeightsMismatch: A logit is not finite.
    """
    if not all(math.isfinite(logit) for logit in logits.values()):
        raise WeightsMismatch(
            f"{card.id} gives logits that are not finite for {name}; run `deepfake-detect doctor` to check the weights"
        )
    highest = max(logits.values())
    weight = {name: math.exp((logit - highest) / card.temperature) for name, logit in logits.items()}
    return Content(
        label=max(logits, key=lambda name: logits[name]),
        scores={name: value / sum(weight.values()) for name, value in weight.items()},
        size_hw=size_hw,
        model=card.id,
    )


def content_classes() -> tuple[str, ...]:
    """Return the classes of `classify_content`.

    Example:
        >>> content_classes()
        ('animal', 'face', 'vehicle', 'other')
    """
    return find_bundle(CONTENT).card.classes


def content_logits(pixels: np.ndarray) -> dict[str, float]:
    """Return the packaged network's logit for each class.

    Args:
        pixels: [H, W, 3] uint8 RGB, the whole picture.

    Example:
        >>> list(content_logits(np.zeros((64, 64, 3), np.uint8)))
        ['animal', 'face', 'vehicle', 'other']
    """
    network, card = _classifier()
    preprocessing = card.preprocessing
    crop = whole_picture(pixels, size_px=preprocessing.size_px, interpolation=preprocessing.interpolation)
    (logits,) = network(normalise([crop], preprocessing=preprocessing))
    return dict(zip(card.classes, logits.tolist(), strict=True))


def _closer(pixels: np.ndarray) -> dict[str, float] | None:
    """Return the logits of the square around the largest face, where that is classified as a face; else None."""
    height, width = pixels.shape[:2]
    faces = _finder().find(pixels)
    if not faces:
        return None
    x1, y1, x2, y2 = faces[0].box_xyxy
    if max(x2 - x1, y2 - y1) < LEAST_FACE * min(height, width):
        return None
    left, top, right, bottom = crop_square(faces[0].box_xyxy, margin=AROUND, size_hw=(height, width))
    logits = content_logits(pixels[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)])
    return logits if max(logits, key=lambda name: logits[name]) == "face" else None


@functools.cache
def _finder() -> FaceFinder:
    return FaceFinder()


@functools.cache
def _classifier() -> tuple[Runner, Card]:
    bundle = find_bundle(CONTENT)
    return Runner(bundle, device="cpu"), bundle.card
