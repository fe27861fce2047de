"""Test that crops are augmented as described, alike for real and fake, and the same for the same seed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepfake_detect.errors import InvalidOption
from deepfake_detect.training.augment import Augmentation, Box, preview

STILL = Augmentation.named("none")
RANGES = ("rotate_degrees", "brightness", "contrast")
KINDS = [field.name for field in fields(Augmentation) if field.name not in RANGES]
OF_THE_PICTURE = [name for name in KINDS if name not in ("zoom", "shift")]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def alone(name: str, share: float = 1.0) -> Augmentation:
    return replace(STILL, **{name: share})


@pytest.fixture
def crop() -> np.ndarray:
    y, x = np.mgrid[:120, :120]
    wave = 120 + 60 * np.sin(x / 7) + 40 * np.cos(y / 5)
    return np.stack([wave, wave[::-1], wave.T], -1).astype(np.uint8)


def test_without_any_change_the_crop_stays(crop: np.ndarray) -> None:
    crop.flags.writeable = False
    np.testing.assert_array_equal(STILL(crop, random=rng()), crop)
    assert STILL.frame((1, 2, 30, 40), random=rng()) == (1, 2, 30, 40)


def test_flip_alone_mirrors(crop: np.ndarray) -> None:
    np.testing.assert_array_equal(alone("flip")(crop, random=rng()), crop[:, ::-1])


@pytest.mark.parametrize("change", OF_THE_PICTURE)
def test_each_change_changes_the_crop_a_little(crop: np.ndarray, change: str) -> None:
    before = crop.copy()
    every = np.array([alone(change)(crop, random=rng(seed)) for seed in range(5)])
    assert every.shape == (5, *crop.shape) and every.dtype == np.uint8
    assert 0.1 < np.abs(every.astype(float) - crop).mean() < 60
    np.testing.assert_array_equal(crop, before)


@pytest.mark.parametrize("change", OF_THE_PICTURE)
def test_a_share_is_a_share(change: str) -> None:
    crop = np.asarray(Image.effect_noise((24, 24), 90).convert("RGB")) // 2
    crop = crop + np.arange(0, 72, 3, dtype=np.uint8)[:, None, None] * np.array([0, 1, 0], np.uint8)  # some colour
    changed = [(alone(change, 0.3)(crop, random=rng(seed)) != crop).any() for seed in range(300)]
    assert 0.3 - 0.08 < np.mean(changed) < 0.3 + 0.08


def test_grey_has_three_equal_channels(crop: np.ndarray) -> None:
    grey = alone("grey")(crop, random=rng())
    assert (grey == grey[..., :1]).all()
    luma = crop @ (0.299, 0.587, 0.114)
    assert np.abs(grey[..., 0] - luma).max() < 1.1  # torchvision cuts where Pillow rounds


def test_a_turn_carries_a_mark_around_the_middle_by_up_to_12_degrees() -> None:
    mark = np.zeros((101, 101, 3), np.uint8)
    mark[18:23, 48:53] = 255  # thirty pixels above the middle
    angles = []
    for seed in range(60):
        turned = alone("rotate")(mark, random=rng(seed))[..., 0].astype(float)
        y, x = (np.arange(101) @ turned.sum(axis) / turned.sum() - 50 for axis in (1, 0))
        assert np.hypot(x, y) == pytest.approx(30, abs=0.7)
        angles.append(np.degrees(np.arctan2(x, -y)))
    assert -12.5 < min(angles) < -9 and 9 < max(angles) < 12.5


def test_shear_moves_rows_apart_and_keeps_their_height() -> None:
    line = np.zeros((101, 101, 3), np.uint8)
    line[:, 48:53] = 255
    slants = []
    for seed in range(60):
        sheared = alone("shear")(line, random=rng(seed))[..., 0].astype(float)
        middles = (sheared * np.arange(101)).sum(1) / sheared.sum(1)
        slope, offset = np.polyfit(np.arange(101) - 50, middles, 1)
        assert offset == pytest.approx(50, abs=0.3)
        slants.append(np.degrees(np.arctan(slope)))
    assert -8.3 < min(slants) < -5.5 and 5.5 < max(slants) < 8.3


def test_light_keeps_the_ratio_of_channels_and_colour_keeps_the_lightness() -> None:
    flat = np.full((20, 20, 3), (120, 90, 60), np.uint8)
    lit = [alone("light")(flat, random=rng(seed))[0, 0].astype(float) for seed in range(40)]
    assert min(pixel.mean() for pixel in lit) < 80 and max(pixel.mean() for pixel in lit) > 100
    luma = np.array([0.299, 0.587, 0.114])
    coloured = np.array([alone("colour")(flat, random=rng(seed))[0, 0] for seed in range(40)], float)
    np.testing.assert_allclose(coloured @ luma, flat[0, 0] @ luma, atol=1)
    spread = coloured[:, 0] - coloured[:, 2]
    assert 60 * 0.69 < spread.min() < 60 * 0.8 and 60 * 1.2 < spread.max() < 60 * 1.32


def test_erase_covers_one_rectangle_with_one_colour() -> None:
    crop = rng(9).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    for seed in range(40):
        changed = alone("erase")(crop, random=rng(seed))
        rows, columns = np.nonzero((changed != crop).any(2))
        inside = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert len(np.unique(inside.reshape(-1, 3), axis=0)) == 1
        assert 0.015 < inside.shape[0] * inside.shape[1] / 8000 < 0.16
        assert 0.4 < inside.shape[0] / inside.shape[1] < 2.5


def test_noise_has_the_deviation_that_it_says_and_no_mean() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    noises = np.array([alone("noise")(flat, random=rng(seed)).astype(float) - 128 for seed in range(60)])
    deviations = noises.std((1, 2, 3))
    assert 0.9 < deviations.min() < 2 and 7 < deviations.max() < 8.2
    assert abs(noises.mean()) < 0.05


@pytest.mark.parametrize("change", ["blur", "shrink"])
def test_blur_and_shrink_take_the_finest_detail_and_leave_the_mean(change: str) -> None:
    crop = rng(9).integers(60, 196, (80, 80, 3), dtype=np.uint8)
    for seed in range(10):
        soft = alone(change)(crop, random=rng(seed)).astype(float)
        assert soft.std() < crop.std() * 0.99
        assert soft.mean() == pytest.approx(crop.mean(), abs=1)


def test_encoded_crops_are_like_what_pillow_encodes(crop: np.ndarray) -> None:
    for kind, limit in (("jpeg", 10), ("webp", 10)):
        losses = [np.abs(alone(kind)(crop, random=rng(seed)).astype(float) - crop).mean() for seed in range(30)]
        assert 0.5 < min(losses) < max(losses) / 1.5 and max(losses) < limit, kind


def test_same_seed_same_picture_other_seed_another(crop: np.ndarray) -> None:
    strong = Augmentation.named("strong")
    for seed in range(20):
        np.testing.assert_array_equal(strong(crop, random=rng(seed)), strong(crop, random=rng(seed)))
    pictures = {strong(crop, random=rng(seed)).tobytes() for seed in range(20)}
    assert len(pictures) == 20


def test_the_generators_of_torch_and_numpy_are_left_alone(crop: np.ndarray) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = alone("noise")(crop, random=rng())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(alone("noise")(crop, random=rng()), first)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 31, 3), (33, 5, 3)])
def test_small_crops_keep_their_size(shape: tuple[int, int, int]) -> None:
    every = Augmentation(**dict.fromkeys(KINDS, 1.0))
    for seed in range(5):
        assert every(np.full(shape, 99, np.uint8), random=rng(seed)).shape == shape


def test_frame_stays_near_the_box() -> None:
    boxes = np.array([Augmentation().frame((10, 20, 50, 80), random=rng(seed)) for seed in range(400)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert 40 * 0.85 <= width.min() < 40 * 0.9 and 40 * 1.1 < width.max() <= 40 * 1.15
    np.testing.assert_allclose(height / width, 1.5)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    np.testing.assert_allclose(centres.mean(0), (30, 50), atol=0.6)
    np.testing.assert_allclose(centres.std(0), 0.04 * 60, rtol=0.15)


def test_presets_are_ordered_and_the_default_is_the_default() -> None:
    assert Augmentation.named("default") == Augmentation()
    none, light, default, strong = (
        np.array([getattr(Augmentation.named(name), kind) for kind in KINDS])
        for name in ("none", "light", "default", "strong")
    )
    assert (none == 0).all() and (light <= default).all() and (default <= strong).all()
    assert (light < default).sum() >= 10 and (default < strong).sum() >= 10


def test_what_is_no_share_or_no_name_is_told() -> None:
    with pytest.raises(ValueError, match=r"blur is 1.5, expected a number within 0..1"):
        Augmentation(blur=1.5)
    with pytest.raises(ValueError, match="noise is nan"):
        Augmentation(noise=float("nan"))
    with pytest.raises(ValueError, match=r"no augmentation called 'storng'; did you mean 'strong'\?"):
        Augmentation.named("storng")


def test_a_torchvision_for_another_torch_is_told_when_it_is_needed() -> None:
    code = """
import sys, types
import numpy as np
import deepfake_detect.training.augment as augment
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms does not exist")
sys.meta_path.insert(0, Broken())
try:
    augment.Augmentation()(np.zeros((8, 8, 3), np.uint8), random=np.random.default_rng(0))
except augment.MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fits torch" in done.stdout and "pip install --upgrade torch torchvision" in done.stdout


class Faces:
    """A data set of one picture, whose crops are cut from it by the frame."""

    def __init__(self) -> None:
        y, x = np.mgrid[:200, :200]
        self.pixels = np.stack([x, y, (x + y) // 2], -1).astype(np.uint8)
        self.augmentation: Augmentation | None = Augmentation.named("strong")

    def __getitem__(self, key: tuple[int, int], /) -> tuple[torch.Tensor, float]:
        random, box = rng(key[1]), (50.0, 50.0, 150.0, 150.0)
        moved: Box = self.augmentation.frame(box, random=random) if self.augmentation else box
        cut = np.asarray(Image.fromarray(self.pixels).crop(tuple(map(round, moved))).resize((64, 64)))
        changed = self.augmentation(cut, random=random) if self.augmentation else cut
        return torch.from_numpy(changed.copy()), 0.0


def test_preview_shows_the_original_first_and_a_row_for_each_change(crop: np.ndarray) -> None:
    grid = np.asarray(preview(crop, replace(alone("flip"), grey=0.2), count=2))
    tile = np.asarray(Image.fromarray(crop).resize((150, 150), Image.Resampling.LANCZOS))
    assert grid.shape == (4 + 3 * 154, 136 + 3 * 154, 3)  # flip, grey, all together
    np.testing.assert_array_equal(grid[4:154, 136:286], tile)
    flipped = np.asarray(Image.fromarray(crop[:, ::-1].copy()).resize((150, 150), Image.Resampling.LANCZOS))
    for left in (290, 444):
        np.testing.assert_array_equal(grid[4:154, left : left + 150], flipped)
        assert np.ptp(grid[158:308, left : left + 150], axis=2).max() == 0  # a share of 0.2 alone: every picture
    assert (grid[:, :130] != 255).any()
    turned = np.asarray(preview(crop, alone("rotate"), count=2))
    assert (turned[4:154, 290:440] != turned[4:154, 444:594]).any()


def test_preview_of_a_data_set_moves_the_box_and_leaves_the_set_as_it_is() -> None:
    faces = Faces()
    mine = faces.augmentation
    grid = np.asarray(preview(faces, replace(STILL, shift=0.1), count=3, seed=4))
    assert grid.shape[0] == 4 + 2 * 154
    plain = np.asarray(Image.fromarray(faces.pixels).crop((50, 50, 150, 150)).resize((64, 64)))
    np.testing.assert_array_equal(
        grid[4:154, 136:286], np.asarray(Image.fromarray(plain).resize((150, 150), Image.Resampling.LANCZOS))
    )
    assert (grid[4:154, 290:440] != grid[4:154, 136:286]).any()
    assert faces.augmentation is mine


def test_preview_by_name_repeats(crop: np.ndarray) -> None:
    assert preview(crop, "light", count=1, seed=3).tobytes() == preview(crop, "light", count=1, seed=3).tobytes()
    assert preview(crop, "none", count=1).height == 4 + 154


def test_the_ranges_of_keras_by_name(crop: np.ndarray) -> None:
    wide = Augmentation.named("keras")
    assert (wide.zoom, wide.rotate_degrees, wide.brightness, wide.flip, wide.flip_vertical) == (
        0.3, 30.0, (0.3, 1.7), 0.5, 0.5,
    )  # fmt: skip
    np.testing.assert_array_equal(alone("flip_vertical")(crop, random=rng()), crop[::-1])
    grey = np.full((20, 20, 3), 100, np.uint8)
    light = replace(STILL, light=1.0, brightness=(0.3, 1.7), contrast=(1.0, 1.0))
    levels = [float(light(grey, random=rng(seed)).mean()) for seed in range(300)]
    assert 30 <= min(levels) < 35 and 165 < max(levels) <= 170
    np.testing.assert_allclose(np.mean(levels), 100, atol=7)


@pytest.mark.parametrize(
    "wrong",
    [{"brightness": 0.3}, {"brightness": (1.7, 0.3)}, {"contrast": (-1, 1)}, {"rotate_degrees": 181}, {"flip": True},
     {"blur": "0.5"}],
)  # fmt: skip
def test_options_of_the_wrong_type_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        Augmentation(**wrong)
