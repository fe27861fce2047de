"""Thresholds that keep false alarms below a rate, with a finite-sample guarantee.

Split conformal prediction (Vovk, Gammerman and Shafer 2005; Lei and others 2018): of n real photographs and one more of
the same kind, every order of their scores is equally likely. So the next real photograph reaches a threshold above all
but the k highest scores with a probability of at most (k + 1) / (n + 1), whatever the distribution of the scores.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deepfake_detect.errors import DatasetError


class Threshold(NamedTuple):
    """A threshold with its guarantee for real photographs of the same kind.

    Attributes:
        value: A score at or above it is called fake. It lies just above one of the scores.
        n: Number of real photographs that it was fitted to.
        alarms: Number of these that reach it.
        rate: Upper bound of the probability that the next real photograph reaches it, on average over such data sets.
        bound_95: Upper bound of the rate of false alarms, with 95 % confidence over such data sets.
    """

    value: float
    n: int
    alarms: int
    rate: float
    bound_95: float


def conformal_threshold(real: ArrayLike, *, max_false_alarm: float) -> Threshold:
    """Find the lowest threshold that real photographs reach with at most a given probability.

    Args:
        real: Scores of real photographs, [N], on any scale; higher means more likely fake. Pass one photograph for each
            person or video: they must be exchangeable.
        max_false_alarm: Above 0 and below 1.

    Raises:
        ValueError: The rate is out of range, or a score is no number.
        DatasetError: Too few photographs for that rate.

    Example:
        >>> conformal_threshold(range(1, 100), max_false_alarm=0.05).alarms
        4
    """
    if not 0 < max_false_alarm < 1:
        raise ValueError(f"max_false_alarm is {max_false_alarm}, expected a rate above 0 and below 1")
    scores = np.sort(np.asarray(real, float))[::-1]
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"scores of shape {scores.shape} hold values that are no numbers; leave those photographs out")
    allowed = math.floor(max_false_alarm * (scores.size + 1) + 1e-9) - 1
    if allowed < 0:
        raise DatasetError(
            f"{scores.size} real photographs allow {1 / (scores.size + 1):.1%} false alarms at best, asked for "
            f"{max_false_alarm:.1%}; add photographs, up to {least_count(max_false_alarm)}, or allow a higher rate"
        )
    value = float(np.nextafter(scores[allowed], np.inf))  # above the first that must not reach it, and all its ties
    alarms = int(np.count_nonzero(scores >= value))
    return Threshold(
        value=value,
        n=int(scores.size),
        alarms=alarms,
        rate=(alarms + 1) / (scores.size + 1),
        bound_95=upper_bound(alarms, int(scores.size), confidence=0.95),
    )


def least_count(max_false_alarm: float) -> int:
    """Return the number of real photographs that a rate of false alarms needs.

    Example:
        >>> least_count(0.01)
        99
    """
    return math.ceil(1 / max_false_alarm - 1e-9) - 1


def upper_bound(alarms: int, n: int, *, confidence: float) -> float:
    """Bound the rate of a threshold that lies just above the ``alarms + 1``-th highest of n scores.

    The share of all real photographs above that score has the distribution Beta(alarms + 1, n - alarms), whatever
    theirs is (Wilks 1941); the bound is its quantile.

    Args:
        alarms: Scores above it.
        n: Scores.
        confidence: Above 0 and below 1.

    Returns:
        The rate that is exceeded with a probability of at most ``1 - confidence``; 1 where all scores lie above.
    """
    if alarms >= n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):  # the chance of at most `alarms` of n falls as the rate rises
        rate = (low + high) / 2
        low, high = (rate, high) if _at_most(alarms, n, rate) > 1 - confidence else (low, rate)
    return high


def _at_most(count: int, n: int, rate: float) -> float:
    """Return the probability of at most ``count`` of n events, each of which has the probability ``rate``."""
    if rate <= 0:
        return 1.0
    if rate >= 1:
        return float(count >= n)
    terms = np.arange(count + 1)
    ways = math.lgamma(n + 1) - np.array([math.lgamma(k + 1) + math.lgamma(n - k + 1) for k in terms])
    return float(np.exp(ways + terms * math.log(rate) + (n - terms) * math.log1p(-rate)).sum())
