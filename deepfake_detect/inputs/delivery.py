"""Change a picture as its delivery would: compressed, shrunk, blurred, cropped or photographed from a screen.

Messengers, pages and people re-encode, shrink, blur, cut and photograph a screen before a picture arrives. Each
function takes [H, W, 3] uint8 RGB and gives what arrives, the same each time. Two named sets of them are measured with:
`STABILITY` on one picture, `ROBUSTNESS` on a test set.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image, ImageFilter

from deepfake_detect.errors import ImageTooLarge

Delivery = Callable[[np.ndarray], np.ndarray]
"""Makes of [H, W, 3] uint8 RGB what arrives of it."""

_SIDE_LIMITS = {"JPEG": 65_500, "WEBP": 16_383}


def unchanged(pixels: np.ndarray) -> np.ndarray:
    """Deliver the picture as it is.

    Args:
        pixels: [H, W, 3] uint8 RGB; so for all that follow.

    Returns:
        A copy.
    """
    return np.array(pixels)


def jpeg(pixels: np.ndarray, *, quality: int) -> np.ndarray:
    """Save as JPEG with colour at half resolution, as cameras and messengers do, and open it again.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        quality: 1 to 95, in the tables of libjpeg.

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
    """Save as lossy WebP, as pages do, and open it again.

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
    """Make the picture smaller and leave it so: half the side is a quarter of the pixels.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        scale: Of either side; at least one pixel is left.

    Returns:
        [H * scale, W * scale, 3] uint8 RGB, rounded.
    """
    return np.array(_scaled(pixels, scale, Image.Resampling.LANCZOS))


def blur(pixels: np.ndarray, *, share: float = 0.004) -> np.ndarray:
    """Blur with a Gaussian, as an unsteady hand or a cheap lens does.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        share: Deviation, as a share of the shorter side: 2 pixels of 512.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(share * min(pixels.shape[:2]))))


def crop_picture(pixels: np.ndarray, *, keep: float = 0.8) -> np.ndarray:
    """Cut off the edges, the same on opposite sides.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        keep: Share of either side that is kept; at least one pixel is left.

    Returns:
        [H * keep, W * keep, 3] uint8 RGB, rounded: pixels of the original, none changed.
    """
    height, width = (max(1, round(side * keep)) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.array(pixels[top : top + height, left : left + width])


def screenshot(pixels: np.ndarray, *, scale: float = 0.83, gamma: float = 1.06, border: float = 0.0) -> np.ndarray:
    """Show the picture on a screen and keep what the screen shows.

    The screen fits it with bilinear resampling by a factor that is no whole one, so that no grid of an earlier
    compression survives; its colour profile bends the tones by a gamma and takes 3 % of the contrast; around it may
    lie a strip of the page. The copy is an 8-bit PNG, which loses nothing but the rounding.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        scale: Of either side on the screen.
        gamma: Exponent of the tones 0..1; above 1 is darker.
        border: Width of the strip of the page, a light grey, as a share of the shorter side.

    Returns:
        uint8 RGB, [H * scale, W * scale, 3] and the strip.
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
"""What one picture may meet on its way, in the order in which it is shown."""

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
"""What a test set is measured under."""


def _encoded(pixels: np.ndarray, format_name: str, **how: int | str) -> np.ndarray:
    limit = _SIDE_LIMITS[format_name]
    if max(pixels.shape[:2]) > limit:
        height, width = pixels.shape[:2]
        raise ImageTooLarge(f"{width} x {height} pixels, {format_name} holds {limit} a side; make the picture smaller")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_name, **how)
    return np.array(Image.open(file).convert("RGB"))


def _scaled(pixels: np.ndarray, scale: float, kind: Image.Resampling) -> Image.Image:
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return Image.fromarray(pixels).resize((width, height), kind)
