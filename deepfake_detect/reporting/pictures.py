"""Draw the pictures of a report: faces framed, faces cut out, and the heat map; reduced, so that a page stays small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from deepfake_detect.drawing.annotate import COLOURS, draw_faces
from deepfake_detect.drawing.heatmap import lay_over
from deepfake_detect.explain.explanation import Explanation, FaceHeat
from deepfake_detect.faces.crop import crop_square
from deepfake_detect.faces.face import Box, Face

OVERVIEW_PX: Final = 960
"""Longer side of the picture on the page; a larger one is made smaller."""

CROP_PX: Final = 160
"""Side of a face on the page."""

HEAT_PX: Final = 360
"""Side of the heat map on the page."""

MOST_CROPS: Final = 24
"""Faces that are shown one by one; of more, the rest is in the case file."""

THUMB_PX: Final = 144
"""Longer side of a picture on the index."""

_MARGIN = 1.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportPictures:
    """The pictures of a report; all RGB.

    Attributes:
        overview: The whole picture, faces framed.
        thumb: The decisive face, or the whole picture, for the index.
        crops: One for each face, up to `MOST_CROPS`; none for a picture that was scored as a whole.
        heat: The decisive face as the model saw it, and the same under its heat; None without an explanation.
    """

    overview: Image.Image = field(repr=False)
    thumb: Image.Image = field(repr=False)
    crops: tuple[Image.Image, ...] = field(default=(), repr=False)
    heat: tuple[Image.Image, Image.Image] | None = field(default=None, repr=False)


def draw_pictures(
    pixels: npt.NDArray[np.uint8], faces: Sequence[Face], *, explanation: Explanation | None = None
) -> ReportPictures:
    """Draw the pictures of a report.

    Args:
        pixels: [H, W, 3] uint8 RGB, upright.
        faces: Scored, boxes in these pixels.
        explanation: Of the same picture.

    Returns:
        Reduced pictures.
    """
    found = [face for face in faces if len(face.landmarks_xy)]
    decisive = explanation.decisive if explanation is not None else None
    return ReportPictures(
        overview=draw_overview(pixels, found),
        thumb=draw_thumb(pixels, [face.to_dict() for face in found]),
        crops=tuple(_cut_out(pixels, face.box_xyxy, CROP_PX) for face in found[:MOST_CROPS]),
        heat=None if decisive is None else _draw_heat(pixels, decisive),
    )


def draw_overview(pixels: npt.NDArray[np.uint8], faces: Sequence[Face]) -> Image.Image:
    """Draw a picture with its faces framed, each with its label and score, and its number where there are several."""
    image, scale = _reduced(pixels, OVERVIEW_PX)
    return draw_faces(
        np.asarray(image),
        boxes=[_scaled(face.box_xyxy, scale) for face in faces],
        captions=[_caption(face, number if len(faces) > 1 else 0) for number, face in enumerate(faces, start=1)],
        colours=[COLOURS.get(face.label or "", COLOURS["uncertain"]) for face in faces],
    )


def draw_thumb(pixels: npt.NDArray[np.uint8], faces: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Cut out the face with the highest score, or reduce the whole picture where there is none.

    Args:
        pixels: [H, W, 3] uint8 RGB, upright.
        faces: `Face.to_dict` of each, boxes in these pixels.
    """
    found = [face for face in faces if face["landmarks_xy"]]
    if not found:
        return _reduced(pixels, THUMB_PX)[0]
    return _cut_out(pixels, max(found, key=lambda face: face["score"] or 0.0)["box_xyxy"], THUMB_PX)


def _caption(face: Face, number: int) -> str:
    verdict = f"{face.label or 'face'}" + ("" if face.score is None else f" {face.score:.3f}")
    return f"{number}: {verdict}" if number else verdict


def _scaled(box: Box, scale: float) -> Box:
    left, top, right, bottom = (scale * side for side in box)
    return left, top, right, bottom


def _reduced(pixels: npt.NDArray[np.uint8], most_px: int) -> tuple[Image.Image, float]:
    """Return a picture whose longer side has at most so many pixels, and the scale; never enlarged."""
    image = Image.fromarray(pixels)
    scale = min(1.0, most_px / max(image.size))
    if scale == 1.0:
        return image, scale
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0), scale


def _cut_out(pixels: npt.NDArray[np.uint8], box: Box, side_px: int) -> Image.Image:
    square = crop_square(box, margin=_MARGIN, size_hw=pixels.shape[:2])
    return _resized(pixels, square, side_px)


def _draw_heat(pixels: npt.NDArray[np.uint8], face: FaceHeat) -> tuple[Image.Image, Image.Image]:
    crop = _resized(pixels, face.crop_xyxy, HEAT_PX)
    heat = Image.fromarray(face.heat.astype(np.float32)).resize(crop.size, Image.Resampling.BILINEAR)
    return crop, lay_over(np.asarray(crop), np.asarray(heat))


def _resized(pixels: npt.NDArray[np.uint8], box: Box, side_px: int) -> Image.Image:
    """Cut a box out, its longer side scaled to so many pixels."""
    left, top, right, bottom = box[0], box[1], min(box[2], pixels.shape[1]), min(box[3], pixels.shape[0])  # rounding
    scale = side_px / max(right - left, bottom - top)
    size = (max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top))))
    return Image.fromarray(pixels).resize(
        size, Image.Resampling.BICUBIC, box=(left, top, right, bottom), reducing_gap=3.0
    )
