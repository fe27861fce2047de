"""Decode the brightness of a JPEG for the checks that need it, never more than the time limit allows."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import JpegImagePlugin

from deepfake_detect.provenance.jpeg_structure import MAX_TABLES, JpegStructure

MAX_PIXELS: Final = 26_000_000
"""Larger pictures are not decoded in full; at a reduced size, pictures four times as large are."""

MAX_PIXEL_SCANS: Final = 300_000_000
"""Pixels times scans: a small file may have thousands of scans, each as slow as a picture of its own."""

Grey = npt.NDArray[np.uint8]


def decode_brightness(structure: JpegStructure, data: bytes, *, side_px: int | None = None) -> Grey | None:
    """Decode the brightness of a JPEG.

    Args:
        structure: As read from the file.
        data: The whole file.
        side_px: Decode at 1/2, 1/4 or 1/8, as long as each side keeps this many pixels; None decodes in full.

    Returns:
        [H, W] as stored, before any EXIF orientation; None where it is damaged or above the limits.
    """
    height, width = structure.blocks.size_hw or (0, 0)
    pixels = height * width
    if (
        structure.tables_read > MAX_TABLES  # which a decoder would read one by one
        or not 0 < pixels <= MAX_PIXELS * (1 if side_px is None else 4)
        or pixels * max(structure.scans, 1) > MAX_PIXEL_SCANS
    ):
        return None
    try:
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(structure.picture_bytes(data)))
        image.draft("L", image.size if side_px is None else (side_px, side_px))
        return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, KeyError):
        return None
