"""Confidence intervals of figures by resampling groups (the bootstrap).

Whole groups are drawn with replacement, as `classification.bootstrap_interval` does, and all figures share the same
draws. A draw is stored as the number of times that each picture is in it, so that all figures of all draws are a few
sums over one sorted table: nine figures of 3000 pictures over 1000 draws take 0.1 s instead of 1.3 s, with the same
results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfake_detect.metrics.classification import label_losses

_Numbers = NDArray[np.float64]
_AT_ONCE = 100_000  # cells of a table of draws by pictures: 0.8 MB, which fits into the cache of a processor
_ECE_BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class _Draw:
    """Some draws of pictures, which are sorted by falling score.

    Attributes:
        fake: How often each fake is in each draw, and 0 for a real picture, [R, N].
        real: How often each real picture is in each draw, and 0 for a fake, [R, N].
        score: Score of each picture, [N].
        called_fake: Whether the score reaches the threshold, [N].
        ends: Index of the last picture of each distinct score, [K].
    """

    fake: _Numbers
    real: _Numbers
    score: _Numbers
    called_fake: NDArray[np.bool_]
    ends: NDArray[np.intp]

    @cached_property
    def cells(self) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers]:
        """Count true positives, false positives, true negatives and false negatives, [R] each."""
        tp, fp = self.fake @ self.called_fake, self.real @ self.called_fake
        return tp, fp, self.real.sum(1) - fp, self.fake.sum(1) - tp

    @cached_property
    def curve(self) -> tuple[_Numbers, _Numbers]:
        """Count the fakes and reals at or above each distinct score, [R, K + 1] each, from 0."""
        counts = np.zeros((2, len(self.fake), len(self.ends) + 1))
        for count, part in zip(counts, (self.fake, self.real), strict=True):
            count[:, 1:] = np.cumsum(part, 1)[:, self.ends]
        return counts[0], counts[1]


def draw_figures(
    y: ArrayLike,
    score: ArrayLike,
    *,
    threshold: float = 0.5,
    groups: ArrayLike | None = None,
    names: Sequence[str] = (),
    rounds: int = 1000,
    seed: int = 0,
) -> dict[str, _Numbers]:
    """Draw pictures with replacement, and compute figures of every draw.

    Args:
        y: 1 for fake, 0 for real, [N].
        score: Probabilities of fake, 0 to 1, [N].
        threshold: A score at or above it means fake.
        groups: The group that each picture belongs to, [N]; where None, each picture is its own group.
        names: Names in `FIGURES`; all of them where empty.
        rounds: Number of draws, R.
        seed: Random seed: the same seed and groups give the same draws.

    Returns:
        [R] for each name; nan where a figure is undefined in a draw, and in all of them without pictures.

    Example:
        >>> draws = draw_figures([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], names=["auc"])
        >>> interval(draws["auc"])
        (0.0, 1.0)
    """
    names = tuple(names) or tuple(FIGURES)
    truth, value = np.asarray(y) == 1, np.asarray(score, dtype=np.float64)
    if not truth.size:
        return {name: np.full(rounds, np.nan) for name in names}
    place = np.unique(np.arange(truth.size) if groups is None else np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(-value, kind="stable")
    truth, value, place = truth[order], value[order], place[order]
    ends = np.append(np.flatnonzero(np.diff(value)), value.size - 1)
    rng, parts = np.random.default_rng(seed), []
    step = max(1, _AT_ONCE // truth.size)
    for first in range(0, rounds, step):
        times = _draw(rng, int(place.max()) + 1, min(step, rounds - first))[:, place]
        drawn = _Draw(fake=times * truth, real=times * ~truth, score=value, called_fake=value >= threshold, ends=ends)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append([FIGURES[name](drawn) for name in names])
    return {name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}


def interval(draws: _Numbers, *, level: float = 0.95) -> tuple[float, float]:
    """Return the percentiles between which a share of the draws lies; draws that are nan are left out.

    Returns:
        Lower and upper end; both nan where every draw is.
    """
    known = draws[~np.isnan(draws)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draw(rng: np.random.Generator, count: int, rounds: int) -> _Numbers:
    """Draw ``count`` of ``count`` groups with replacement; return how often each was drawn, [rounds, count]."""
    drawn = rng.integers(count, size=(rounds, count)) + count * np.arange(rounds)[:, None]
    return np.bincount(drawn.ravel(), minlength=rounds * count).reshape(rounds, count).astype(np.float64)


def _accuracy(draw: _Draw) -> _Numbers:
    tp, fp, tn, fn = draw.cells
    return (tp + tn) / (tp + fp + tn + fn)


def _balanced_accuracy(draw: _Draw) -> _Numbers:
    tp, fp, tn, fn = draw.cells
    return (tp / (tp + fn) + tn / (tn + fp)) / 2


def _precision(draw: _Draw) -> _Numbers:
    tp, fp, _, _ = draw.cells
    return tp / (tp + fp)


def _recall(draw: _Draw) -> _Numbers:
    tp, _, _, fn = draw.cells
    return tp / (tp + fn)


def _f1(draw: _Draw) -> _Numbers:
    tp, fp, _, fn = draw.cells
    return 2 * tp / (2 * tp + fp + fn)


def _auc(draw: _Draw) -> _Numbers:
    tp, fp = draw.curve
    return np.asarray(np.trapezoid(tp, fp, axis=1) / (tp[:, -1] * fp[:, -1]))


def _ap(draw: _Draw) -> _Numbers:
    tp, fp = draw.curve
    gained = np.diff(tp, axis=1)
    precision = np.where(gained > 0, tp[:, 1:] / (tp[:, 1:] + fp[:, 1:]), 0)
    return np.where(fp[:, -1] > 0, (gained * precision).sum(1) / tp[:, -1], np.nan)


def _eer(draw: _Draw) -> _Numbers:
    tp, fp = draw.curve
    tpr, fpr = tp / tp[:, -1:], fp / fp[:, -1:]
    lead, row = 1 - tpr - fpr, np.arange(len(tp))
    after = np.argmax(lead <= 0, axis=1)
    before = np.maximum(after - 1, 0)  # a draw of one class has no lead at all
    share = lead[row, before] / (lead[row, before] - lead[row, after])
    return np.asarray(fpr[row, before] + share * (fpr[row, after] - fpr[row, before]))


def _ece(draw: _Draw) -> _Numbers:
    place = np.minimum((draw.score * _ECE_BINS).astype(int), _ECE_BINS - 1)
    within = (place[:, None] == np.arange(_ECE_BINS)).astype(np.float64)
    every = draw.fake + draw.real
    excess = (every * draw.score - draw.fake) @ within
    return np.asarray(np.abs(excess).sum(1) / every.sum(1))


def _log_loss(draw: _Draw) -> _Numbers:
    everyone = np.ones(draw.score.size, bool)
    loss = draw.fake @ label_losses(draw.score, fake=everyone) + draw.real @ label_losses(draw.score, fake=~everyone)
    return np.asarray(loss / (draw.fake + draw.real).sum(1))


FIGURES: Final[dict[str, Callable[[_Draw], _Numbers]]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "auc": _auc,
    "ap": _ap,
    "eer": _eer,
    "ece": _ece,
    "log_loss": _log_loss,
}
"""Figures that `draw_figures` computes, as `deepfake_detect.metrics.classification` defines them."""
