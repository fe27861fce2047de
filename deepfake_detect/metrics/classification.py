"""Figures of merit for scores: accuracy, AUC, average precision, equal error rate, calibration error.

Everywhere ``y`` [N] is 1 for a fake and 0 for a real picture, and a higher ``score`` [N] means more likely fake: on any
scale where only the order or a threshold counts, a probability of 0 to 1 where calibration is measured. A ``logit`` [N]
is positive for fake.

Where a measure is undefined, as the AUC is for pictures of one class, it is ``nan``: a 0.5 there would look like a
result. What cannot be fitted raises ``ValueError``, and so does every function here for ``y`` and scores of different
lengths, for other truths than 0 and 1, and for scores that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

TEMPERATURES = (0.05, 20.0)
"""Range of the fitted temperature: it would become zero where a threshold separates the classes without error."""

BIASES = (-20.0, 20.0)
"""Range of the fitted bias."""

_EPSILON = float(np.finfo(np.float64).eps)

_Numbers = NDArray[np.float64]
_Curve = tuple[_Numbers, _Numbers, _Numbers]


class Confusion(NamedTuple):
    """Number of pictures by true and by predicted class.

    Attributes:
        tp: Fakes called fake.
        fp: Reals called fake.
        tn: Reals called real.
        fn: Fakes called real.
    """

    tp: int
    fp: int
    tn: int
    fn: int


def roc_auc(y: ArrayLike, score: ArrayLike) -> float:
    """Measure how often a fake scores above a real picture, a tie counting half.

    Returns:
        0 to 1; nan where one class is missing.

    Example:
        >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
    """
    fpr, tpr, _ = roc_curve(y, score)
    return float(np.trapezoid(tpr, fpr))


def average_precision(y: ArrayLike, score: ArrayLike) -> float:
    """Measure the precision averaged over the recall, in steps and without interpolation.

    Returns:
        0 to 1; nan where one class is missing.
    """
    tp, fp, _ = _cumulated(y, score)
    if not (tp[-1] and fp[-1]):
        return float("nan")
    precisions = tp[1:] / (tp[1:] + fp[1:])
    return float(np.sum(np.diff(tp) * precisions) / tp[-1])


def equal_error_rate(y: ArrayLike, score: ArrayLike) -> float:
    """Measure the rate at which fakes missed and false alarms are equally frequent.

    Between two thresholds, where the rates cross, the curve is taken as straight.

    Returns:
        0 to 1; nan where one class is missing.
    """
    fpr, tpr, _ = roc_curve(y, score)
    lead = 1 - tpr - fpr  # misses less false alarms: falls from 1 to -1
    if np.isnan(lead).any():
        return float("nan")
    after = int(np.argmax(lead <= 0))
    share = lead[after - 1] / (lead[after - 1] - lead[after])
    return float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))


def confusion(y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5) -> Confusion:
    """Count the pictures by true and by predicted class; a score at or above the threshold means fake.

    Example:
        >>> confusion([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.5])
        Confusion(tp=1, fp=1, tn=1, fn=1)
    """
    fake, value = _pairs(y, score)
    called_fake = value >= threshold
    cells = (fake & called_fake, ~fake & called_fake, ~fake & ~called_fake, fake & ~called_fake)
    return Confusion(*(int(np.count_nonzero(cell)) for cell in cells))


def accuracy(y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5) -> float:
    """Measure the share of pictures that were called by their true class; nan without pictures."""
    count = confusion(y, score, threshold=threshold)
    return _share(count.tp + count.tn, sum(count))


def balanced_accuracy(y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5) -> float:
    """Measure the mean of the two classes' accuracies; nan where one class is missing."""
    count = confusion(y, score, threshold=threshold)
    return (_share(count.tp, count.tp + count.fn) + _share(count.tn, count.tn + count.fp)) / 2


def precision(y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5) -> float:
    """Measure the share of fakes among what was called fake; nan where nothing was."""
    count = confusion(y, score, threshold=threshold)
    return _share(count.tp, count.tp + count.fp)


def recall(y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5) -> float:
    """Measure the share of the fakes that were called fake; nan where there are none."""
    count = confusion(y, score, threshold=threshold)
    return _share(count.tp, count.tp + count.fn)


def f1(y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5) -> float:
    """Measure the harmonic mean of precision and recall; nan where nothing is fake nor called so."""
    count = confusion(y, score, threshold=threshold)
    return _share(2 * count.tp, 2 * count.tp + count.fp + count.fn)


def log_loss(y: ArrayLike, score: ArrayLike) -> float:
    """Measure the mean negative log-likelihood of the labels, in nats.

    Args:
        y: 1 for fake, 0 for real, [N].
        score: Probabilities of fake, 0 to 1, [N]; 0 and 1 count as the nearest float64 inside.

    Returns:
        0 or more, and log(2) for a score of 0.5 everywhere; nan without pictures.
    """
    fake, value = _pairs(y, score)
    return float(np.mean(label_losses(value, fake=fake))) if value.size else float("nan")


def label_losses(score: _Numbers, *, fake: NDArray[np.bool_]) -> _Numbers:
    """Compute the negative log-likelihood of each label, [N]."""
    inside = np.clip(score, _EPSILON, 1 - _EPSILON)
    return -np.log(np.where(fake, inside, 1 - inside))


def expected_calibration_error(y: ArrayLike, score: ArrayLike, *, bins: int = 15) -> float:
    """Measure how far the probabilities lie from the shares of fakes, averaged over the pictures.

    Args:
        y: 1 for fake, 0 for real, [N].
        score: Probabilities of fake, 0 to 1, [N].
        bins: Number of bins of equal width.

    Returns:
        0 (a score of 0.8 is fake eight times in ten) to 1; nan without pictures.
    """
    mean_score, share_fake, count = reliability(y, score, bins=bins)
    return _share(float(np.nansum(count * np.abs(mean_score - share_fake))), float(count.sum()))


def reliability(y: ArrayLike, score: ArrayLike, *, bins: int = 15) -> _Curve:
    """Compare the probabilities with the shares of fakes, bin by bin.

    Args:
        y: 1 for fake, 0 for real, [N].
        score: Probabilities of fake, 0 to 1, [N].
        bins: Number of bins of equal width; each holds its lower edge, the last one its upper edge too.

    Returns:
        Mean probability, share of fakes and number of pictures, [bins] each; nan, nan, 0 for an empty bin.
    """
    fake, value = _pairs(y, score)
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least 1")
    if value.size and not 0 <= value.min() <= value.max() <= 1:
        raise ValueError(f"scores run from {value.min():g} to {value.max():g}, expected probabilities within 0..1")
    place = np.minimum((value * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins).astype(float)
    full = np.where(count > 0, count, np.nan)
    mean_score = np.bincount(place, weights=value, minlength=bins) / full
    share_fake = np.bincount(place, weights=fake, minlength=bins) / full
    return mean_score, share_fake, count


def roc_curve(y: ArrayLike, score: ArrayLike) -> _Curve:
    """Trace the false alarms against the fakes found, one point for each distinct score.

    Returns:
        False positive rate, true positive rate and threshold, [K + 1] each, from (0, 0, inf) to (1, 1, lowest
        score). A rate is nan where its class is missing.
    """
    tp, fp, threshold = _cumulated(y, score)
    return _rates(fp), _rates(tp), threshold


def best_threshold(y: ArrayLike, score: ArrayLike) -> float:
    """Find the threshold with the highest balanced accuracy.

    It lies halfway between two neighbouring scores. Of several that are equally good, the one in the widest gap is
    taken, then the lowest; where calling everything fake is better than any, it is the lowest score.

    Raises:
        ValueError: One class is missing, so that all thresholds are equally good.

    Example:
        >>> best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9])
        0.4
    """
    _both_classes(_pairs(y, score)[0], "threshold")
    tp, fp, value = _cumulated(y, score)
    upper, lower = value[1:-1], value[2:]
    middle = (upper + lower) / 2
    threshold = np.append(np.where(middle > lower, middle, upper), value[-1])
    gap = np.append(upper - lower, 0.0)
    good = (tp * fp[-1] - fp * tp[-1])[1:]  # balanced accuracy times a constant, in whole numbers: ties are exact
    return float(threshold[np.lexsort((threshold, -gap, -good))[0]])


def fit_temperature(logit: ArrayLike, y: ArrayLike, *, smooth: bool = False) -> float:
    """Find the temperature that makes ``sigmoid(logit / temperature)`` most likely.

    Guo et al., *On Calibration of Modern Neural Networks*, 2017 (https://arxiv.org/abs/1706.04599).

    Args:
        logit: [N].
        y: 1 for fake, 0 for real, [N].
        smooth: As for `fit_platt`.

    Returns:
        A temperature within ``TEMPERATURES``.

    Raises:
        ValueError: One class is missing, so that only the most extreme temperature would fit.
    """
    fake, value = _pairs(y, logit)
    _both_classes(fake, "temperature")
    target = _targets(fake, smooth=smooth)
    return 1 / _root(lambda slope: _slopes(target, value, slope, 0.0)[0], 1 / TEMPERATURES[1], 1 / TEMPERATURES[0])


def fit_platt(logit: ArrayLike, y: ArrayLike, *, smooth: bool = False) -> tuple[float, float]:
    """Find temperature and bias that make ``sigmoid(logit / temperature + bias)`` most likely.

    Unlike the temperature alone, the bias moves the logit that means "as likely fake as real".

    Args:
        logit: [N].
        y: 1 for fake, 0 for real, [N].
        smooth: Fit to ``(n_fake + 1) / (n_fake + 2)`` and ``1 / (n_real + 2)`` in place of 1 and 0, as Platt (1999)
            does, so that a few pictures which the logits separate do not make every score 0 or 1.

    Returns:
        Temperature within ``TEMPERATURES`` and bias within ``BIASES``.

    Raises:
        ValueError: One class is missing.
    """
    fake, value = _pairs(y, logit)
    _both_classes(fake, "calibration")

    def bias(slope: float) -> float:
        return _root(lambda shift: _slopes(target, value, slope, shift)[1], *BIASES)

    target = _targets(fake, smooth=smooth)
    slope = _root(lambda at: _slopes(target, value, at, bias(at))[0], 1 / TEMPERATURES[1], 1 / TEMPERATURES[0])
    return 1 / slope, bias(slope)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.bool_], _Numbers], float],
    y: ArrayLike,
    score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    rounds: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Estimate the confidence interval of a statistic by the bootstrap.

    Whole groups are drawn with replacement, since pictures of one video or person are not independent. The ends of the
    interval are percentiles of the draws; draws where the statistic is nan are left out.

    Args:
        statistic: Called as ``statistic(y, score)``: any measure of this module.
        y: 1 for fake, 0 for real, [N].
        score: Scores, on the scale that the statistic takes, [N].
        groups: The group that each picture belongs to, [N]; where None, each picture is its own group.
        rounds: Number of draws.
        seed: Random seed of the draws.
        level: Share of the draws inside the interval, above 0 and below 1.

    Returns:
        Lower and upper end; both nan where the statistic is nan in every draw.

    Raises:
        ValueError: ``groups`` differs in length, or ``rounds`` or ``level`` is out of range.
    """
    fake, value = _pairs(y, score)
    if rounds < 1 or not 0 < level < 1:
        raise ValueError(f"rounds is {rounds} and level {level}, expected at least 1 and between 0 and 1")
    members = np.arange(fake.size) if groups is None else np.asarray(groups)
    if members.shape != fake.shape:
        raise ValueError(f"groups has shape {members.shape}, expected one group for each of {fake.size} pictures")
    draws = [statistic(fake[drawn], value[drawn]) for drawn in _draws(members, rounds, seed)]
    known = [draw for draw in draws if not np.isnan(draw)]
    if not known:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _pairs(y: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], _Numbers]:
    truth, value = np.asarray(y), np.asarray(score, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != value.shape:
        raise ValueError(f"y has shape {truth.shape} and the scores {value.shape}, expected [N] twice")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"y holds {np.unique(truth)[:5]}, expected 1 for fake and 0 for real")
    if not np.isfinite(value).all():
        raise ValueError(f"{int(np.sum(~np.isfinite(value)))} of {value.size} scores are not finite; leave them out")
    return truth == 1, value


def _both_classes(fake: NDArray[np.bool_], what: str) -> None:
    if fake.all() or not fake.any():
        raise ValueError(f"a {what} needs both classes, found {int(fake.sum())} fake of {fake.size}; add the other one")


def _cumulated(y: ArrayLike, score: ArrayLike) -> _Curve:
    """Count fakes and reals at or above each distinct score, highest first, after a point above them all."""
    fake, value = _pairs(y, score)
    if not value.size:
        return np.zeros(2), np.zeros(2), np.array([np.inf, -np.inf])  # one point alone would have an area of 0
    distinct, place = np.unique(-value, return_inverse=True)
    fakes = np.bincount(place, weights=fake)
    reals = np.bincount(place, weights=~fake)
    return (
        np.concatenate([[0.0], np.cumsum(fakes)]),
        np.concatenate([[0.0], np.cumsum(reals)]),
        np.concatenate([[np.inf], -distinct]),
    )


def _rates(count: _Numbers) -> _Numbers:
    return count / count[-1] if count[-1] else np.full_like(count, np.nan)


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Find the root of a function that never falls by bisection; where it has none, return an end of the interval."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _targets(fake: NDArray[np.bool_], *, smooth: bool) -> _Numbers:
    if not smooth:
        return fake.astype(float)
    fakes = int(fake.sum())
    return np.where(fake, (fakes + 1) / (fakes + 2), 1 / (fake.size - fakes + 2))


def _slopes(target: _Numbers, logit: _Numbers, slope: float, shift: float) -> tuple[float, float]:
    """Compute the derivatives of the log loss by slope and by shift; it is convex in both."""
    excess = (1 + np.tanh((slope * logit + shift) / 2)) / 2 - target
    return float(np.mean(excess * logit)), float(np.mean(excess))


def _draws(members: NDArray[Any], rounds: int, seed: int) -> Iterator[NDArray[np.intp]]:
    order = np.argsort(members, kind="stable")
    size = np.unique(members, return_counts=True)[1]
    start = np.cumsum(size) - size
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        group = rng.integers(size.size, size=size.size)
        length = size[group]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        yield order[np.repeat(start[group], length) + within]
