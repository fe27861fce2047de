"""Tests of the checks: maps that show the cause pass, others fail."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from deepfake_detect import create_model
from deepfake_detect.explain.faithfulness import Faithfulness, measure_faithfulness, randomised, rank_correlation
from deepfake_detect.explain.regions import Subject, measure_regions
from deepfake_detect.weights.card import Preprocessing
from tests.small_world import Texture

HELD = Faithfulness(
    fall=0.6, deletion=0.3, insertion=0.8, random=(0.5, 0.6), random_weights=0.1, shift=0.9, level="quick"
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"fall": 0.1, "random_weights": 0.5, "shift": 0.5}, None),
        ({"fall": 0.099}, r"almost as sure \(-0.10\): no place on it decides"),
        ({"fall": -0.2}, r"even surer \(\+0.20\)"),
        ({"deletion": 0.5}, r"the hottest places takes no more .* \(0.50, random 0.50 to 0.60\)"),
        ({"insertion": 0.6}, r"hottest places alone give no more .* \(0.60, random 0.50 to 0.60\)"),
        ({"deletion": 0.505, "insertion": 0.6, "random": (0.5, *[0.55] * 18, 0.6)}, None),
        ({"deletion": 0.505, "random": (0.5, 0.5, *[0.55] * 18)}, r"takes no more .* \(0.51, random 0.50 to 0.55\)"),
        ({"insertion": 0.6, "random": (*[0.55] * 18, 0.6, 0.6)}, r"give no more .* \(0.60, random 0.55 to 0.60\)"),
        ({"random_weights": 0.51}, r"random weights give much the same map \(rank correlation 0.51\)"),
        ({"shift": 0.49}, r"moves by a few pixels \(rank correlation 0.49\)"),
    ],
)
def test_the_rule(change: dict[str, Any], words: str | None) -> None:
    found = replace(HELD, **change)
    assert found.is_evidence == (words is None) == (not found.reasons)
    if words is not None:
        (reason,) = found.reasons
        assert re.search(words, reason)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)


def subject(model: nn.Module) -> Subject:
    half = Preprocessing(size_px=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Subject.of(
        noise(),
        model=model.eval(),
        preprocessing=half,
        device=torch.device("cpu"),
        probability=lambda logit: logit.sigmoid(),
    )


def where_it_looks(model: nn.Module, batch: Tensor) -> Tensor:
    """Give the exact part of every cell in the logit of `Texture`."""
    assert isinstance(model, Texture)
    with torch.no_grad():
        detail = model.pool(model.detail(batch).abs())[:, 0]
        return detail * model.head.weight.view(8, 8)


@pytest.mark.parametrize("level", ["quick", "full"])
def test_a_map_of_the_cause_is_evidence(level: str) -> None:
    found = measure_faithfulness(subject(Texture()), draw=where_it_looks, level=level)
    assert found.is_evidence, found.reasons
    assert found.fall > 0.5
    assert found.deletion < min(found.random) and found.insertion > max(found.random)
    assert found.level == level


def test_a_map_turned_upside_down_is_not() -> None:
    found = measure_faithfulness(subject(Texture()), draw=lambda *args: where_it_looks(*args).flip(1, 2))
    assert not found.is_evidence
    assert any("hottest places" in reason for reason in found.reasons)


def test_a_map_that_does_not_ask_the_weights_is_not() -> None:
    cause = torch.zeros(1, 8, 8)
    cause[:, 2:4, 4:6] = 1.0
    fixed = cause + 0.01 * torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = measure_faithfulness(subject(Texture()), draw=lambda _, batch: fixed.expand(len(batch), 8, 8))
    assert found.random_weights == pytest.approx(1)
    assert any("random weights give much the same map" in reason for reason in found.reasons)


def test_a_map_that_jumps_is_not() -> None:
    def restless(model: nn.Module, batch: Tensor) -> Tensor:
        seed = int(1000 * float(batch[0].sum().abs())) % 2**31
        return torch.rand(len(batch), 8, 8, generator=torch.Generator().manual_seed(seed))

    found = measure_faithfulness(subject(Texture()), draw=restless)
    assert abs(found.shift) < 0.5
    assert any("moves by a few pixels" in reason for reason in found.reasons)


def test_where_the_face_decides_nothing_there_is_nothing_to_show() -> None:
    blind = Texture()
    nn.init.zeros_(blind.head.weight)
    found = measure_faithfulness(subject(blind), draw=lambda _, batch: torch.rand(len(batch), 8, 8))
    assert found.fall == pytest.approx(0)
    assert any("no place on it decides" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fall": 0.09}, "whole face blurred"),
        ({"deletion": 0.5}, "takes no more"),
        ({"insertion": 0.6}, "give no more"),
        ({"random_weights": 0.51}, "random weights"),
        ({"shift": 0.49}, "moves"),
    ],
)
def test_each_check_fails_alone(change: dict[str, float], word: str) -> None:
    assert HELD.is_evidence and len(HELD.findings) == 5
    found = replace(HELD, **change)
    assert not found.is_evidence
    assert len(found.reasons) == 1 and word in found.reasons[0]
    assert found.to_dict()["reasons"] == list(found.reasons)


def test_the_area_of_a_known_curve() -> None:
    """With a logit of the mean, a map that is even blurs places in random order: the areas meet in the middle."""

    class Mean(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return batch.abs().mean((1, 2, 3))

    model = Mean()
    about = Subject(
        model=model, sharp=torch.ones(1, 3, 64, 64), blurred=torch.zeros(1, 3, 64, 64), probability=lambda logit: logit
    )
    found = measure_faithfulness(
        about, draw=lambda _, batch: torch.rand(len(batch), 8, 8, generator=torch.Generator().manual_seed(1))
    )
    assert found.fall == pytest.approx(1)
    assert (found.deletion, found.insertion) == pytest.approx((0.5, 0.5), abs=1e-6)
    assert found.random == pytest.approx((0.5,) * 8, abs=1e-6)


def test_random_weights_are_others_and_the_model_is_left_alone() -> None:
    model = create_model("meso4", seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = randomised(model, seed=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, parameter in other.named_parameters():
        if parameter.ndim > 1:
            assert abs(np.corrcoef(parameter.detach().ravel(), before[name].ravel())[0, 1]) < 0.5, name
    again = randomised(model, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), again.parameters(), strict=True))


def test_rank_correlation_is_spearmans() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        one, other = random.integers(0, 6, (7, 7)), random.normal(size=(7, 7))
        assert rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert rank_correlation(np.zeros(4), np.arange(4)) == 0


def test_a_part_that_matters_lowers_the_score_when_it_is_blurred() -> None:
    masks = {name: np.zeros((64, 64), bool) for name in ("cause", "elsewhere")}
    masks["cause"][12:36, 28:52] = True
    masks["elsewhere"] = ~masks["cause"]
    heat = np.zeros((64, 64), np.float32)
    heat[16:32, 32:48] = 1.0
    found = measure_regions(heat, masks, subject=subject(Texture()))
    assert found["cause"].share == 1 and found["elsewhere"].share == 0
    assert found["cause"].drop is not None and found["elsewhere"].drop is not None
    assert found["cause"].drop > 0.5 > 5 * abs(found["elsewhere"].drop)
    assert measure_regions(0 * heat, masks)["cause"].share == 0
