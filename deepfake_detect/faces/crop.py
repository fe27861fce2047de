"""Cut the square around a face, or a whole picture, and scale it to a model's input."""

from __future__ import annotations

import numpy as np

from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.inputs.resize import Box, resample


def crop_square(
    box_xyxy: tuple[float, float, float, float], *, margin: float, size_hw: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Choose the square around a face that a model sees.

    Its side is ``margin`` times the longer side of the box. A square that would leave the picture is
    moved inside, and made smaller only where the picture itself is: no pixel is made up.

    Args:
        box_xyxy: The face, in pixels.
        margin: From the card.
        size_hw: Height and width of the picture.

    Returns:
        The square as a box, in pixels.

    Example:
        >>> crop_square((40, 40, 60, 60), margin=2.0, size_hw=(100, 100))
        (30.0, 30.0, 70.0, 70.0)
        >>> crop_square((0, 0, 20, 20), margin=2.0, size_hw=(100, 100))
        (0.0, 0.0, 40.0, 40.0)
    """
    x1, y1, x2, y2 = box_xyxy
    height, width = size_hw
    side = max(1.0, min(margin * max(x2 - x1, y2 - y1), height, width))
    left = min(max((x1 + x2 - side) / 2, 0.0), width - side)
    top = min(max((y1 + y2 - side) / 2, 0.0), height - side)
    return left, top, left + side, top + side


def crop_face(
    pixels: np.ndarray,
    box_xyxy: tuple[float, float, float, float],
    *,
    margin: float,
    size_px: int,
    interpolation: str = "bicubic",
) -> np.ndarray:
    """Cut the square around a face and scale it to a model's input: the same in training and in use.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        box_xyxy: The face, in pixels.
        margin: From the card.
        size_px: Side of the result.
        interpolation: As on the card; see `resample`.

    Returns:
        [size_px, size_px, 3] uint8 RGB.
    """
    _refuse_empty(pixels)
    height, width = pixels.shape[:2]
    square = crop_square(box_xyxy, margin=margin, size_hw=(height, width))
    return _scale_part(pixels, square, size_px, interpolation)


def whole_picture(pixels: np.ndarray, *, size_px: int, interpolation: str = "bicubic") -> np.ndarray:
    """Scale a whole picture to a model's input, its proportions given up where it is no square.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        size_px: Side of the result.
        interpolation: As for `crop_face`.

    Returns:
        [size_px, size_px, 3] uint8 RGB.
    """
    _refuse_empty(pixels)
    return resample(pixels, size_px=size_px, interpolation=interpolation)


def _scale_part(pixels: np.ndarray, box: Box, size_px: int, interpolation: str) -> np.ndarray:
    """Scale a part, without a look at what the filter does not see."""
    height, width = pixels.shape[:2]
    reach = 3 + int(3 * max(box[2] - box[0], box[3] - box[1]) / size_px)  # what the filter sees beyond the box
    left, top = max(0, int(box[0]) - reach), max(0, int(box[1]) - reach)
    right, bottom = min(width, int(box[2]) + reach + 1), min(height, int(box[3]) + reach + 1)
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return resample(pixels[top:bottom, left:right], inner, size_px=size_px, interpolation=interpolation)


def _refuse_empty(pixels: np.ndarray) -> None:
    if min(pixels.shape[:2]) < 1:
        raise ImageUnreadable(f"the picture has shape {pixels.shape}, expected at least one pixel")
