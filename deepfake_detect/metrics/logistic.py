"""Fit a logistic regression with a few features and no negative weights, both classes counting the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RIDGE = 1e-2
"""Penalty on the squared weights, in units of the mean loss of a picture times their number; none on the bias."""

_STEPS = 50
_SMALLEST_STEP = 1e-10


def fit_logistic(features: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], float]:
    """Find weights and bias that make ``sigmoid(features @ weights + bias)`` most likely, each class counting half.

    So the bias tells nothing of how many pictures of each class there are. A feature whose weight would be negative is
    left out: more evidence of a fake never makes a picture less suspicious.

    Args:
        features: [N, K], such as logits of several networks.
        y: 1 for fake, 0 for real, [N].

    Returns:
        Weights [K], none below 0, and the bias.

    Raises:
        ValueError: One class is missing.

    Example:
        >>> weights, bias = fit_logistic([[-2.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [2.0, 1.0]], [0, 0, 1, 1])
        >>> weights[0] > 1, abs(weights[1]) < 0.01, abs(bias) < 0.01
        (np.True_, np.True_, True)
    """
    values, fake = np.asarray(features, np.float64), np.asarray(y).astype(bool)
    if fake.all() or not fake.any():
        raise ValueError("fitting needs pictures of both classes")
    kept = list(range(values.shape[1]))
    while True:
        weights, bias = _fit(values[:, kept], fake)
        if not kept or weights.min() >= 0:
            break
        del kept[int(weights.argmin())]
    whole = np.zeros(values.shape[1])
    whole[kept] = weights
    return whole, bias


def _fit(features: NDArray[np.float64], fake: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Run Newton's method, halving a step that makes the loss larger."""
    rows = np.column_stack([features, np.ones(len(features))])
    share = np.where(fake, 0.5 / fake.sum(), 0.5 / (~fake).sum()) * len(fake)
    penalty = np.full(rows.shape[1], RIDGE)
    penalty[-1] = 0.0
    solution = np.zeros(rows.shape[1])

    def loss(at: NDArray[np.float64]) -> float:
        signed = np.where(fake, 1.0, -1.0) * (rows @ at)
        return float(share @ np.logaddexp(0, -signed) + penalty @ at**2 / 2)

    for _ in range(_STEPS):
        probability = (1 + np.tanh(rows @ solution / 2)) / 2
        slope = rows.T @ (share * (probability - fake)) + penalty * solution
        curve = (rows * (share * probability * (1 - probability))[:, None]).T @ rows
        step = np.linalg.solve(curve + np.diag(penalty + 1e-9), slope)
        while loss(solution - step) > loss(solution) and np.abs(step).max() > _SMALLEST_STEP:
            step /= 2
        solution = solution - step
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    return solution[:-1], float(solution[-1])
