import base64
import io
import math
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from deepfake_detect.errors import ImageTooLarge, ImageUnreadable
from deepfake_detect.inputs import decoding
from deepfake_detect.inputs.image import Picture, name_image, open_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
SMOOTH = np.linspace(0, 255, 480 * 640 * 3).reshape(480, 640, 3).astype(np.uint8)
ORIENTATION = 0x0112


def encoded(image: np.ndarray | Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


# What it may be given as


def as_tensor(image: np.ndarray) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


@pytest.mark.parametrize(
    ("give", "name"),
    [
        (lambda path: path, "{path}"),
        (lambda path: str(path), "{path}"),
        (lambda path: path.read_bytes(), "<bytes>"),
        (lambda path: bytearray(path.read_bytes()), "<bytes>"),
        (lambda path: memoryview(path.read_bytes()), "<bytes>"),
        (lambda path: io.BytesIO(path.read_bytes()), "<file>"),
        (lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(), "<data URI>"),
        (lambda path: Image.fromarray(RGB), "<PIL image>"),
        (lambda path: RGB, "<array>"),
        (lambda path: RGB[:, :, ::-1].copy()[:, :, ::-1], "<array>"),
        (lambda path: np.asarray(Image.fromarray(RGB)), "<array>"),
        (lambda path: as_tensor(RGB), "<tensor>"),
        (lambda path: as_tensor(RGB).float() / 255, "<tensor>"),
        (lambda path: (as_tensor(RGB).double() / 255).requires_grad_(), "<tensor>"),
    ],
)
def test_every_kind_of_input_gives_the_same_picture(tmp_path: Path, give: Callable[[Path], object], name: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(RGB, "PNG"))
    image = give(path)
    picture = open_image(image)
    assert np.array_equal(picture.pixels, RGB)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.flags.c_contiguous and picture.pixels.flags.writeable
    assert picture.size_hw == (30, 40) and picture.scale == 1
    assert picture.name == name_image(image) == name.format(path=path)


def test_open_file_and_pil_image_are_named_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(RGB, "PNG"))
    with path.open("rb") as file, Image.open(path) as image:
        assert name_image(file) == name_image(image) == str(path)
    assert name_image(7) == "<int>"


def test_picture_comes_back_as_it_is() -> None:
    picture = Picture(pixels=RGB, size_hw=(300, 400), name="mine")
    assert open_image(picture) is picture
    assert name_image(picture) == "mine" and picture.scale == 0.1


def test_pil_image_of_the_caller_is_left_alone() -> None:
    image = Image.open(io.BytesIO(encoded(RGB, "PNG", exif=turned(6))))
    assert open_image(image).size_hw == (40, 30)
    assert image.size == (40, 30) and image.getexif()[ORIENTATION] == 6
    assert open_image(image).size_hw == (40, 30)


def test_greyscale_arrays_and_tensors_are_repeated() -> None:
    grey = RGB[:, :, 0]
    tensor = as_tensor(RGB)
    for image in (grey, grey[:, :, None], tensor[:1], tensor[0]):
        assert np.array_equal(open_image(image).pixels, np.stack([grey] * 3, axis=2))


def test_floats_are_rounded_not_cut_off() -> None:
    tensor = as_tensor(RGB).float() * 0 + 0.999  # 254.745 of 255
    for floats in (tensor, tensor.half(), tensor.double()):
        assert (open_image(floats).pixels == 255).all()


def test_torch_is_not_imported_for_a_picture() -> None:
    code = (
        "import sys, numpy; from deepfake_detect.inputs.image import open_image;"
        "open_image(numpy.zeros((4, 4, 3), 'uint8')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (RGB / 255, r"float64 pixels from .* to 1, .*; pass \(array \* 255\)\.round\(\)\.astype\('uint8'\)"),
        (RGB.astype(np.float32), r"float32 pixels from 0 to 255, .*; pass array\.round\(\)\.astype\('uint8'\)"),
        (RGB / 127.5 - 1, "from -1 to 1, .*scaled to 0..255"),
        (np.full((4, 4, 3), np.nan), "from nan to nan, .*scaled to 0..255"),
        (RGB.astype(np.uint16) * 257, "uint16 pixels from 0 to 65535.*// 257"),
        (RGB > 9, r"bool pixels.*array \* 255"),
        (RGB.astype(complex), "complex128 pixels, expected uint8"),
        (RGB.transpose(2, 0, 1), r"shape \[3, 30, 40\] has channels first; pass array.transpose\(1, 2, 0\)"),
        (RGB[None], r"a batch of 1"),
        (RGB[:, :, :2], r"shape \[30, 40, 2\], expected RGB \[H, W, 3\]"),
        (RGB[:0], r"shape \[0, 40, 3\], expected"),
        (RGB[0, 0], r"shape \[3\], expected"),
    ],
)
def test_array_of_another_kind_is_refused_with_the_remedy(array: np.ndarray, found: str) -> None:
    with pytest.raises(ImageUnreadable, match=found):
        open_image(array)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda tensor: tensor.permute(1, 2, 0), r"pass tensor.permute\(2, 0, 1\)"),
        (lambda tensor: tensor[None], "a batch of 1"),
        (lambda tensor: tensor.float(), "floats from 0 to 255, expected 0..1; pass tensor / 255"),
        (lambda tensor: tensor / 127.5 - 1, "floats from -1 to 1, .*before mean and std"),
        (lambda tensor: tensor * math.nan, "floats from nan to nan"),
        (lambda tensor: tensor.long(), r"int64 pixels from 0 to 255, .*pass array.round\(\)"),
        (lambda tensor: tensor[:, :0].float(), r"shape \[0, 40, 3\]"),
    ],
)
def test_tensor_of_another_kind_is_refused_with_the_remedy(change: Callable[[Any], Any], found: str) -> None:
    with pytest.raises(ImageUnreadable, match=found):
        open_image(change(as_tensor(RGB)))


# What is inside: the table of open_image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_as_opencv_does(form: str, orientation: int) -> None:
    content = encoded(
        SMOOTH[:48, :64], form, exif=turned(orientation), **({"lossless": True} if form == "WEBP" else {})
    )
    second = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert second is not None
    picture = open_image(content)
    assert picture.size_hw == ((64, 48) if orientation >= 5 else (48, 64))
    if form != "TIFF":  # where OpenCV leaves the orientation alone
        assert np.abs(picture.pixels.astype(int) - second[:, :, ::-1]).max() <= 2
    elif orientation == 6:
        assert np.array_equal(picture.pixels, np.rot90(SMOOTH[:48, :64], -1))


def test_damaged_exif_does_not_damage_the_picture() -> None:
    content = encoded(RGB, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(open_image(content).pixels, RGB)


def test_greyscale_file_is_repeated() -> None:
    for grey in (Image.fromarray(RGB[:, :, 0]), Image.fromarray(RGB[:, :, 0]).convert("1")):
        assert np.array_equal(open_image(encoded(grey, "PNG")).pixels, np.array(grey.convert("RGB")))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_by_257(form: str) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65407, 65535]], dtype=np.uint16)
    pixels = open_image(encoded(values, form)).pixels
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 255]
    assert np.array_equal(pixels, np.repeat(pixels[:, :, :1], 3, axis=2))


def test_sixteen_bit_colour_keeps_the_high_byte() -> None:
    done, content = cv2.imencode(".png", (RGB.astype(np.uint16) << 8 | 77)[:, :, ::-1])
    assert done and np.array_equal(open_image(content.tobytes()).pixels, RGB)


def test_wide_integers_are_sixteen_bit_or_refused() -> None:
    assert open_image(Image.fromarray(np.array([[0, 65535]], np.int32))).pixels[0, :, 0].tolist() == [0, 255]
    for wrong in (-1, 65536):
        with pytest.raises(ImageUnreadable, match=r"integer pixels from .*, expected 0\.\.65535"):
            open_image(encoded(np.array([[0, wrong]], np.int32), "TIFF"))


def test_floats_and_lab_are_refused() -> None:
    lab = ImageCms.applyTransform(
        Image.fromarray(RGB),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    )
    for content in (encoded(np.zeros((4, 4), np.float32), "TIFF"), encoded(lab, "TIFF")):
        with pytest.raises(ImageUnreadable, match=r"mode (F|LAB) have no agreed way"):
            open_image(content)


def test_palette_is_looked_up() -> None:
    image = Image.fromarray(RGB).quantize(16)
    for form in ("PNG", "GIF"):
        assert np.array_equal(open_image(encoded(image, form)).pixels, np.array(image.convert("RGB")))


def test_alpha_is_composited_over_white() -> None:
    rgba = np.array([[[0, 0, 0, 0], [200, 100, 0, 255], [0, 0, 0, 51]]], np.uint8)
    expected = [[255, 255, 255], [200, 100, 0], [204, 204, 204]]  # 255 * (1 - 51/255) = 204
    assert open_image(encoded(rgba, "PNG")).pixels[0].tolist() == expected
    assert open_image(rgba).pixels[0].tolist() == expected
    grey = encoded(Image.fromarray(rgba).convert("LA"), "PNG")
    assert open_image(grey).pixels[0, 0].tolist() == [255, 255, 255]
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        assert open_image(encoded(palette, form, transparency=1)).pixels[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_cmyk_comes_right() -> None:
    colours = {(0, 255, 255, 0): (255, 0, 0), (255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 255): (0, 0, 0)}
    for cmyk, rgb in colours.items():
        content = encoded(Image.new("CMYK", (16, 16), cmyk), "JPEG", quality=100)
        assert b"Adobe" in content  # and so stored inverted
        second = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert second is not None and np.abs(second[0, 0, ::-1].astype(int) - rgb).max() <= 2
        assert np.abs(open_image(content).pixels.astype(int) - rgb).max() <= 2


def test_colour_profile_is_ignored() -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    swapped = profile.replace(b"rXYZ", b"_XYZ").replace(b"gXYZ", b"rXYZ").replace(b"_XYZ", b"gXYZ")  # red is green
    assert np.array_equal(open_image(encoded(RGB, "PNG", icc_profile=bytes(swapped))).pixels, RGB)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_first_frame_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert np.abs(open_image(content).pixels.astype(int) - (255, 0, 0)).max() <= 2
    image = Image.open(io.BytesIO(content))
    image.seek(1)
    assert np.abs(open_image(image).pixels.astype(int) - (0, 255, 0)).max() <= 6


@pytest.mark.parametrize("form", ["BMP", "AVIF", "JPEG2000", "PPM"])
def test_other_formats_are_read(form: str) -> None:
    assert np.abs(open_image(encoded(SMOOTH, form)).pixels.astype(int) - SMOOTH).mean() < 3


# How large


@pytest.mark.parametrize("form", ["JPEG", "MPO"])
@pytest.mark.parametrize(
    ("least", "side"), [(480, 480), (241, 480), (240, 240), (239, 240), (61, 120), (60, 60), (1, 60)]
)
def test_jpeg_is_decoded_no_smaller_than_asked(form: str, least: int, side: int) -> None:
    more: dict[str, Any] = {"save_all": True, "append_images": [Image.fromarray(RGB)]} if form == "MPO" else {}
    content = encoded(SMOOTH, form, exif=turned(6), **more)
    assert Image.open(io.BytesIO(content)).format == form
    picture = open_image(content, min_side_px=least)
    assert picture.pixels.shape == (side * 4 // 3, side, 3)
    assert picture.size_hw == (640, 480) and picture.scale == side / 480
    full = open_image(content).pixels
    small = full.reshape(side * 4 // 3, 480 // side, side, 480 // side, 3).mean((1, 3))
    assert np.abs(picture.pixels - small).mean() < 3


def test_nothing_is_enlarged_and_only_jpeg_reduced() -> None:
    for form, least in (("JPEG", 9999), ("PNG", 8)):
        picture = open_image(encoded(RGB, form), min_side_px=least)
        assert picture.pixels.shape == RGB.shape and picture.scale == 1


def test_odd_sizes_round_up_when_reduced() -> None:
    picture = open_image(encoded(SMOOTH[:479, :639], "JPEG"), min_side_px=239)
    assert picture.pixels.shape[:2] == (240, 320) and picture.size_hw == (479, 639)


def test_single_pixel_is_readable() -> None:
    assert open_image(encoded(RGB[:1, :1], "PNG")).pixels.tolist() == RGB[:1, :1].tolist()


def test_too_many_pixels_are_refused_by_the_header() -> None:
    started = time.perf_counter()
    with pytest.raises(ImageTooLarge, match=r"40,000 x 40,000 is 1,600,000,000 pixels, the limit is 100,000,000"):
        open_image(png_of_size(40_000, 40_000))
    assert time.perf_counter() - started < 1
    huge_webp = bytearray(encoded(RGB, "WEBP", lossless=True))
    huge_webp[21:25] = b"\xff\xff\xff\x0f"  # 16384 x 16384: Pillow's own limit strikes first
    with pytest.raises(ImageTooLarge, match=r"268,?435,?456 pixels"):
        open_image(bytes(huge_webp))


def test_limit_counts_pixels_of_every_input() -> None:
    for image in (RGB, Image.fromarray(RGB), encoded(RGB, "PNG"), as_tensor(RGB), encoded(RGB, "JPEG")):
        assert open_image(image, max_pixels=1200, min_side_px=4).size_hw == (30, 40)
        with pytest.raises(ImageTooLarge, match="1,200 pixels, the limit is 1,199"):
            open_image(image, max_pixels=1199, min_side_px=4)


def test_pillow_neither_warns_nor_refuses_below_our_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for pillow_limit in (1000, 100):  # 1200 pixels: it would warn, and refuse
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
        with warnings.catch_warnings(record=True) as caught:
            assert open_image(encoded(RGB, "PNG")).size_hw == (30, 40)
        assert not caught


JPEGS = [
    {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    for quality in (5, 60, 95)
    for subsampling in (0, 1, 2)
    for progressive in (False, True)
]


def photograph(side: int = 203) -> Image.Image:
    """Make a picture with soft and sharp places, with sides that no block of a JPEG divides."""
    coarse = np.random.default_rng(3).integers(0, 256, (9, 12, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((side, side - 26), Image.Resampling.BICUBIC)
    picture.paste((250, 10, 40), (30, 30, 61, 55))
    return picture


@pytest.mark.parametrize("settings", JPEGS, ids=str)
@pytest.mark.parametrize("least", [None, 80, 40, 20])
def test_jpegs_become_the_bytes_that_pillow_makes_of_them(settings: dict[str, int], least: int | None) -> None:
    content = io.BytesIO()
    photograph().save(content, "JPEG", **settings)
    expected = Image.open(content)
    if least is not None:
        expected.draft(None, (least, least))
    opened = open_image(content, min_side_px=least)
    assert np.array_equal(opened.pixels, np.asarray(expected))
    assert opened.size_hw == (177, 203)


def test_whole_jpegs_in_colour_are_decoded_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    picture = photograph()
    exif = picture.getexif()
    exif[274] = 6  # shown turned to the right
    picture.save(content, "JPEG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(content))
    monkeypatch.setattr(decoding, "_load", None)
    opened = open_image(content)
    assert np.array_equal(opened.pixels, np.asarray(expected))
    assert opened.pixels.flags.c_contiguous
    assert opened.size_hw == (203, 177)


def test_what_follows_the_end_of_a_jpeg_is_left_aside() -> None:
    content = io.BytesIO()
    photograph().save(content, "JPEG")
    plain = open_image(content.getvalue()).pixels
    assert np.array_equal(open_image(content.getvalue() + bytes(1000)).pixels, plain)


@pytest.mark.parametrize("kind", ["grey", "inks", "stored as RGB", "progressive grey"])
def test_other_jpegs_become_what_pillow_makes_of_them(kind: str) -> None:
    modes = {"grey": "L", "inks": "CMYK", "stored as RGB": "RGB", "progressive grey": "L"}
    content = io.BytesIO()
    options = {"keep_rgb": kind == "stored as RGB", "progressive": kind.startswith("progressive")}
    photograph().convert(modes[kind]).save(content, "JPEG", **options)
    for least in (None, 40):
        expected = Image.open(content)
        if least:
            expected.draft(None, (least, least))
        opened = open_image(content, min_side_px=least).pixels
        assert np.array_equal(opened, np.asarray(expected.convert("RGB")))
        assert opened.flags.c_contiguous and opened.flags.writeable
