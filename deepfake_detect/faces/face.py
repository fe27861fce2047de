"""A face: its box, landmarks and, once scored, its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

FaceLabel = Literal["real", "fake", "uncertain"]
"""The verdict on a face."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """One face and, once scored, its verdict.

    Attributes:
        box_xyxy: Left, top, right, bottom, in pixels of the upright original.
        landmarks_xy: [5, 2] float32, in the same pixels: right eye, left eye, nose tip, right and left corner of
            the mouth, "right" being the person's own. Empty, [0, 2], where the whole picture stands for a face.
        confidence: How sure the finder is that this is a face, 0..1.
        score: Calibrated probability that the face is fake, 0..1; None where nobody scored it.
        logit: What the model said; positive means fake.
        label: ``"real"``, ``"fake"`` or ``"uncertain"``.
        looks: Of a detector with two looks, ``"crop"`` and ``"texture"`` to the logit of each, None where it was
            withheld; ``logit`` is what the card makes of them. None for a detector with one look.
    """

    box_xyxy: tuple[float, float, float, float]
    landmarks_xy: npt.NDArray[np.float32]
    confidence: float
    score: float | None = None
    logit: float | None = None
    label: FaceLabel | None = None
    looks: Mapping[str, float | None] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the face as plain JSON values."""
        looks = {} if self.looks is None else {"looks": dict(self.looks)}
        return {
            "box_xyxy": [float(value) for value in self.box_xyxy],
            "landmarks_xy": np.asarray(self.landmarks_xy).tolist(),
            "confidence": float(self.confidence),
            "score": None if self.score is None else float(self.score),
            "logit": None if self.logit is None else float(self.logit),
            "label": self.label,
            **looks,
        }


def worst_face(faces: Iterable[Face]) -> Face | None:
    """Return the face with the highest score, and of those the highest logit; the first of equals, None without any."""
    return max(faces, key=_severity, default=None)


def _severity(face: Face) -> tuple[float, float]:
    return (0.0 if face.score is None else face.score, -math.inf if face.logit is None else face.logit)


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over the union of two boxes, 0..1.

    Example:
        >>> overlap((0, 0, 2, 2), (1, 0, 3, 2))
        0.3333333333333333
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    whole = sum(areas) - shared
    return shared / whole if whole > 0 else 0.0
