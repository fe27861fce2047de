"""Test that the AUC of a few facts is measured on pictures that the classifier was not fitted to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import CategoricalNB

from deepfake_detect.auditing.separability import BEYOND_CHANCE, chance_auc, separability_auc, telling_facts
from deepfake_detect.metrics.classification import roc_auc


def test_a_fact_that_is_the_label_tells_it() -> None:
    label = [0, 1] * 40
    auc, (low, high) = separability_auc([["a" if one else "b"] for one in label], label, range(80))
    assert (auc, low, high) == pytest.approx((1.0, 1.0, 1.0))


def test_a_fact_that_never_varies_tells_nothing() -> None:
    label = [0, 1, 1] * 30
    auc, (low, high) = separability_auc([[7, "x"]] * 90, label, range(90))
    assert auc == pytest.approx(0.5)
    assert low <= 0.5 <= high


@pytest.mark.parametrize("seed", range(8))
def test_noise_tells_nothing_however_many_facts(seed: int) -> None:
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, 300).tolist()
    facts = [[*random.normal(size=6), str(random.integers(30))] for _ in label]
    auc, (low, high) = separability_auc(facts, label, range(300), seed=seed)
    assert auc == pytest.approx(0.5, abs=0.1)
    assert low - 0.03 < 0.5 < high + 0.03


def test_a_group_does_not_vouch_for_itself() -> None:
    """The fact names the person, and each person has one label: known persons are told, others are not."""
    people = np.repeat(np.arange(60), 10)
    label = np.random.default_rng(0).integers(0, 2, 60)[people].tolist()
    facts = [[f"person {one}"] for one in people]
    alone, _ = separability_auc(facts, label, range(600))
    held, _ = separability_auc(facts, label, people.tolist())
    assert alone > 0.95
    assert held == pytest.approx(0.5, abs=0.08)


def test_scikit_learn_agrees() -> None:
    random = np.random.default_rng(3)
    label = random.integers(0, 2, 600)
    codes = np.stack(
        [random.binomial(3, 0.3 + 0.3 * label), random.integers(0, 4, 600), label ^ (random.random(600) < 0.4)], 1
    )
    facts = [[f"v{value}" for value in row] for row in codes]  # words: no bins
    ours, (low, high) = separability_auc(facts, label.tolist(), range(600))
    model = CategoricalNB(alpha=1, fit_prior=False, min_categories=[4, 4, 2])
    theirs = cross_val_predict(model, codes, label, cv=5, method="predict_proba")[:, 1]
    assert ours == pytest.approx(roc_auc(label, theirs), abs=0.02)
    assert low < ours < high
    assert 0.7 < ours < 0.9


def test_numbers_count_by_bins_so_that_both_ends_may_mean_the_same() -> None:
    random = np.random.default_rng(1)
    size = random.normal(size=400)
    label = (np.abs(size) > 0.7).astype(int).tolist()
    auc, _ = separability_auc([[float(value)] for value in size], label, range(400))
    assert auc > 0.9


def test_each_fact_by_itself() -> None:
    random = np.random.default_rng(2)
    label = random.integers(0, 2, 300).tolist()
    facts = [[float(random.normal()), "png" if one else "jpeg", float(one + random.normal())] for one in label]
    alone = telling_facts(facts, label, range(300), seed=4)
    for column, auc in enumerate(alone):
        assert auc == separability_auc([[row[column]] for row in facts], label, range(300), seed=4, rounds=2)[0]
    assert alone[0] < 0.6 < alone[2] < alone[1] == 1.0
    assert all(math.isnan(auc) for auc in telling_facts([["a", 1]] * 4, [1] * 4, range(4)))


def test_where_there_is_nothing_to_compare() -> None:
    for facts, label in (([["a"]] * 4, [1] * 4), ([[]] * 4, [0, 1, 0, 1])):
        auc, (low, high) = separability_auc(facts, label, range(4))
        assert math.isnan(auc) and math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize(("real", "fake"), [(9, 9), (20, 10), (60, 90)])
def test_chance_is_the_spread_of_shuffled_ranks(real: int, fake: int) -> None:
    label = [0] * real + [1] * fake
    random = np.random.default_rng(0)
    shuffled = [roc_auc(label, random.permutation(real + fake).astype(float)) for _ in range(4000)]
    ceiling = chance_auc(label, range(real + fake))
    assert ceiling == pytest.approx(0.5 + BEYOND_CHANCE * np.std(shuffled), rel=0.02)
    assert np.mean(np.array(shuffled) > ceiling) < 0.002


def test_chance_counts_groups_and_not_pictures() -> None:
    frames = [0] * 50 + [1] * 50
    videos = [number // 10 for number in range(100)]
    assert chance_auc(frames, videos) == chance_auc([0] * 5 + [1] * 5, range(10)) > 1 > chance_auc(frames, range(100))
    assert chance_auc([0, 1, 1], ["a", "a", "b"]) == chance_auc([0, 1, 1], range(3))
    assert chance_auc([1, 1], range(2)) == math.inf
