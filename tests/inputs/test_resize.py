"""Test that pictures are scaled byte for byte as Pillow does, or as the definition of the mipmap says."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
from PIL import Image

from deepfake_detect.errors import InvalidOption
from deepfake_detect.inputs import resize
from deepfake_detect.inputs.resize import Box, resample

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def by_pillow(pixels: np.ndarray, box: Box | None, size_px: int, interpolation: str) -> np.ndarray:
    """Scale as Pillow 13 does: a picture that shrinks far more in height than in width is scaled in height first."""
    picture, (height, width) = Image.fromarray(pixels), pixels.shape[:2]
    if int(PIL.__version__.split(".")[0]) < 13 and 0 < height - size_px > 2 * (width - size_px):
        left, top, right, bottom = box or (0, 0, width, height)
        picture = picture.resize((width, size_px), FILTERS[interpolation], box=(0, top, width, bottom))
        box = (left, 0, right, size_px)
    return np.asarray(picture.resize((size_px, size_px), FILTERS[interpolation], box=box))


def assert_like_pillow(pixels: np.ndarray, box: Box | None, size_px: int, interpolation: str) -> None:
    scaled = resample(pixels, box, size_px=size_px, interpolation=interpolation)
    assert scaled.dtype == np.uint8
    assert scaled.shape == (size_px, size_px, 3)
    assert np.array_equal(scaled, by_pillow(pixels, box, size_px, interpolation))


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size_px", [1, 32, 160, 299])
@pytest.mark.parametrize("height_width", [(600, 600), (97, 131), (331, 200), (900, 150), (90, 800), (7, 5), (1, 1)])
def test_whole_pictures_are_scaled_as_by_pillow(
    height_width: tuple[int, int], size_px: int, interpolation: str
) -> None:
    assert_like_pillow(noise(*height_width), None, size_px, interpolation)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(
    "box",
    [
        (0.0, 0.0, 400.0, 300.0),
        (50.3, 60.7, 210.2, 220.6),
        (0.0, 0.25, 33.5, 33.75),
        (366.4, 266.5, 400.0, 300.0),
        (12.1, 3.2, 13.3, 4.4),
    ],
)
def test_parts_are_scaled_as_by_pillow_wherever_they_lie(box: Box, interpolation: str) -> None:
    assert_like_pillow(noise(300, 400), box, 113, interpolation)


def test_many_sizes_are_scaled_as_by_pillow() -> None:
    numbers = np.random.default_rng(1)
    for turn in range(60):
        height, width, size_px = (int(number) for number in numbers.integers(2, 400, 3))
        (left, right), (top, bottom) = (np.sort(numbers.uniform(0, side, 2)).tolist() for side in (width, height))
        if min(right - left, bottom - top) >= 1:
            assert_like_pillow(noise(height, width, turn), (left, top, right, bottom), size_px, "bicubic")


def test_large_pictures_are_scaled_in_parts_that_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resize, "_SCRATCH", 2**14)
    monkeypatch.setattr(resize, "_THREAD", threading.local())
    assert_like_pillow(noise(701, 907), None, 64, "bicubic")
    held = resize._THREAD.__dict__
    assert held["in"].size <= 2**14 + 1000  # and some columns of nothing
    assert held["out"].size <= 2**14


def test_a_picture_of_that_size_is_copied() -> None:
    pixels = noise(48, 48)
    scaled = resample(pixels, size_px=48, interpolation="bicubic")
    assert np.array_equal(scaled, pixels)
    assert not np.shares_memory(scaled, pixels)


def test_views_and_read_only_pictures_are_taken() -> None:
    pixels = noise(90, 120)
    pixels.flags.writeable = False
    assert_like_pillow(pixels[5:77, 11:93], None, 40, "bicubic")


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [noise(60 + 7 * number, 200 - 9 * number, number) for number in range(12)]
    alone = [resample(picture, size_px=50, interpolation="bicubic") for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: resample(one, size_px=50, interpolation="bicubic"), pictures * 20))
    assert all(np.array_equal(one, alone[place % 12]) for place, one in enumerate(found))


def test_an_unknown_filter_is_refused() -> None:
    with pytest.raises(InvalidOption, match="lanczos"):
        resample(noise(9, 9), size_px=4, interpolation="lanczos")


def test_halves_are_rounded_up_as_by_pillow() -> None:
    steps = np.arange(256, dtype=np.uint8)
    ramp = np.stack([np.tile(steps, (256, 1)), np.tile(steps[:, None], 256), np.tile(255 - steps, (256, 1))], 2)
    for size_px in (160, 128, 64):
        for interpolation in FILTERS:
            assert_like_pillow(ramp, None, size_px, interpolation)


def exact_mipmap(pixels: np.ndarray, box: Box | None, size_px: int) -> np.ndarray:
    """Scale as the first lines of the module say, in whole numbers of Python's kind."""
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    x, y = min(math.floor(left + 0.5), pixels.shape[1] - 1), min(math.floor(top + 0.5), pixels.shape[0] - 1)
    width, height = max(1, math.floor(right - left + 0.5)), max(1, math.floor(bottom - top + 0.5))
    part = pixels[y : y + height, x : x + width].astype(np.int64)
    while max(part.shape[:2]) >= 2 * size_px:
        part = halved(part, down=part.shape[0] >= 2 * size_px, across=part.shape[1] >= 2 * size_px)
    rows = lines(part.transpose(1, 0, 2), size_px).transpose(1, 0, 2)
    return ((lines(rows, size_px) + 32768) >> 16).astype(np.uint8) if part.shape[:2] != (size_px,) * 2 else part


def halved(part: np.ndarray, *, down: bool, across: bool) -> np.ndarray:
    whole = part[: part.shape[0] // 2 * 2 if down else None, : part.shape[1] // 2 * 2 if across else None]
    summed = whole[::2] + whole[1::2] if down else whole
    summed = summed[:, ::2] + summed[:, 1::2] if across else summed
    return (summed + 2) >> 2 if down and across else (summed + 1) >> 1


def lines(part: np.ndarray, size_px: int) -> np.ndarray:
    length = len(part)
    result = np.empty((size_px, *part.shape[1:]), np.int64)
    for i in range(size_px):
        x = (i + 0.5) * length / size_px - 0.5
        a = math.floor(x)
        w = round((x - a) * 256)
        before, after = part[min(max(a, 0), length - 1)], part[min(max(a + 1, 0), length - 1)]
        result[i] = (256 - w) * before + w * after
    return result


@pytest.mark.parametrize("size_px", [1, 32, 112, 160, 192, 224, 299])
@pytest.mark.parametrize("height_width", [(600, 600), (97, 131), (331, 200), (901, 150), (90, 803), (7, 5), (1, 1)])
def test_a_mipmap_is_what_its_definition_says_to_the_byte(height_width: tuple[int, int], size_px: int) -> None:
    pixels = noise(*height_width)
    scaled = resample(pixels, size_px=size_px, interpolation="mipmap")
    assert scaled.dtype == np.uint8
    assert np.array_equal(scaled, exact_mipmap(pixels, None, size_px))


def test_parts_are_mipmapped_as_defined_wherever_they_lie() -> None:
    numbers = np.random.default_rng(2)
    for turn in range(120):
        height, width, size_px = (int(number) for number in numbers.integers(2, 500, 3))
        (left, right), (top, bottom) = (np.sort(numbers.uniform(0, side, 2)).tolist() for side in (width, height))
        pixels = noise(height, width, turn)
        scaled = resample(pixels, (left, top, right, bottom), size_px=size_px, interpolation="mipmap")
        assert np.array_equal(scaled, exact_mipmap(pixels, (left, top, right, bottom), size_px))


def test_a_mipmap_takes_the_same_bytes_from_a_cut_out() -> None:
    pixels, box = noise(700, 640), (120.5, 99.49, 540.5, 519.49)
    whole = resample(pixels, box, size_px=96, interpolation="mipmap")
    inner = (box[0] - 100, box[1] - 90, box[2] - 100, box[3] - 90)
    assert np.array_equal(whole, resample(pixels[90:540, 100:560], inner, size_px=96, interpolation="mipmap"))


def test_an_even_picture_stays_even_in_a_mipmap() -> None:
    even = np.full((333, 501, 3), 137, np.uint8)
    assert (resample(even, size_px=100, interpolation="mipmap") == 137).all()
