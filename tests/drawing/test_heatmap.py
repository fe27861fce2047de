"""Tests of the colours of heat maps."""

import numpy as np
import pytest

from deepfake_detect.drawing.heatmap import colour_bar, heat_colours, lay_over


def lightness(colours: np.ndarray) -> np.ndarray:
    """Give CIE L*, 0..100, of sRGB."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def test_equal_steps_of_heat_are_equal_steps_of_lightness() -> None:
    steps = np.diff(lightness(heat_colours(np.linspace(0, 1, 21))))
    assert (steps > 0).all()
    assert steps.max() < 1.6 * steps.min()


def test_heat_outside_the_scale_has_the_colour_of_its_end() -> None:
    assert (heat_colours([-1.0, 2.0]) == heat_colours([0.0, 1.0])).all()


def test_only_the_squares_are_painted_and_the_rest_is_grey() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    heat = np.zeros((40, 60))
    heat[10:20, 10:20] = 1.0
    drawn = np.asarray(lay_over(pixels, heat, squares=[(5, 5, 30, 30)])).astype(int)
    assert np.ptp(drawn[:, 35:], axis=-1).max() == 0
    assert np.ptp(drawn[6:29, 6:29], axis=-1).min() > 10
    hot, cold = drawn[10:20, 10:20].mean((0, 1)), drawn[22:28, 22:28].mean((0, 1))
    assert hot[0] > cold[0] + 60
    whole = np.asarray(lay_over(pixels, heat)).astype(int)
    assert np.ptp(whole[:, 35:], axis=-1).max() > 10


def test_the_bar_runs_from_cold_to_hot() -> None:
    bar = np.asarray(colour_bar(101, 5))
    assert bar.shape == (5, 101, 3)
    assert bar[0, [0, -1]] == pytest.approx(heat_colours([0.0, 1.0]), abs=6)
