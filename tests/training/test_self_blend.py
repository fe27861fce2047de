"""Test that self-blended fakes change the face, leave the rest, and repeat with the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.faces.parts import OUTLINES
from deepfake_detect.training import self_blend as blending
from deepfake_detect.training.self_blend import blend_face, face_mask
from tests.small_world import portrait

LANDMARKS = np.array([[105, 105], [153, 105], [129, 135], [109, 155], [149, 155]], float)
SIDE = 260


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mask_of(landmarks_xy: np.ndarray, seed: int, side: int = SIDE) -> np.ndarray:
    return np.asarray(face_mask(landmarks_xy, (side, side), random=rng(seed)), float)


@contextmanager
def only(name: str) -> Iterator[None]:
    """Leave the parts and all outlines but one aside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blending, "_PARTS_SHARE", 0.0)
        patch.setattr(blending, "_WHOLE_SHARES", [float(own == name) for own in OUTLINES])
        yield


@pytest.fixture
def crop() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    wave = 120 + 60 * np.sin(x / 7) + 40 * np.cos(y / 5)
    return np.stack([wave, wave[::-1], wave.T], -1).astype(np.uint8)


def test_masks_lie_on_the_face_and_reach_one() -> None:
    masks = np.array([mask_of(LANDMARKS, seed) for seed in range(80)])
    assert masks.shape == (80, SIDE, SIDE)
    assert (masks.max((1, 2)) >= 250).all()
    mean = masks.mean(0)
    assert mean[125:150, 120:140].min() > 120
    far = np.hypot(*(np.mgrid[:SIDE, :SIDE] - np.array([120, 129])[:, None, None])) > 2.1 * 50
    assert masks[:, far].max() == 0
    areas = (masks > 127).mean((1, 2)) * SIDE**2 / 50**2  # in squares of the way from the eyes to the mouth
    assert areas.min() < 0.5 and areas.max() > 2.5


def test_mask_of_the_face_goes_from_the_brows_to_the_chin() -> None:
    with only("face"):
        mean = np.mean([mask_of(LANDMARKS, seed) for seed in range(60)], 0)
    rows, columns = np.flatnonzero(mean[:, 129] > 127), np.flatnonzero(mean[110] > 127)
    top, bottom = (rows[[0, -1]] - 105) / 50
    left, right = (columns[[0, -1]] - 129) / 50
    assert -0.46 < top < -0.2 and 1.3 < bottom < 1.66
    assert -0.97 < left < -0.7 and 0.7 < right < 0.97
    assert right == pytest.approx(-left, abs=0.05)


def test_head_holds_face_holds_inner() -> None:
    areas = []
    for name in ("inner", "face", "head"):
        with only(name):
            areas.append(np.mean([mask_of(LANDMARKS, seed).mean() for seed in range(40)]))
    assert areas[0] < 0.85 * areas[1] and areas[1] < 0.85 * areas[2]


def test_parts_are_where_the_landmarks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blending, "_PARTS_SHARE", 1.0)
    masks = np.array([mask_of(LANDMARKS, seed) for seed in range(120)])
    for x, y in (LANDMARKS[0], LANDMARKS[1], (129, 126), (129, 155)):
        assert 0.35 < (masks[:, int(y), int(x)] > 127).mean() < 0.65  # each of four in one to three of four: a half
    assert (masks[:, 185:].max((1, 2)) < 60).all()  # no chin


@pytest.mark.parametrize("seed", range(6))
def test_mask_follows_the_landmarks(seed: int) -> None:
    first = mask_of(LANDMARKS, seed)
    moved = mask_of(LANDMARKS + np.array([20, -15]), seed)
    np.testing.assert_array_equal(moved[:-15, 20:], first[15:, :-20])
    large = mask_of(LANDMARKS * 2, seed, SIDE * 2)
    halved = np.asarray(Image.fromarray(large.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BOX), float)
    assert np.abs(halved - first).mean() < 2
    quarter = np.stack([SIDE - 1 - LANDMARKS[:, 1], LANDMARKS[:, 0]], 1)  # the picture lies on its side
    lying = mask_of(quarter, seed)
    assert np.abs(np.rot90(lying) > 127).sum() == pytest.approx((first > 127).sum(), rel=0.15)
    middle = np.array(
        [(value * np.mgrid[:SIDE, :SIDE]).sum((1, 2)) / value.sum() for value in (first, np.rot90(lying))]
    )
    np.testing.assert_allclose(middle[0], middle[1], atol=4)


def test_a_turned_face_has_a_narrow_far_side() -> None:
    turned = LANDMARKS + np.array([[0, 0], [0, 0], [12, 0], [0, 0], [0, 0]])  # the nose points to the right
    with only("face"):
        mean = np.mean([mask_of(turned, seed) for seed in range(40)], 0)
    columns = np.flatnonzero(mean[110] > 127) - 129
    assert columns[-1] < -0.85 * columns[0]


def test_edges_are_bent_a_little_and_smoothly() -> None:
    y, x = np.mgrid[:128, :128] - 64
    disc = np.hypot(x, y) < 32
    unsteady = []
    for seed in range(30):
        bent = np.asarray(blending._bend(Image.fromarray(np.uint8(disc) * 255), rng(seed))) > 127
        rays = np.linspace(0, 2 * np.pi, 90, endpoint=False)[:, None]
        along = np.arange(10, 60)
        inside = bent[np.rint(64 + along * np.sin(rays)).astype(int), np.rint(64 + along * np.cos(rays)).astype(int)]
        radius = 10 + inside.sum(1)
        assert np.abs(np.diff(radius)).max() <= 4
        unsteady.append(radius.std())
    assert 0.65 < np.median(unsteady) < max(unsteady) < 4


@pytest.mark.parametrize("points", [np.full((5, 2), 40.0), LANDMARKS * (0.05, 1), LANDMARKS - 400])
def test_odd_landmarks_give_a_picture_all_the_same(points: np.ndarray, crop: np.ndarray) -> None:
    for seed in range(8):
        assert blend_face(crop, points, random=rng(seed)).shape == crop.shape


def test_self_blend_changes_the_face_and_in_half_the_fakes_nothing_else(crop: np.ndarray) -> None:
    inside, outside = [], []
    for seed in range(60):
        fake = blend_face(crop, LANDMARKS, random=rng(seed))
        assert fake.dtype == np.uint8 and fake.shape == crop.shape
        difference = np.abs(fake.astype(float) - crop).mean(-1)
        inside.append(difference[110:150, 115:145].mean())
        outside.append(difference[:30].mean())
    assert np.median(inside) > 4
    assert 0.3 < np.mean(np.array(outside) == 0) < 0.7
    assert 2 < np.median([value for value in outside if value]) < 60


def test_inside_and_outside_are_mixed_by_the_shares_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blending, "_spoil", lambda picture, random: Image.new("RGB", picture.size))
    white, peaks = np.full((SIDE, SIDE, 3), 255, np.uint8), []
    for seed in range(200):
        fake = blend_face(white, LANDMARKS, random=rng(seed)).astype(float)
        outside = fake[0, 0, 0]  # white, or black where the surroundings were spoilt
        assert outside in (0, 255)
        peaks.append(np.abs(fake - outside).max() / 255)
    kinds, counts = np.unique(np.round(np.array(peaks) * 4) / 4, return_counts=True)
    assert kinds.tolist() == [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(peaks, np.round(np.array(peaks) * 4) / 4, atol=0.02)
    np.testing.assert_allclose(counts / 200, [1 / 6, 1 / 6, 1 / 6, 1 / 2], atol=0.1)


def test_colours_stay_those_of_a_face() -> None:
    skin = np.full((SIDE, SIDE, 3), (190, 150, 130), np.uint8)
    with only("face"):
        fakes = [blend_face(skin, LANDMARKS, random=rng(seed)).astype(float) for seed in range(80)]
    steps = [np.abs(fake[125:135, 120:138].mean((0, 1)) - fake[:9, :9].mean((0, 1))).max() for fake in fakes]
    assert 5 < np.median(steps) < 25 and max(steps) < 70


def test_grey_stays_grey_but_for_the_channels() -> None:
    for seed in range(50):
        matrix = np.array(blending._colours(rng(seed))).reshape(3, 4)
        np.testing.assert_allclose(matrix[:, :3].sum(1), matrix[0, :3].sum())  # hue and saturation turn around grey
        assert 0.9 <= matrix[0, :3].sum() <= 1.1
        assert np.abs(matrix @ (128, 128, 128, 1) - 128).max() <= 35


def test_the_face_is_moved_by_a_tenth_at_most() -> None:
    mark = np.zeros((SIDE, SIDE, 3), np.uint8)
    mark[117:124, 126:133] = 255  # the middle of the face
    shifts = []
    for seed in range(60):
        moved = np.asarray(blending._move(Image.fromarray(mark), LANDMARKS, rng(seed)), float)[..., 0]
        shifts.append((np.mgrid[:SIDE, :SIDE] * moved).sum((1, 2)) / moved.sum() - (120, 129))
    down, right = np.abs(shifts).max(0) / 50
    assert 0.045 < down < 0.075 and 0.08 < right < 0.12


def test_a_face_at_the_edge_brings_no_black_in(crop: np.ndarray) -> None:
    white = np.full((SIDE, SIDE, 3), 230, np.uint8)
    for seed in range(60):
        assert blend_face(white, LANDMARKS - (110, 90), random=rng(seed)).min() > 140


def test_self_blend_repeats_and_leaves_the_face_as_it_was() -> None:
    face = portrait()[:300, 100:400].copy()
    face.flags.writeable = False
    fakes = {blend_face(face, LANDMARKS, random=rng(seed)).tobytes() for seed in [*range(10), *range(10)]}
    assert len(fakes) == 10
