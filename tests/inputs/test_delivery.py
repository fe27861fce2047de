"""Test that each delivery changes a picture as described, and always in the same way."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from deepfake_detect import ImageTooLarge
from deepfake_detect.inputs.delivery import (
    ROBUSTNESS,
    STABILITY,
    Delivery,
    blur,
    crop_picture,
    jpeg,
    resize_picture,
    screenshot,
    webp,
)
from tests.small_world import portrait

EVERY = sorted({**STABILITY, **ROBUSTNESS}.items())


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.ascontiguousarray(portrait()[:301, 100:300])  # odd height, no square


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def test_the_named_sets() -> None:
    assert list(STABILITY) == ["original", "jpeg90", "jpeg60", "jpeg40", "half", "webp", "crop", "screenshot"]
    assert list(ROBUSTNESS) == ["clean", "jpeg75", "jpeg50", "jpeg30", "half", "webp", "blur", "screenshot"]


@pytest.mark.parametrize(("name", "change"), EVERY)
def test_deliveries_repeat_leave_what_they_got_and_travel(name: str, change: Delivery, pixels: np.ndarray) -> None:
    before = pixels.copy()
    first = change(pixels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(first, pickle.loads(pickle.dumps(change))(pixels))
    assert first.dtype == np.uint8 and first.shape[2] == 3 and first.flags["WRITEABLE"]
    assert not np.shares_memory(first, pixels)
    assert (name in ("original", "clean")) == np.array_equal(first, pixels)


@pytest.mark.parametrize(("name", "change"), EVERY)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (17, 2, 3)])
def test_the_smallest_pictures_arrive(name: str, change: Delivery, shape: tuple[int, int, int]) -> None:
    assert min(change(np.full(shape, 200, np.uint8)).shape) >= 1


@pytest.mark.parametrize("name", ["jpeg90", "jpeg60", "jpeg40", "jpeg75", "jpeg50", "jpeg30"])
def test_jpeg_is_what_pillow_saves_at_that_quality(name: str, pixels: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(name[4:]))  # 4:2:0 is its default
    change = {**STABILITY, **ROBUSTNESS}[name]
    np.testing.assert_array_equal(change(pixels), np.asarray(Image.open(file)))


def test_lower_quality_costs_more(pixels: np.ndarray) -> None:
    losses = [distance(jpeg(pixels, quality=quality), pixels) for quality in (90, 75, 60, 40, 30)]
    assert losses == sorted(losses) and losses[0] > 0.1
    assert distance(webp(pixels, quality=20), pixels) > distance(webp(pixels), pixels) > 0.1


def test_half_is_the_mean_of_each_square_of_four() -> None:
    y, x = np.mgrid[:40, :60]
    ramp = np.stack([4 * x, 6 * y, 2 * x + 3 * y], -1).astype(np.uint8)
    means = ramp.astype(float).reshape(20, 2, 30, 2, 3).mean((1, 3))
    inner = np.s_[2:-2, 2:-2]  # the filter reaches over the edges
    np.testing.assert_allclose(resize_picture(ramp)[inner], means[inner], atol=0.51)
    assert resize_picture(np.zeros((301, 200, 3), np.uint8)).shape == (150, 100, 3)


def test_crop_keeps_the_middle(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(crop_picture(pixels), pixels[30:271, 20:180])


def test_blur_spreads_a_point_as_a_gaussian() -> None:
    point = np.zeros((501, 701, 3), np.uint8)
    point[240:261, 340:361] = 255
    spread = blur(point)[..., 0].astype(float)
    assert spread.sum() == pytest.approx(255 * 21 * 21, rel=0.01)
    row = spread.sum(0) / spread.sum()
    deviation = np.sqrt((row * (np.arange(701) - 350) ** 2).sum())
    assert deviation == pytest.approx(np.sqrt((0.004 * 501) ** 2 + (21**2 - 1) / 12), rel=0.02)


def test_screenshot_bends_tones_shrinks_and_may_show_the_page() -> None:
    grey = np.full((100, 200, 3), 128, np.uint8)
    shown = screenshot(grey)
    assert shown.shape == (83, 166, 3)
    assert np.unique(shown).tolist() == [round(255 * ((128 / 255) ** 1.06 * 0.97 + 0.015))]
    assert np.unique(screenshot(np.zeros_like(grey))).tolist() == [4]
    assert np.unique(screenshot(np.full_like(grey, 255))).tolist() == [251]
    framed = screenshot(grey, border=0.05)
    assert framed.shape == (91, 174, 3) and (framed[:4] == 242).all() and (framed[4:-4, 4:-4] == shown).all()


def test_what_a_format_cannot_hold_is_told() -> None:
    with pytest.raises(ImageTooLarge, match=r"17000 x 1 pixels, WEBP holds 16383 a side"):
        webp(np.zeros((1, 17_000, 3), np.uint8))


def test_a_picture_beyond_the_limit_of_pillow_is_delivered_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    black = np.zeros((40, 60, 3), np.uint8)
    assert jpeg(black, quality=60).shape == (40, 60, 3)
    with pytest.raises(ImageTooLarge, match="the copy"):  # Pillow's own reader of WebP has the limit
        webp(black)
