"""Test that incomplete pictures are refused, whatever the host has set, and whole ones are read."""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from deepfake_detect.errors import ImageTooLarge, ImageUnreadable, MissingExtra
from deepfake_detect.inputs import png_file
from deepfake_detect.inputs.image import open_image

SIDE = 96
SCENE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)).resize((SIDE, SIDE))
FORMS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "JPEG2000"]


def encoded(form: str, image: Image.Image = SCENE, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rows: bytes, *, interlaced: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return png_file.SIGNATURE + chunks


def plain_rows(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def adam7_rows(pixels: np.ndarray) -> bytes:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return b"".join(plain_rows(pixels[top::down, left::across]) for left, top, across, down in passes)


@pytest.fixture
def half_pictures_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


@pytest.mark.parametrize("form", FORMS)
def test_a_switch_of_the_host_changes_nothing(form: str, half_pictures_allowed: None) -> None:
    content = encoded(form)
    np.testing.assert_array_equal(
        open_image(content).pixels, np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    )
    for share in (0.4, 0.8):
        part = content[: int(share * len(content))]
        with pytest.raises(ImageUnreadable):
            open_image(part)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"])
def test_a_picture_that_pillow_has_opened_but_not_read_is_read_strictly(form: str, half_pictures_allowed: None) -> None:
    content = encoded(form)
    image = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(open_image(image).pixels, open_image(content).pixels)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), open_image(content).pixels)  # is still as it was
    with pytest.raises(ImageUnreadable):
        open_image(Image.open(io.BytesIO(content[: int(0.7 * len(content))])))


def test_a_draft_of_the_caller_is_kept() -> None:
    image = Image.open(io.BytesIO(encoded("JPEG")))
    image.draft(None, (SIDE // 2, SIDE // 2))
    assert open_image(image).size_hw == (SIDE // 2, SIDE // 2)


@pytest.mark.parametrize("form", FORMS)
def test_the_pixel_limit_of_the_host_changes_no_answer(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(form)
    expected = open_image(content).pixels
    for limit in (None, 100):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        if form in ("WEBP", "TIFF") and limit:  # whose plugins ask for themselves
            with pytest.raises(ImageTooLarge, match="exceeds limit of 200 pixels"):
                open_image(content)
        else:
            np.testing.assert_array_equal(open_image(content).pixels, expected)


def cut_and_ended(content: bytes) -> bytes:
    return content[: int(0.6 * len(content))] + b"\xff\xd9"


def zeros_inside(content: bytes) -> bytes:
    middle, count = len(content) // 2, len(content) // 8
    return content[:middle] + bytes(count) + content[middle + count :]


@pytest.mark.parametrize("damage", [cut_and_ended, zeros_inside])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("least", [None, 24])
def test_a_damaged_jpeg_is_refused(
    damage: Callable[[bytes], bytes], mode: str, progressive: bool, least: int | None
) -> None:
    content = encoded("JPEG", SCENE.convert(mode), quality=95, progressive=progressive)
    assert open_image(content, min_side_px=least).size_hw == (SIDE, SIDE)
    with pytest.raises(ImageUnreadable, match="damaged or truncated JPEG of 96 x 96 pixels"):
        open_image(damage(content), min_side_px=least)


def test_a_progressive_jpeg_that_ends_after_some_of_its_scans_is_refused() -> None:
    content = encoded("JPEG", quality=95, progressive=True)
    scans = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for at in scans[1:]:
        with pytest.raises(ImageUnreadable, match="of the coefficients are missing or coarse"):
            open_image(content[:at] + b"\xff\xd9")


def test_a_png_whose_rows_end_early_is_refused() -> None:
    pixels = np.asarray(SCENE)
    whole, half = plain_rows(pixels), plain_rows(pixels[: SIDE // 2])
    np.testing.assert_array_equal(open_image(png(whole)).pixels, pixels)
    with pytest.raises(ImageUnreadable, match="the data end 48 rows early"):
        open_image(png(half))
    black = np.array(SCENE)
    black[-9:] = 0
    with pytest.raises(ImageUnreadable, match="the data end 1 rows early"):
        open_image(png(plain_rows(black[:-1])))
    with pytest.raises(ImageUnreadable, match="truncated"):
        open_image(png(whole[:-5]))


def test_an_interlaced_png_whose_rows_end_early_is_refused() -> None:
    for size in ((SIDE, SIDE), (1, 1), (5, 3), (3, 5)):
        pixels = np.asarray(SCENE)[: size[1], : size[0]]
        rows = adam7_rows(pixels)
        rows = rows if min(size) > 4 else b"".join(
            plain_rows(part)
            for left, top, across, down in png_file._ADAM7
            if (part := pixels[top::down, left::across]).size
        )  # fmt: skip
        np.testing.assert_array_equal(open_image(png(rows, interlaced=1, size=size)).pixels, pixels)
        with pytest.raises(ImageUnreadable, match=r"rows early|truncated"):
            open_image(png(rows[:-1], interlaced=1, size=size))


def test_a_png_that_is_black_below_is_whole() -> None:
    pixels = np.array(SCENE)
    pixels[50:] = 0
    np.testing.assert_array_equal(open_image(png(plain_rows(pixels))).pixels, pixels)


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    content = bytearray(png(plain_rows(np.asarray(SCENE))))
    at = content.index(b"IDAT")
    content[at + 2000] ^= 1
    with pytest.raises(ImageUnreadable, match=r"checksum of chunk IDAT at byte 33 is wrong|broken data stream"):
        open_image(bytes(content))


@pytest.mark.parametrize("size", [100, 70 * 2**20])
def test_text_and_profiles_of_a_png_matter_little(size: int) -> None:
    words = PngInfo()
    words.add_text("parameters", "a" * size, zip=True)
    content = encoded("PNG", pnginfo=words, icc_profile=bytes(2 * 2**20), exif=turned())
    np.testing.assert_array_equal(open_image(content).pixels, np.rot90(np.asarray(SCENE), -1))
    start, end = content.index(b"IDAT") - 4, content.index(b"IEND") - 4
    behind = content[:33] + content[start:end] + content[33:start] + content[end:]  # text behind the pixels
    assert open_image(behind).size_hw == (SIDE, SIDE)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "tEXt", "gAMA", "pHYs"])
def test_damaged_metadata_of_a_png_do_not_damage_the_picture(kind: str) -> None:
    content = png(plain_rows(np.asarray(SCENE)))
    wrong = chunk(kind.encode(), b"\xff" * 7)[:-1] + b"\0"  # what it holds, and its checksum
    np.testing.assert_array_equal(open_image(content[:33] + wrong + content[33:]).pixels, np.asarray(SCENE))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_tiff_that_lacks_a_strip_or_a_part_of_one_is_refused(compression: str) -> None:
    content = bytearray(encoded("TIFF", compression=compression, strip_size=3 * SIDE * 32))
    tags = Image.open(io.BytesIO(content)).tag_v2  # type: ignore[attr-defined]
    offsets, counts = tags[273], tags[279]
    assert len(offsets) == 3 and open_image(bytes(content)).size_hw == (SIDE, SIDE)
    for places, values in ((offsets, [*offsets[:2], 0]), (counts, [*counts[:2], 0])):
        for form in ("<3I", "<3H"):
            if max(places) < 2 ** (32 if form == "<3I" else 16) and struct.pack(form, *places) in content:
                with pytest.raises(ImageUnreadable, match="damaged or truncated TIFF"):
                    open_image(bytes(content.replace(struct.pack(form, *places), struct.pack(form, *values))))
    end = offsets[1] + counts[1]
    filler = b"\x80" if compression == "packbits" else b"\xd9"  # does nothing; ends a JPEG
    for cut in [counts[1]] if compression == "packbits" else [30, counts[1] // 2]:
        half = bytes(content[: end - cut]) + (b"\xff" if compression == "jpeg" else b"") + filler * cut
        with pytest.raises(ImageUnreadable, match="damaged or truncated TIFF"):
            open_image(half[:end] + bytes(content[end:]))


@pytest.mark.parametrize("form", ["WEBP", "AVIF"])
def test_a_page_of_zeros_in_coded_pixels_is_damage(form: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8))
    content = encoded(form, noise, quality=90)
    middle = len(content) // 2
    with pytest.raises(ImageUnreadable, match=r"nothing but zeros from byte|damaged"):
        open_image(content[:middle] + bytes(5000) + content[middle + 5000 :])
    assert open_image(content).size_hw == (256, 256)
    assert open_image(encoded(form, Image.new("RGB", (2000, 2000)))).size_hw == (2000, 2000)


# Raw photographs, and formats of plugins


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({50706: 1}, "Adobe DNG"),
        ({254: 1, 330: 8, 271: "NIKON CORPORATION"}, "Nikon NEF"),
        ({254: 1, 330: 8, 271: "SONY"}, "Sony ARW"),
        ({254: 1, 330: 8, 271: "Phase One"}, "a raw photograph"),
    ],
)
def test_a_raw_photograph_is_refused_by_name(tmp_path: Path, tags: dict[int, Any], kind: str) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info.tagtype[tag] = {50706: 1, 271: 2}.get(tag, 4)
        info[tag] = value
    path = tmp_path / "photo.tif"
    SCENE.save(path, "TIFF", tiffinfo=info)
    with pytest.raises(ImageUnreadable, match=rf"photo\.tif: .*{kind}.*thumbnail.*develop it to JPEG or TIFF"):
        open_image(path)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"II*\0\x10\0\0\0CR\2\0", "Canon CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "Canon CR3"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF"),
        (b"IIRO\x08\0\0\0", "Olympus ORF"),
        (b"IIU\0\x18\0\0\0", "Panasonic RW2"),
    ],
)
def test_a_raw_photograph_is_known_by_its_first_bytes(head: bytes, kind: str) -> None:
    with pytest.raises(ImageUnreadable, match=kind):
        open_image(head + bytes(200))


def test_a_tiff_with_a_smaller_copy_is_no_raw_photograph() -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[271] = "NIKON CORPORATION"
    np.testing.assert_array_equal(open_image(encoded("TIFF", tiffinfo=info)).pixels, np.asarray(SCENE))


def test_heic_is_read_without_a_change_to_pillow(half_pictures_allowed: None) -> None:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(SCENE).save(file, quality=95, exif=turned().tobytes())
    picture = open_image(file.getvalue())
    expected = heif.open_heif(io.BytesIO(file.getvalue())).to_pillow()
    np.testing.assert_array_equal(picture.pixels, np.asarray(expected))
    assert picture.size_hw == (SIDE, SIDE)
    assert "HEIF" not in Image.OPEN
    for share in (0.3, 0.8):
        with pytest.raises(ImageUnreadable):
            open_image(file.getvalue()[: int(share * len(file.getvalue()))])


def test_heic_without_its_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[heif\]'"):
        open_image(b"\0\0\0\x20ftypheic" + bytes(40))


def test_jpeg_xl_without_a_plugin_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    monkeypatch.delitem(Image.OPEN, "JXL", raising=False)
    with pytest.raises(ImageUnreadable, match="pip install pillow-jxl-plugin"):
        open_image(b"\xff\x0a" + bytes(40))
