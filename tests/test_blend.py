"""Do blended fakes change the face, leave the rest, and repeat?"""

from __future__ import annotations

import numpy as np
import pytest

from deepfake_detect.blend import face_mask, self_blend

LANDMARKS = np.array([[40, 45], [80, 45], [60, 65], [45, 85], [75, 85]], float)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def crop() -> np.ndarray:
    y, x = np.mgrid[:120, :120]
    wave = 120 + 60 * np.sin(x / 7) + 40 * np.cos(y / 5)
    return np.stack([wave, wave[::-1], wave.T], -1).astype(np.uint8)


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
