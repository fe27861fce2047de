"""Test that the guaranteed rate of false alarms holds, and that the bound is the exact one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deepfake_detect.errors import DatasetError
from deepfake_detect.metrics.conformal import conformal_threshold, least_count, upper_bound


def test_by_hand() -> None:
    found = conformal_threshold([0.1, 0.9, 0.5, 0.3], max_false_alarm=0.4)  # 0.4 * 5 = 2 ranks: one may reach it
    assert 0.5 < found.value < 0.5001
    assert (found.n, found.alarms, found.rate) == (4, 1, 0.4)
    assert conformal_threshold([0.1, 0.9, 0.5, 0.3], max_false_alarm=0.2).alarms == 0


def test_ties_never_reach_the_threshold() -> None:
    found = conformal_threshold([0.2] * 50 + [0.8] * 49, max_false_alarm=0.1)
    assert found.alarms == 0 and found.value > 0.8
    assert conformal_threshold([0.5] * 20, max_false_alarm=0.5).value > 0.5


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("count", [99, 150, 801])
def test_the_rate_holds_on_average_and_is_not_wasted(rate: float, count: int) -> None:
    random = np.random.default_rng(1)
    found = [conformal_threshold(random.random(count), max_false_alarm=rate) for _ in range(600)]
    true_rates = np.array([1 - one.value for one in found])  # of the uniform distribution
    error = 3 * true_rates.std() / np.sqrt(len(true_rates))
    assert true_rates.mean() < rate + error
    assert true_rates.mean() > rate - 1 / (count + 1) - error
    assert np.mean(true_rates <= [one.bound_95 for one in found]) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("alarms", "n"), [(0, 99), (3, 400), (40, 500), (9, 10), (1500, 30000)])
def test_the_bound_is_the_quantile_of_the_beta_distribution(alarms: int, n: int) -> None:
    for confidence in (0.5, 0.95, 0.999):
        expected = stats.beta(alarms + 1, n - alarms).ppf(confidence)
        assert upper_bound(alarms, n, confidence=confidence) == pytest.approx(expected, rel=1e-6)
    assert upper_bound(n, n, confidence=0.95) == 1.0


def test_too_few_photographs_are_told_how_many_more() -> None:
    with pytest.raises(DatasetError, match=r"41 real photographs allow 2\.4% false alarms at best.*up to 99"):
        conformal_threshold(np.linspace(0, 1, 41), max_false_alarm=0.01)
    for rate in (0.01, 0.05, 1 / 3, 0.2, 0.001):
        least = least_count(rate)
        assert conformal_threshold(np.linspace(0, 1, least), max_false_alarm=rate).alarms == 0
        with pytest.raises(DatasetError):
            conformal_threshold(np.linspace(0, 1, least - 1), max_false_alarm=rate)


def test_nonsense_is_refused() -> None:
    for rate in (0, 1, 50):
        with pytest.raises(ValueError, match="expected a rate"):
            conformal_threshold([0.1], max_false_alarm=rate)
    with pytest.raises(ValueError, match="no numbers"):
        conformal_threshold([0.1, np.nan], max_false_alarm=0.5)
