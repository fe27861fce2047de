"""Locate the parts of a face by its five landmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from deepfake_detect.errors import InvalidOption

Points = Sequence[tuple[float, float]]

# The unit is the distance from the eyes to the mouth; the eyes are at (+-0.48, 0), the mouth at (0, 1).
_JAW: Final[Points] = ((0.97, -0.05), (0.94, 0.42), (0.82, 0.9), (0.58, 1.32), (0.25, 1.6), (0.0, 1.66))

OUTLINES: Final[dict[str, Points]] = {
    "face": ((0.0, -0.46), (0.45, -0.5), (0.8, -0.34), *_JAW),
    "head": ((0.0, -1.1), (0.5, -1.0), (0.85, -0.5), *_JAW),
    "inner": ((0.0, -0.42), (0.5, -0.42), (0.82, -0.12), (0.78, 0.25), (0.55, 0.85), (0.45, 1.2), (0.0, 1.3)),
    "lower": ((0.0, 0.3), (0.9, 0.35), *_JAW[2:]),
    "eyes": ((0.0, -0.3), (0.45, -0.4), (0.85, -0.2), (0.85, 0.15), (0.5, 0.26), (0.0, 0.2)),
}
"""Outlines of the left half of a face, from top to bottom, in units of the face."""

OVALS: Final[dict[str, tuple[float, float, float, float]]] = {
    "right eye": (-0.48, -0.07, 0.42, 0.3),
    "left eye": (0.48, -0.07, 0.42, 0.3),
    "nose": (0.0, 0.42, 0.32, 0.42),
    "mouth": (0.0, 1.0, 0.52, 0.3),
}
"""Centre and radii of the single parts, in units of the face; "right" is the person's own."""

PARTS: Final = (*OVALS, "skin", "hair and background")
"""The parts that `part_masks` tells apart."""


def part_masks(landmarks_xy: npt.ArrayLike, size_hw: tuple[int, int]) -> dict[str, npt.NDArray[np.bool_]]:
    """Divide the pixels of a picture among the parts of a face.

    Eyes (with the brows), nose and mouth are ovals; skin is the rest of the area between hairline and chin; everything
    else is hair and background. Where ovals overlap, a pixel belongs to the one whose centre is nearer. The parts are
    derived from five landmarks, not segmented: a fringe counts as skin, a hand before the mouth as mouth.

    Args:
        landmarks_xy: [5, 2] right eye, left eye, nose tip, right and left corner of the mouth, in pixels.
        size_hw: Height and width of the picture.

    Returns:
        A mask [H, W] for each name in `PARTS`; every pixel is in exactly one of them.

    Raises:
        InvalidOption: ``landmarks_xy`` is not [5, 2].

    Example:
        >>> masks = part_masks([(30, 35), (60, 35), (45, 50), (33, 65), (57, 65)], (90, 90))
        >>> [name for name, mask in masks.items() if mask[65, 45]]
        ['mouth']
    """
    points = np.asarray(landmarks_xy, float)
    if points.shape != (5, 2):
        raise InvalidOption(f"landmarks_xy has the shape {points.shape}, expected (5, 2)")
    origin, axes = face_axes(points)
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    units = (np.stack([columns, rows], -1) - origin) @ np.linalg.inv(axes)  # [H, W, 2]
    distances = [((units[..., 0] - x) / a) ** 2 + ((units[..., 1] - y) / b) ** 2 for x, y, a, b in OVALS.values()]
    outline = Image.new("1", (size_hw[1], size_hw[0]))
    corners = face_outline("head", points) @ axes + origin
    ImageDraw.Draw(outline).polygon([(float(x), float(y)) for x, y in corners], fill=1)
    part = np.where(np.asarray(outline), len(OVALS), len(OVALS) + 1)
    part = np.where(np.min(distances, 0) <= 1, np.argmin(distances, 0), part)
    return {name: part == number for number, name in enumerate(PARTS)}


def face_axes(landmarks_xy: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute the coordinate system of the face, in which `OUTLINES` and `OVALS` are given.

    Args:
        landmarks_xy: [5, 2] eyes, nose tip and mouth corners, in pixels.

    Returns:
        The point between the eyes, and the vectors of one unit to the right and one unit down, in pixels [2, 2].
        Neither vector is ever zero, whatever the landmarks.

    Example:
        >>> face_axes([(30, 35), (60, 35), (45, 50), (33, 65), (57, 65)])[1].round(1).tolist()
        [[31.2, 0.0], [0.0, 30.0]]
    """
    points = np.asarray(landmarks_xy, float)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    down, across = mouth - eyes, (points[1] - points[0]) / 0.96
    length = max(4.0, float(np.hypot(*down)))
    down = down if np.hypot(*down) > 1 else np.array([0.0, length])
    least = 0.75 * length  # of a face seen from the side
    if np.hypot(*across) < least:
        across = np.array([down[1], -down[0]]) / np.hypot(*down) * least
    return eyes, np.stack([across, down])


def face_outline(name: str, landmarks_xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return an outline of a face, narrower on the side that is turned away.

    Args:
        name: One of `OUTLINES`.
        landmarks_xy: [5, 2] eyes, nose tip and mouth corners, in pixels.

    Returns:
        [N, 2] in units of the face.
    """
    half = np.array(OUTLINES[name])
    outline = np.concatenate([half, half[-2:0:-1] * (-1, 1)])
    origin, axes = face_axes(landmarks_xy)
    nose, _ = (np.asarray(landmarks_xy, float)[2] - origin) @ np.linalg.inv(axes)
    turned = float(np.clip(nose, -0.4, 0.4))
    outline[:, 0] *= np.where(np.sign(outline[:, 0]) == np.sign(turned), 1 - abs(turned), 1.0)
    return np.asarray(outline)


def oval(name: str, *, corners: int = 16) -> npt.NDArray[np.float64]:
    """Return the outline of a part as a polygon.

    Args:
        name: One of `OVALS`.
        corners: Number of corners.

    Returns:
        [corners, 2] in units of the face.
    """
    x, y, across, down = OVALS[name]
    angle = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], 1)
