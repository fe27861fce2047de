"""Change a picture as its delivery would: compressed, shrunk, blurred, cropped or photographed from a screen.

Messengers, web pages and people compress, shrink, blur, crop and screenshot pictures before they arrive. Each function
takes [H, W, 3] uint8 RGB and returns the picture that arrives; none is random. There are two named sets: `STABILITY`
for a single picture and `ROBUSTNESS` for a test set.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from PIL import Image, ImageFilter

from deepfake_detect.errors import ImageTooLarge
from deepfake_detect.inputs.formats import named_errors, open_file

Delivery = Callable[[np.ndarray], np.ndarray]
"""Maps [H, W, 3] uint8 RGB to the picture that arrives, also uint8 RGB."""

_SIDE_LIMITS = {"JPEG": 65_500, "WEBP": 16_383}


def unchanged(pixels: np.ndarray) -> np.ndarray:
    """Return a copy of the picture.

    Args:
        pixels: [H, W, 3] uint8 RGB.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    return np.array(pixels)


def jpeg(pixels: np.ndarray, *, quality: int) -> np.ndarray:
    """Encode as JPEG with colour at half resolution, as cameras and messengers do, and decode again.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        quality: 1 to 95, on the scale of libjpeg.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        ImageTooLarge: A side is longer than the format allows.

    Example:
        >>> grey = np.full((40, 60, 3), 128, np.uint8)
        >>> jpeg(grey, quality=60).shape
        (40, 60, 3)
    """
    return _encoded(pixels, "JPEG", quality=quality, subsampling="4:2:0")


def webp(pixels: np.ndarray, *, quality: int = 75) -> np.ndarray:
    """Encode as lossy WebP, as web pages do, and decode again.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        quality: 0 to 100.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        ImageTooLarge: A side is longer than the format allows.
    """
    return _encoded(pixels, "WEBP", quality=quality)


def resize_picture(pixels: np.ndarray, *, scale: float = 0.5) -> np.ndarray:
    """Shrink the picture with a Lanczos filter.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        scale: Factor of both sides; at least one pixel is left.

    Returns:
        [H * scale, W * scale, 3] uint8 RGB, rounded.
    """
    return np.array(_scaled(pixels, scale, Image.Resampling.LANCZOS))


def blur(pixels: np.ndarray, *, share: float = 0.004) -> np.ndarray:
    """Blur with a Gaussian, as an unsteady hand or a cheap lens does.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        share: Standard deviation as a share of the shorter side; the default is 2 pixels of 512.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(share * min(pixels.shape[:2]))))


def crop_picture(pixels: np.ndarray, *, keep: float = 0.8) -> np.ndarray:
    """Crop the picture to its centre.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        keep: Share of both sides that is kept; at least one pixel is left.

    Returns:
        [H * keep, W * keep, 3] uint8 RGB, rounded: unchanged pixels of the original.
    """
    height, width = (max(1, round(side * keep)) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.array(pixels[top : top + height, left : left + width])


def screenshot(pixels: np.ndarray, *, scale: float = 0.83, gamma: float = 1.06, border: float = 0.0) -> np.ndarray:
    """Change the picture as a screenshot of it would.

    The screen scales it by bilinear resampling with a factor that is not a whole number, so that no block grid of an
    earlier compression survives; its colour profile applies a gamma and reduces the contrast by 3 %; a strip of the web
    page may surround it. The result is rounded to 8 bits and not compressed.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        scale: Factor of both sides.
        gamma: Exponent of the tones 0..1; above 1 is darker.
        border: Width of the light grey strip of the web page, as a share of the shorter side.

    Returns:
        [H * scale + 2 * strip, W * scale + 2 * strip, 3] uint8 RGB, rounded.
    """
    shown = _scaled(pixels, scale, Image.Resampling.BILINEAR)
    tones = (np.arange(256) / 255) ** gamma * 0.97 + 0.015
    table = np.round(255 * tones).clip(0, 255).astype(np.uint8)
    strip = round(border * min(shown.size))
    return np.pad(table[np.asarray(shown)], ((strip, strip), (strip, strip), (0, 0)), constant_values=242)


STABILITY: Final[Mapping[str, Delivery]] = MappingProxyType(
    {
        "original": unchanged,
        "jpeg90": partial(jpeg, quality=90),
        "jpeg60": partial(jpeg, quality=60),
        "jpeg40": partial(jpeg, quality=40),
        "half": resize_picture,
        "webp": webp,
        "crop": crop_picture,
        "screenshot": screenshot,
    }
)
"""Deliveries that the stability of a single verdict is measured under, in the order in which they are shown."""

ROBUSTNESS: Final[Mapping[str, Delivery]] = MappingProxyType(
    {
        "clean": unchanged,
        "jpeg75": partial(jpeg, quality=75),
        "jpeg50": partial(jpeg, quality=50),
        "jpeg30": partial(jpeg, quality=30),
        "half": resize_picture,
        "webp": webp,
        "blur": blur,
        "screenshot": screenshot,
    }
)
"""Deliveries that a test set is measured under."""


def _encoded(pixels: np.ndarray, format_name: str, **options: int | str) -> np.ndarray:
    limit = _SIDE_LIMITS[format_name]
    if max(pixels.shape[:2]) > limit:
        height, width = pixels.shape[:2]
        raise ImageTooLarge(f"{width} x {height} pixels, {format_name} holds {limit} a side; make the picture smaller")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_name, **options)
    with named_errors("the copy", format_name):
        copy: Any = open_file(file, file.getvalue()[:64], format_name)  # without the pixel limit of Image.open
        return np.array(copy.convert("RGB"))


def _scaled(pixels: np.ndarray, scale: float, kind: Image.Resampling) -> Image.Image:
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return Image.fromarray(pixels).resize((width, height), kind)
