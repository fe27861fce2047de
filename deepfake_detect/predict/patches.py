"""Cut patches out of a face at the pixels of the original, for the texture look, and measure their detail."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from deepfake_detect.faces.face import Box
from deepfake_detect.weights.texture import TextureLook

PLACES = (
    (0.5, 0.5), (0.2, 0.2), (0.2, 0.8), (0.85, 0.5), (0.85, 0.1), (0.85, 0.9), (0.1, 0.5), (0.5, 0.1), (0.5, 0.9),
)  # fmt: skip
"""Where in the face box patches lie, down and across, as shares of the way that a patch can go: first its middle, then
about the eyes and the mouth."""

LEAST_STEP = 0.125
"""Patches lie at least so far apart in one direction, in sides of a patch; a place nearer to one before is left out."""

HIGH = 0.25
"""Frequency from which on power counts as high, in cycles per pixel; 0.5 is the highest that pixels can hold."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def has_patches(box_xyxy: Box, size_hw: tuple[int, int], *, look: TextureLook) -> bool:
    """Say whether a face is large enough for the texture look.

    Args:
        box_xyxy: Left, top, right, bottom, in pixels of the original.
        size_hw: Height and width of the original.
        look: From the card.
    """
    left, top, right, bottom = _inside(box_xyxy, size_hw)
    return min(right - left, bottom - top) >= look.min_side_px


def cut_patches(pixels: np.ndarray, box_xyxy: Box, *, look: TextureLook) -> np.ndarray | None:
    """Cut patches out of a face; nothing is scaled.

    Args:
        pixels: [H, W, 3] uint8 RGB, the original at its own size.
        box_xyxy: Face box: left, top, right, bottom, in these pixels.
        look: From the card.

    Returns:
        [N, patch_px, patch_px, 3] uint8, N at least 1 and at most ``look.patches``; None where the face is too small
        or holds too little detail.
    """
    if not has_patches(box_xyxy, pixels.shape[:2], look=look):
        return None
    side = look.patch_px
    corners = patch_corners(box_xyxy, pixels.shape[:2], look=look)
    patches = np.stack([pixels[row : row + side, column : column + side] for row, column in corners])
    return patches if not look.min_detail or detail_of(patches) >= look.min_detail else None


def patch_corners(box_xyxy: Box, size_hw: tuple[int, int], *, look: TextureLook) -> list[tuple[int, int]]:
    """Return row and column of the upper left pixel of each patch of a face that is large enough.

    Args:
        box_xyxy: Left, top, right, bottom, in pixels.
        size_hw: Height and width of the picture.
        look: From the card.

    Example:
        >>> look = TextureLook(architecture="cnn4", patch_px=32, min_side_px=32, patches=3)
        >>> patch_corners((10, 20, 110, 120), (200, 200), look=look)
        [(54, 44), (33, 23), (33, 64)]
        >>> patch_corners((10, 20, 45, 55), (200, 200), look=look)
        [(21, 11)]
    """
    chosen: list[tuple[int, int]] = []
    for row, column in _all_corners(box_xyxy, size_hw, look.patch_px):
        if all(max(abs(row - r), abs(column - c)) >= LEAST_STEP * look.patch_px for r, c in chosen):
            chosen.append((row, column))
    return chosen[: look.patches]


def detail_of(patches: np.ndarray) -> float:
    """Measure the share of high frequencies in patches: low where a picture was enlarged or blurred.

    Args:
        patches: [N, P, P, 3] uint8 RGB.

    Returns:
        Power of the luminance at and above `HIGH` as a share of that at all frequencies but 0, 0..1; 0 for even ones.

    Example:
        >>> dots = np.indices((16, 16)).sum(0) % 2 * 255
        >>> detail_of(np.repeat(dots[None, :, :, None], 3, 3).astype(np.uint8)) > 0.9
        True
    """
    luma = patches.astype(np.float32) @ _LUMA
    window, high, seen = _filters(patches.shape[1])
    luma = (luma - luma.mean((1, 2), keepdims=True)) * window
    power = (np.abs(np.fft.rfft2(luma)) ** 2 * seen).sum(0)
    total = float(power.sum() - power[0, 0])
    return float(power[high].sum()) / total if total > 0 else 0.0


@lru_cache(maxsize=4)
def _filters(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a window [P, P] against the edges; which frequencies are high, how often each counts [P, P // 2 + 1]."""
    bell = np.hanning(side + 2)[1:-1]
    down, across = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    twice = np.where((across == 0) | (across == 0.5), 1.0, 2.0)  # the other half of the spectrum is its mirror image
    return np.outer(bell, bell).astype(np.float32), np.hypot(down, across) >= HIGH, twice


def _all_corners(box_xyxy: Box, size_hw: tuple[int, int], side: int) -> Iterator[tuple[int, int]]:
    left, top, right, bottom = _inside(box_xyxy, size_hw)
    for down, across in PLACES:
        yield int(top + down * (bottom - top - side)), int(left + across * (right - left - side))


def _inside(box_xyxy: Box, size_hw: tuple[int, int]) -> Box:
    height, width = size_hw
    left, top, right, bottom = box_xyxy
    return max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)
