"""Test that a thumbnail is told to agree with its picture or not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deepfake_detect import inspect_metadata
from deepfake_detect.provenance.thumbnail import compare, crop_bars
from tests.provenance import made_files as made


def with_thumbnail(picture: Image.Image, thumbnail: Image.Image) -> bytes:
    """Write a JPEG whose EXIF holds a thumbnail."""
    exif = exif_with_thumbnail(made.encode(thumbnail, quality=75))
    return made.with_segment(made.encode(picture, quality=90), 0xE1, exif)


def exif_with_thumbnail(small: bytes) -> bytes:
    """Write EXIF whose second directory points to a JPEG."""
    entries = [(0x0103, 3, 1, 6), (0x0201, 4, 1, 56), (0x0202, 4, 1, len(small))]
    second = b"\0\3" + b"".join(made.struct.pack(">HHII", n, k, c, v << 16 if k == 3 else v) for n, k, c, v in entries)
    tiff = b"MM\0*\0\0\0\x08" + b"\0\0" + b"\0\0\0\x0e" + second + bytes(4)
    assert len(tiff) == 56
    return b"Exif\0\0" + tiff + small


def found(data: bytes) -> list[str]:
    return [finding.what for finding in inspect_metadata(data).findings if finding.code == "thumbnail"]


def scene() -> Image.Image:
    return made.scene(480, seed=3).resize((640, 480))


def test_a_thumbnail_that_agrees_is_not_mentioned() -> None:
    assert found(with_thumbnail(scene(), scene().resize((160, 120)))) == []


def test_bars_around_a_thumbnail_are_no_difference() -> None:
    wide = scene().resize((640, 427))
    small = Image.new("RGB", (160, 120))
    small.paste(wide.resize((160, 107)), (0, 6))
    assert crop_bars(np.asarray(small.convert("L"))).shape == (107, 160)
    assert found(with_thumbnail(wide, small)) == []


def test_a_black_edge_of_the_picture_is_no_difference() -> None:
    """Of a photograph that was straightened: the edge is not level, and the thumbnail is small and bad."""
    pixels = np.asarray(scene()).copy()
    rows, columns = np.indices(pixels.shape[:2])
    pixels[rows > 440 + columns / 60] = 0
    straightened = Image.fromarray(pixels)
    assert found(with_thumbnail(straightened, straightened.resize((100, 75)))) == []


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_picture_that_was_turned_is_no_difference(quarter: int) -> None:
    assert found(with_thumbnail(scene().rotate(90 * quarter, expand=True), scene().resize((160, 120)))) == []


def test_another_picture_is_a_difference() -> None:
    assert "correlation" in found(with_thumbnail(scene(), made.scene(480, seed=8).resize((160, 120))))[0]


def test_a_cropped_picture_is_a_difference() -> None:
    middle = scene().crop((0, 100, 640, 380))
    (what,) = found(with_thumbnail(middle, scene().resize((160, 120))))
    assert "correlation" in what or "times as wide as high" in what


def test_a_changed_part_is_a_difference() -> None:
    changed = scene()
    dark = scene().getpixel((420, 220)) < (128, 128, 128)  # type: ignore[operator]
    changed.paste((255, 255, 255) if dark else (0, 0, 0), (400, 200, 440, 230))
    (what,) = found(with_thumbnail(changed, scene().resize((160, 120))))
    assert "grey levels" in what and "from the left" in what


def test_flat_pictures_are_not_compared() -> None:
    flat = np.full((120, 160), 128, np.uint8)
    assert compare(flat, 255 - flat) == ""


def test_a_damaged_thumbnail_is_passed_over() -> None:
    data = with_thumbnail(scene(), scene().resize((160, 120)))
    start = data.index(b"\xff\xd8", 2)
    assert found(data[: start + 30] + bytes(60) + data[start + 90 :]) == []
