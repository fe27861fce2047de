"""Do crops change as they should, alike for real and fake, and the same for the same seed?"""

from __future__ import annotations

import numpy as np
import pytest

from deepfake_detect.augment import Augmentation, face_mask, self_blend

STILL = dict.fromkeys(("flip", "rotate", "light", "jpeg", "shrink", "blur", "noise", "grey"), 0.0)
LANDMARKS = np.array([[40, 45], [80, 45], [60, 65], [45, 85], [75, 85]], float)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def crop() -> np.ndarray:
    y, x = np.mgrid[:120, :120]
    wave = 120 + 60 * np.sin(x / 7) + 40 * np.cos(y / 5)
    return np.stack([wave, wave[::-1], wave.T], -1).astype(np.uint8)


def test_without_any_change_the_crop_stays(crop: np.ndarray) -> None:
    np.testing.assert_array_equal(Augmentation(**STILL)(crop, random=rng()), crop)


def test_flip_alone_mirrors(crop: np.ndarray) -> None:
    flipped = Augmentation(**{**STILL, "flip": 1.0})(crop, random=rng())
    np.testing.assert_array_equal(flipped, crop[:, ::-1])


@pytest.mark.parametrize("change", ["rotate", "light", "jpeg", "shrink", "blur", "noise", "grey"])
def test_each_change_changes_the_crop_a_little(crop: np.ndarray, change: str) -> None:
    changed = Augmentation(**{**STILL, change: 1.0})(crop, random=rng(3))
    assert changed.shape == crop.shape and changed.dtype == np.uint8
    difference = np.abs(changed.astype(float) - crop).mean()
    assert 0.02 < difference < 60


def test_grey_has_three_equal_channels(crop: np.ndarray) -> None:
    grey = Augmentation(**{**STILL, "grey": 1.0})(crop, random=rng())
    assert (grey == grey[..., :1]).all()


def test_same_seed_same_picture_other_seed_another(crop: np.ndarray) -> None:
    augmentation = Augmentation()
    first = augmentation(crop, random=rng(5))
    np.testing.assert_array_equal(first, augmentation(crop, random=rng(5)))
    assert any((first != augmentation(crop, random=rng(seed))).any() for seed in range(6, 9))


def test_frame_stays_near_the_box() -> None:
    boxes = np.array([Augmentation().frame((10, 20, 50, 80), random=rng(seed)) for seed in range(400)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert 40 * 0.85 <= width.min() < 40 * 0.9 and 40 * 1.1 < width.max() <= 40 * 1.15
    np.testing.assert_allclose(height / width, 1.5)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    np.testing.assert_allclose(centres.mean(0), (30, 50), atol=0.6)
    np.testing.assert_allclose(centres.std(0), 0.04 * 60, rtol=0.15)


def test_mask_lies_on_the_face() -> None:
    masks = [np.asarray(face_mask(LANDMARKS, (120, 100), random=rng(seed)), float) for seed in range(60)]
    assert masks[0].shape == (100, 120)
    mean = np.mean(masks, 0)
    assert mean[60:70, 50:70].mean() > 100 > 10 > mean[:8].mean()
    assert all(mask.max() > 100 for mask in masks)


def test_self_blend_changes_the_face_and_leaves_the_corners(crop: np.ndarray) -> None:
    inside, corner = [], []
    for seed in range(40):
        fake = self_blend(crop, LANDMARKS, random=rng(seed)).astype(float)
        difference = np.abs(fake - crop).mean(-1)
        inside.append(difference[50:80, 45:75].mean())
        corner.append(difference[:6, :6].mean())
    assert np.median(inside) > 4
    assert np.median(inside) > 3 * np.median(corner) or np.median(corner) < 1


def test_self_blend_repeats(crop: np.ndarray) -> None:
    np.testing.assert_array_equal(
        self_blend(crop, LANDMARKS, random=rng(2)), self_blend(crop, LANDMARKS, random=rng(2))
    )
