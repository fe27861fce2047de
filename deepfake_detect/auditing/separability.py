"""Measure how well a few facts predict the label, cross-validated by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepfake_detect.metrics.classification import bootstrap_interval, roc_auc

BINS = 8
"""Numbers are divided into this many bins, with about as many pictures in each."""

FOLDS = 5
"""Number of folds of the cross-validation."""

BEYOND_CHANCE = 3.5
"""Standard deviations above chance from which an AUC counts. The interval of few groups is too narrow, and several
kinds of facts are tested at once: without this limit one in four clean data sets of ten pictures would have a finding,
with it fewer than one in a hundred."""


def separability_auc(
    facts: Sequence[Sequence[Any]],
    label: Sequence[int],
    groups: Sequence[Any],
    *,
    seed: int = 0,
    rounds: int = 300,
) -> tuple[float, tuple[float, float]]:
    """Measure how well some facts predict the label: the cross-validated AUC of a naive Bayes classifier.

    Numbers are divided into `BINS` bins, anything else counts by its value. Counts are smoothed by one (Laplace). Whole
    groups are held out.

    Args:
        facts: [N][K], numbers or anything hashable.
        label: [N], 1 is fake.
        groups: [N], the group of each picture.
        seed: Random seed of the folds and of the interval.
        rounds: Number of bootstrap draws for the interval.

    Returns:
        The AUC, and its 95 % bootstrap interval over groups; nan where one class, or all but one group, is missing.

    Example:
        >>> auc, _ = separability_auc([["png"], ["jpeg"]] * 20, [1, 0] * 20, range(40))
        >>> auc
        1.0
    """
    y, member = np.asarray(label), _numbered(groups)
    if not _comparable(y, member) or not len(facts[0]):
        return math.nan, (math.nan, math.nan)
    codes = np.stack([_coded([row[column] for row in facts]) for column in range(len(facts[0]))], 1)
    score = _held_out(codes, y, member, seed)
    return roc_auc(y, score), bootstrap_interval(roc_auc, y, score, groups=member, rounds=rounds, seed=seed)


def chance_auc(label: Sequence[int], groups: Sequence[Any]) -> float:
    """Return the AUC that facts unrelated to the label hardly ever reach by chance, with this number of groups.

    It is `BEYOND_CHANCE` standard deviations of the rank sum (Mann and Whitney 1947) above a half, with a group counted
    once for each class that it holds.

    Args:
        label: [N], 1 is fake.
        groups: [N], the group of each picture.

    Returns:
        Above 1 where there are too few groups for any AUC to be evidence; infinite where a class is missing.

    Example:
        >>> [round(chance_auc([0, 1] * n, range(2 * n)), 3) for n in (8, 9, 1000)]
        [1.021, 0.989, 0.545]
    """
    real, fake = (len({group for group, y in zip(groups, label, strict=True) if y == value}) for value in (0, 1))
    if not (real and fake):
        return math.inf
    return 0.5 + BEYOND_CHANCE * math.sqrt((real + fake + 1) / (12 * real * fake))


def telling_facts(
    facts: Sequence[Sequence[Any]], label: Sequence[int], groups: Sequence[Any], *, seed: int = 0
) -> list[float]:
    """Measure how well each fact by itself predicts the label, as `separability_auc` does for all of them together.

    Args:
        facts: [N][K], numbers or anything hashable.
        label: [N], 1 is fake.
        groups: [N], the group of each picture.
        seed: Random seed of the folds.

    Returns:
        [K] AUC; nan where one class, or all but one group, is missing.

    Example:
        >>> telling_facts([["png", 7], ["jpeg", 7]] * 20, [1, 0] * 20, range(40))
        [1.0, 0.5]
    """
    y, member = np.asarray(label), _numbered(groups)
    if not _comparable(y, member):
        return [math.nan] * len(facts[0])
    columns = (_coded([row[column] for row in facts])[:, None] for column in range(len(facts[0])))
    return [roc_auc(y, _held_out(codes, y, member, seed)) for codes in columns]


def _numbered(groups: Sequence[Any]) -> np.ndarray:
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([order[group] for group in groups])


def _comparable(y: np.ndarray, member: np.ndarray) -> bool:
    return len(set(y.tolist())) == 2 and int(member.max()) > 0


def _held_out(codes: np.ndarray, y: np.ndarray, member: np.ndarray, seed: int) -> np.ndarray:
    """Score each picture with the classifier fitted on the folds that its group is not in."""
    count = int(member.max()) + 1
    fold = np.random.default_rng(seed).permutation(count)[member] % min(FOLDS, count)
    score = np.zeros(len(y))
    for number in range(fold.max() + 1):
        held = fold == number
        score[held] = _ranks(
            _log_odds(codes[~held], y[~held], codes[held])
        )  # the scores of two folds have no common scale
    return score


def _coded(values: list[Any]) -> np.ndarray:
    """Number the bins of numbers, or the distinct values of anything else."""
    if all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values):
        numbers = np.asarray(values, float)
        edges = np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS))
        return np.searchsorted(edges, numbers, side="right")
    known = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([known[value] for value in values])


def _log_odds(codes: np.ndarray, y: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Fit the classifier to codes [N, K] with labels y [N], and return the log odds of the held-out codes [M, K]."""
    total = np.zeros(len(held_out))
    for column, query in zip(codes.T, held_out.T, strict=True):
        size = int(max(column.max(), query.max())) + 1
        fake, real = (np.bincount(column[y == value], minlength=size) + 1.0 for value in (1, 0))
        total += np.log(fake / fake.sum())[query] - np.log(real / real.sum())[query]
    return total


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value among the others, 0 to 1; equal values share their mean rank."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(values))
