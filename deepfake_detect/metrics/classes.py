"""Figures of merit for any number of classes: confusion, recall and AUC of each, and the temperature of a softmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfake_detect.metrics.classification import TEMPERATURES, roc_auc

_GOLDEN = (5**0.5 - 1) / 2  # share of an interval that a step of the golden-section search keeps
_STEPS = 60


def confusion_matrix(label: ArrayLike, predicted: ArrayLike, count: int) -> NDArray[np.int64]:
    """Count which class is taken for which.

    Args:
        label: True classes, 0 to count - 1, [N].
        predicted: Predicted classes, [N].
        count: Number of classes.

    Returns:
        [count, count]: rows are true classes, columns predicted ones.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
        [[1, 1], [0, 1]]
    """
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (np.asarray(label, int), np.asarray(predicted, int)), 1)
    return table


def class_recall(label: ArrayLike, predicted: ArrayLike, count: int) -> list[float]:
    """Return the share of each class that is recognised; nan where there are no pictures of it.

    Example:
        >>> class_recall([0, 0, 1], [0, 1, 1], 2)
        [0.5, 1.0]
    """
    table = confusion_matrix(label, predicted, count)
    return [float(row[place] / row.sum()) if row.sum() else float("nan") for place, row in enumerate(table)]


def mean_auc(label: ArrayLike, logit: ArrayLike) -> float:
    """Return the mean AUC of each class against all others (Provost and Domingos 2000), unweighted.

    Args:
        label: True classes, [N].
        logit: A score for each class, [N, K], such as logits or probabilities.

    Returns:
        0 to 1; nan where all pictures are of one class. Classes without pictures are left out.

    Example:
        >>> mean_auc([0, 1, 2], [[2, 0, 0], [0, 2, 0], [0, 0, 2]])
        1.0
    """
    truth, score = np.asarray(label, int), np.asarray(logit, float)
    present = np.unique(truth)
    if len(present) < 2:
        return float("nan")
    return float(np.mean([roc_auc(truth == place, score[:, place]) for place in present]))


def class_log_loss(label: ArrayLike, logit: ArrayLike, *, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of the true classes under a softmax.

    Example:
        >>> round(class_log_loss([0, 1], [[0, 0], [0, 0]]), 4)
        0.6931
    """
    truth = np.asarray(label, int)
    return float(-np.mean(_log_softmax(np.asarray(logit, float) / temperature)[np.arange(len(truth)), truth]))


def fit_class_temperature(label: ArrayLike, logit: ArrayLike) -> float:
    """Find the temperature that makes ``softmax(logit / temperature)`` most likely (Guo et al. 2017).

    Targets are smoothed as by Platt (1999), ``(n + 1) / (n + 2)`` for the true class of n pictures, so that a few
    pictures which the logits separate do not make every score 0 or 1. The loss is convex in the inverse of the
    temperature, so a golden-section search finds its minimum.

    Args:
        label: True classes, [N].
        logit: [N, K].

    Returns:
        A temperature within ``TEMPERATURES``.
    """
    truth, values = np.asarray(label, int), np.asarray(logit, float)
    counts = np.bincount(truth, minlength=values.shape[1])[truth]  # of the class of each picture
    target = np.repeat((1 / (counts + 2) / (values.shape[1] - 1))[:, None], values.shape[1], axis=1)
    target[np.arange(len(truth)), truth] = (counts + 1) / (counts + 2)

    def loss(slope: float) -> float:
        return float(-np.mean((target * _log_softmax(values * slope)).sum(1)))

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(_STEPS):
        span = _GOLDEN * (high - low)
        left, right = high - span, low + span
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return 2 / (low + high)


def _log_softmax(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logit - logit.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)), np.float64)
