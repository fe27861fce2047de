"""Test that the benchmark of forged parts finds the order of the bits, and scores maps correctly."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # the benchmarks are no part of the wheel

from benchmarks.ciplab_parts import (  # noqa: E402
    ORDER,
    PARTS,
    bit_order,
    bits_of,
    centre_prior,
    chance,
    differences,
    random_map,
    scores,
)
from deepfake_detect.datasets.read import Sample  # noqa: E402
from deepfake_detect.faces.parts import part_masks  # noqa: E402

LANDMARKS = np.array([(70, 80), (130, 80), (100, 110), (76, 140), (124, 140)], float)


def pairs(order: tuple[str, ...], count: int, noise: float) -> list[tuple[tuple[int, ...], dict[str, float]]]:
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        bits = tuple(int(bit) for bit in random.integers(0, 2, 4))
        away = {name: bit + random.normal(0, noise) for name, bit in zip(order, bits, strict=True)}
        found.append((bits, away))
    return found


def test_a_hidden_order_is_found_and_chance_is_told() -> None:
    order = ("nose", "right eye", "mouth", "left eye")
    hidden = pairs(order, 16, 0.6)
    assert bit_order(hidden)[0][1] == order
    assert len(bit_order(hidden)) == 24
    assert chance(hidden, draws=200) < 0.02
    assert chance(pairs(order, 16, 50.0), draws=200) > 0.05


def test_parts_that_differ_are_measured() -> None:
    random = np.random.default_rng(0)
    real = random.integers(60, 200, (200, 200, 3)).astype(np.uint8)
    fake = np.clip(real + random.integers(-3, 4, real.shape), 0, 255).astype(np.uint8)
    masks = part_masks(LANDMARKS, (200, 200))
    fake[masks["mouth"]] = 0
    away = differences(real, fake, LANDMARKS)
    assert max(away, key=lambda name: away[name]) == "mouth"
    assert away["mouth"] > away["nose"] + 2


def test_a_map_of_the_forged_part_wins_both_games() -> None:
    masks = part_masks(LANDMARKS, (200, 200))
    for place, name in enumerate(ORDER):
        bits = tuple(int(place == other) for other in range(4))
        assert scores(masks[name].astype(float), LANDMARKS, bits) == (1.0, 1.0)
        pointing, area = scores(-masks[name].astype(float), LANDMARKS, bits)
        assert (pointing, area) == (0.0, 0.0)
    assert set(ORDER) == set(PARTS)


def test_priors_lie_in_the_middle_and_nowhere() -> None:
    prior = centre_prior((200, 200), (50, 40, 150, 160))
    assert np.unravel_index(prior.argmax(), prior.shape) == (100, 100)
    areas = [
        scores(random_map((200, 200), np.random.default_rng(seed)), LANDMARKS, (0, 0, 1, 0))[1] for seed in range(40)
    ]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.12)


def test_the_bits_stand_in_the_note() -> None:
    assert bits_of(Sample(image="a", label=1, note="difficulty=easy;parts=0110;qsum=406")) == (0, 1, 1, 0)
