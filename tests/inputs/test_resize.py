"""Are pictures scaled as Pillow scales them, which the weights were trained with?"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.inputs import resize as room
from deepfake_detect.inputs.resize import Box, resample

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def by_pillow(pixels: np.ndarray, box: Box | None, size_px: int, interpolation: str) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size_px, size_px), FILTERS[interpolation], box=box))


def assert_like_pillow(pixels: np.ndarray, box: Box | None, size_px: int, interpolation: str) -> None:
    found = resample(pixels, box, size_px=size_px, interpolation=interpolation)
    assert found.dtype == np.uint8
    assert found.shape == (size_px, size_px, 3)
    assert np.array_equal(found, by_pillow(pixels, box, size_px, interpolation))


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
    monkeypatch.setattr(room, "_SCRATCH", 2**14)
    monkeypatch.setattr(room, "_THREAD", threading.local())
    assert_like_pillow(noise(701, 907), None, 64, "bicubic")
    held = room._THREAD.__dict__
    assert held["in"].size <= 2**14 + 1000  # and some columns of nothing
    assert held["out"].size <= 2**14


def test_a_picture_of_that_size_is_copied() -> None:
    pixels = noise(48, 48)
    found = resample(pixels, size_px=48, interpolation="bicubic")
    assert np.array_equal(found, pixels)
    assert not np.shares_memory(found, pixels)


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
    with pytest.raises(KeyError, match="lanczos"):
        resample(noise(9, 9), size_px=4, interpolation="lanczos")


def test_halves_are_rounded_up_as_by_pillow() -> None:
    steps = np.arange(256, dtype=np.uint8)
    ramp = np.stack([np.tile(steps, (256, 1)), np.tile(steps[:, None], 256), np.tile(255 - steps, (256, 1))], 2)
    for size_px in (160, 128, 64):
        for interpolation in FILTERS:
            assert_like_pillow(ramp, None, size_px, interpolation)
