"""Compare the thumbnail inside EXIF with the picture: an editor may have changed the one and kept the other."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from deepfake_detect.provenance.blocks import Block
from deepfake_detect.provenance.findings import Findings, found_in
from deepfake_detect.provenance.jpeg_structure import JpegStructure, read_jpeg
from deepfake_detect.provenance.pixels import Grey, decode_brightness
from deepfake_detect.provenance.tiff_tags import Tags

LEAST_CORRELATION: Final = 0.8
"""Thumbnails that agree with their picture are above .95."""

MAX_PIXELS: Final = 2**22
"""Larger thumbnails are not decoded; they are some hundred pixels wide."""

LOCAL_DIFFERENCE: Final = 45.0
"""Grey levels by which one part of the picture must differ, where most of it agrees."""

_START, _LENGTH = 0x0201, 0x0202
_GRID = 24  # both are compared as so many areas along each side
_DARK = 20  # grey level below which a border is a bar, not a part of the picture

Floats = npt.NDArray[np.float64]


def read_thumbnail(exif: bytes, tags: Tags) -> Grey | None:
    """Decode the JPEG thumbnail of a block of EXIF.

    Returns:
        [H, W] brightness without black bars; None where there is none, or it is damaged.
    """
    start, length = tags.number("1", _START), tags.number("1", _LENGTH)
    data = exif[start : start + length] if start and length else b""
    if data[:2] != b"\xff\xd8":
        return None
    structure = read_jpeg(data)
    height, width = structure.blocks.size_hw or (0, 0)
    grey = decode_brightness(structure, data) if height * width <= MAX_PIXELS else None
    return None if grey is None else crop_bars(grey)


def crop_bars(grey: Grey) -> Grey:
    """Cut off black bars, with which cameras fill up thumbnails; no more than a fifth on each side.

    A picture that was straightened has some as well, which its thumbnail shows.
    """
    for _ in range(2):
        dark = grey.max(axis=1) < _DARK
        most = len(grey) // 5
        top, bottom = int(np.argmin(dark[:most])) if most else 0, int(np.argmin(dark[::-1][:most])) if most else 0
        top, bottom = (most if most and dark[:most].all() else top), (most if most and dark[-most:].all() else bottom)
        grey = grey[top : len(grey) - bottom].T
    return grey


def describe_thumbnail(structure: JpegStructure, data: bytes, block: Block, tags: Tags) -> Findings:
    """Report a thumbnail that shows something else than the picture.

    Args:
        structure: Of the picture.
        data: The whole file.
        block: The block of EXIF.
        tags: Its tags.
    """
    thumbnail = read_thumbnail(block.payload, tags)
    if thumbnail is None or min(thumbnail.shape) < 16:
        return
    picture = decode_brightness(structure, data, side_px=2 * max(thumbnail.shape))
    difference = compare(thumbnail, crop_bars(picture)) if picture is not None else ""
    if difference:
        yield found_in(
            block,
            "thumbnail",
            f"the thumbnail in EXIF does not show what the picture shows: {difference}",
            strength="moderate",
            points_to="edited",
            not_proof="that the change is a forgery: cropping and some converters leave an old thumbnail behind, too",
        )


def compare(thumbnail: Grey, picture: Grey) -> str:
    """Return in words how a thumbnail differs from its picture; empty where it agrees, turned or not.

    Args:
        thumbnail: [H, W] without bars.
        picture: [H, W], of any size.
    """
    small = _areas(thumbnail)
    if small.std() < 4:
        return ""
    turned = [_areas(np.rot90(picture, quarter)) for quarter in range(4)]
    correlations = [_correlation(small, areas) for areas in turned]
    best = int(np.argmax(correlations))
    if correlations[best] < LEAST_CORRELATION:
        return f"their correlation is {correlations[best]:.2f}"
    ratio = thumbnail.shape[1] / thumbnail.shape[0]
    shape = picture.shape if best % 2 == 0 else picture.shape[::-1]
    if not 0.9 < ratio * shape[0] / shape[1] < 1.11:
        return f"it is {ratio:.2f} times as wide as high, the picture {shape[1] / shape[0]:.2f} times"
    return _local_difference(small, turned[best])


def _local_difference(small: Floats, areas: Floats) -> str:
    gain, offset = np.polyfit(areas.ravel(), small.ravel(), 1)  # thumbnails are often a little darker or softer
    residual = np.abs(small - (gain * areas + offset))
    worst = np.unravel_index(int(np.argmax(residual)), residual.shape)
    if residual[worst] < LOCAL_DIFFERENCE or np.median(residual) > LOCAL_DIFFERENCE / 4:
        return ""
    place = f"{(worst[1] + 0.5) / _GRID:.0%} from the left and {(worst[0] + 0.5) / _GRID:.0%} from the top"
    return f"it differs by {residual[worst]:.0f} grey levels {place}"


def _areas(grey: Grey) -> Floats:
    image = Image.fromarray(np.ascontiguousarray(grey)).resize((_GRID, _GRID), Image.Resampling.BOX)
    return np.asarray(image, np.float64)


def _correlation(first: Floats, second: Floats) -> float:
    if second.std() == 0:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
