"""Colour heat maps, and lay them over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[float, float, float, float]

_LIGHTNESS, _CHROMA = (0.3, 0.93), 0.155  # in Oklab; a chroma that sRGB has all the way
_HUE = (-1.2, 1.85)  # radians: violet, red, orange, yellow
_TO_LMS: Final = (
    (1, 0.3963377774, 0.2158037573),
    (1, -0.1055613458, -0.0638541728),
    (1, -0.0894841775, -1.2914855480),
)
_TO_RGB: Final = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
_PAINT = (0.4, 0.75)  # how much the colour covers, from cold to hot
_GREY = (0.299, 0.587, 0.114)


def heat_colours(heat: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Map heat to colours, from a dark violet over red and orange to a light yellow.

    Equal steps of heat are equal steps of lightness as people see it (Ottosson's Oklab), so that no edge shows where
    the heat has none, and it reads the same in grey and with any kind of colour vision.

    Args:
        heat: Any shape, 0..1.

    Returns:
        uint8 RGB, with an axis of 3 at the end.

    Example:
        >>> heat_colours([0.0, 1.0]).tolist()
        [[52, 11, 115], [246, 238, 103]]
    """
    share = np.clip(np.asarray(heat, float), 0, 1)
    lightness, hue = (low + share * (high - low) for low, high in (_LIGHTNESS, _HUE))
    lab = np.stack([lightness, _CHROMA * np.cos(hue), _CHROMA * np.sin(hue)], -1)
    linear = np.clip((lab @ np.transpose(_TO_LMS)) ** 3 @ np.transpose(_TO_RGB), 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * encoded), np.uint8)


def lay_over(pixels: np.ndarray, heat: np.ndarray, *, squares: Sequence[Box] | None = None) -> Image.Image:
    """Lay heat over a picture.

    Args:
        pixels: [H, W, 3] uint8 RGB; shown in grey.
        heat: [H, W], 0..1.
        squares: The crops that the model saw, in pixels; the rest stays grey. None colours all of it.

    Returns:
        RGB picture of the same size.
    """
    share = np.clip(heat, 0, 1)[..., None]
    cover = _PAINT[0] + share * (_PAINT[1] - _PAINT[0])
    if squares is not None:
        inside = np.zeros((*heat.shape, 1), bool)
        for x1, y1, x2, y2 in squares:
            inside[max(0, round(y1)) : round(y2), max(0, round(x1)) : round(x2)] = True
        cover = np.where(inside, cover, 0)
    grey = (pixels @ np.array(_GREY))[..., None]
    return Image.fromarray(np.round(grey * (1 - cover) + heat_colours(heat) * cover).astype(np.uint8))


def colour_bar(width: int, height: int) -> Image.Image:
    """Draw the colours from no heat on the left to all of it on the right."""
    return Image.fromarray(np.repeat(heat_colours(np.linspace(0, 1, width))[None], height, axis=0))
