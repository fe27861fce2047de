"""Pictures that would cost more time or memory than their size says are refused before they do."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from deepfake_detect.errors import ImageTooLarge
from deepfake_detect.inputs import image as image_module
from deepfake_detect.inputs.image import open_image


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_more_scans(content: bytes, count: int) -> bytes:
    """Repeat the last scan of a progressive JPEG."""
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + content[-2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_of_thousands_of_scans_is_refused(progressive: bool) -> None:
    content = with_more_scans(file_of(Image.new("L", (2000, 1500), 90), "JPEG", progressive=progressive), 3000)
    with pytest.raises(ImageTooLarge, match=r"<bytes>: 3,0\d\d scans of 3,000,000 pixels, expected at most 1,333"):
        open_image(content, min_side_px=8)


def test_scans_of_thumbnails_and_of_small_pictures_do_not_count() -> None:
    exif = chunk(b"\xff\xda", b"") * 6000
    content = file_of(Image.new("L", (2000, 1500), 90), "JPEG", progressive=True)
    beside = content[:2] + b"\xff\xef" + struct.pack(">H", len(exif[:60000]) + 2) + exif[:60000] + content[2:]
    assert beside.count(b"\xff\xda") > 3000
    assert open_image(beside).size_hw == (1500, 2000)
    assert open_image(with_more_scans(file_of(Image.new("L", (40, 30)), "JPEG", progressive=True), 60)).size_hw == (
        30,
        40,
    )


@pytest.mark.parametrize("place", [33, -12])
def test_a_png_of_a_hundred_thousand_chunks_is_refused(place: int) -> None:
    content = file_of(Image.new("L", (64, 64), 90), "PNG")
    with pytest.raises(ImageTooLarge, match=r"<bytes>: more than 11,\d\d\d chunks in 1,\d\d\d,\d\d\d bytes of PNG"):
        open_image(content[:place] + chunk(b"tEXt", b"a\0b") * 100_000 + content[place:])


def test_a_picture_that_must_be_decoded_in_full_has_a_lower_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    content = file_of(Image.new("1", (10_100, 10_000)), "PNG")
    assert len(content) < 30_000
    with pytest.raises(ImageTooLarge, match=r"101,000,000 pixels, the limit is 100,000,000"):
        open_image(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # else Pillow warns
    with Image.open(io.BytesIO(content)) as opened, pytest.raises(ImageTooLarge, match=r"the limit is 100,000,000"):
        open_image(opened)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16"])
def test_strips_give_the_same_pixels_as_the_whole(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (37, 23, 4), np.uint8)
    image = Image.fromarray(values, "RGBA") if mode in ("RGBA", "LA", "P") else Image.fromarray(values[..., :3])
    image = Image.fromarray(values.view(np.uint16)[..., 0]) if mode == "I;16" else image.convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    whole = open_image(image).pixels
    monkeypatch.setattr(image_module, "_STRIP_PIXELS", 5 * 23)
    assert (open_image(image).pixels == whole).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    content = file_of(Image.fromarray(values), "PNG", exif=exif)
    with Image.open(io.BytesIO(content)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    picture = open_image(content)
    assert (picture.pixels == expected).all() and picture.pixels.flags.c_contiguous
    assert picture.size_hw == expected.shape[:2]
