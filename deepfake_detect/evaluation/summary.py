"""How good is a detector: over all pictures, and where they come from?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from deepfake_detect.evaluation.scored import Row, Scores, scores_of
from deepfake_detect.metrics import classification
from deepfake_detect.metrics.bootstrap import draw_figures, interval

Interval = tuple[float, float]

MOST_VALUES = 16
"""A key of the notes with more values than this tells pictures apart, not kinds of picture."""

FEWEST_GROUPS = 5
"""Fewer groups of a class than this give no interval: the draws would only repeat them."""

_STEPS: Final = ("easy", "mid", "medium", "hard")  # then everything else, in the order of the alphabet
_AT_THRESHOLD: Final = {
    "accuracy": classification.accuracy,
    "balanced_accuracy": classification.balanced_accuracy,
    "precision": classification.precision,
    "recall": classification.recall,
    "f1": classification.f1,
}
_OVER_ALL: Final = {
    "auc": classification.roc_auc,
    "ap": classification.average_precision,
    "eer": classification.equal_error_rate,
    "ece": classification.expected_calibration_error,
}
_OF_ONE_CLASS: Final = ("accuracy", "recall")
_OF_BOTH_CLASSES: Final = ("balanced_accuracy", "precision", "f1", "auc", "ap", "eer", "ece")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was said of some pictures, in figures; nan where one is undefined.

    A score counts by the side of the threshold on which it falls, whether it was called uncertain or not.

    Attributes:
        n: Pictures with a score: those that the figures are about.
        real: Real ones among them.
        fake: Fake ones among them.
        no_face: Pictures beside them in which no face was found.
        unreadable: Pictures beside them that could not be scored.
        uncertain: How many of the ``n`` were called uncertain.
        accuracy: Share called what they are.
        balanced_accuracy: Mean of the two classes' accuracies.
        precision: Share of fakes among what was called fake.
        recall: Share of the fakes called fake.
        f1: Harmonic mean of the two.
        auc: How often a fake scores above a real picture.
        ap: Average precision.
        eer: Rate at which misses and false alarms are equally frequent.
        ece: How far the scores are from the shares of fakes.
        majority: Accuracy of always saying the larger class, to hold the accuracy against.
        collapsed: ``"real"`` or ``"fake"`` where nothing else was said although both classes are there.
        confusion: How many were called what.
        intervals: Name of a figure to its 95 % bootstrap interval over groups; nan where a class that it is about
            has fewer than `FEWEST_GROUPS`.
        paired: There is one class only, and balanced accuracy, precision, F1, AUC, AP, EER and ECE are over these
            pictures and others of the other class. Everything else is over these alone.
    """

    n: int
    real: int
    fake: int
    no_face: int
    unreadable: int
    uncertain: int
    accuracy: float
    balanced_accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float
    ap: float
    eer: float
    ece: float
    majority: float
    collapsed: str | None
    confusion: classification.Confusion
    intervals: dict[str, Interval]
    paired: bool = False

    @property
    def false_alarms(self) -> float:
        """Share of the real pictures that were called fake; nan without any."""
        return self.confusion.fp / self.real if self.real else math.nan

    @property
    def missed(self) -> float:
        """Share of the fakes that were called real; nan without any."""
        return self.confusion.fn / self.fake if self.fake else math.nan


class Versus(NamedTuple):
    """One generator's fakes against one source's real pictures.

    Attributes:
        auc: How often one of the fakes scores above one of the real pictures.
        low: Lower end of its 95 % bootstrap interval over groups.
        high: Upper end.
        fake: Number of fakes.
        real: Number of real pictures.
    """

    auc: float
    low: float
    high: float
    fake: int
    real: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What was said of the same pictures after they were delivered in another way.

    Attributes:
        n: Pictures with a score.
        no_face: Pictures in which no face was found any more, or never was.
        auc: Of the pictures with a score.
        balanced_accuracy: Of the same, at the same threshold.
        lost_auc: The AUC before less the AUC after, over the pictures with a score both times.
        intervals: Name of a figure to its 95 % bootstrap interval over groups; that of the loss is over the same
            draws before and after.
    """

    n: int
    no_face: int
    auc: float
    balanced_accuracy: float
    lost_auc: float
    intervals: dict[str, Interval]


def measure(
    rows: Sequence[Row], *, threshold: float, others: Sequence[Row] = (), rounds: int = 1000, seed: int = 0
) -> Figures:
    """Measure what was said of pictures.

    Args:
        rows: The pictures.
        threshold: Score at and above which a picture is called fake.
        others: Where the pictures are of one class, they are paired with the other class of these.
        rounds: Of the bootstrap.
        seed: Of the bootstrap.
    """
    own = scores_of(rows)
    labels = {row.label for row in rows if row.score is not None}
    added = [row for row in others if row.label not in labels and row.score is not None] if len(labels) == 1 else []
    figures, intervals = _measured(own, _OF_ONE_CLASS + _OF_BOTH_CLASSES, threshold, rounds, seed)
    if added:
        paired = _measured(scores_of([*rows, *added]), _OF_BOTH_CLASSES, threshold, rounds, seed)
        figures, intervals = figures | paired[0], intervals | paired[1]
    fake, said = int(own.y.sum()), own.score >= threshold
    one_answer = 0 < fake < own.y.size and (said.all() or not said.any())
    return Figures(
        n=own.y.size,
        real=own.y.size - fake,
        fake=fake,
        no_face=sum(row.said == "no-face" for row in rows),
        unreadable=sum(row.said == "error" for row in rows),
        uncertain=sum(row.said == "uncertain" for row in rows),
        majority=max(fake, own.y.size - fake) / own.y.size if own.y.size else math.nan,
        collapsed=("fake" if said.all() else "real") if one_answer else None,
        confusion=classification.confusion(own.y, own.score, threshold=threshold),
        intervals=intervals,
        paired=bool(added),
        **figures,
    )


def break_down(rows: Sequence[Row], *, threshold: float, rounds: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Measure each source, each generator, and each value of each key in the notes.

    Where they hold one class only, they are paired with the other class of the same source, or of all
    sources where theirs has none.

    Returns:
        ``{"source": {name: Figures}, "generator": {...}, "difficulty": {...}}``: what the pictures name, with the
        names in order. A key with more than `MOST_VALUES` values is left out.
    """
    tables: dict[str, Any] = {}
    for key, values in _kinds(rows):
        names = sorted({value for value in values if value}, key=_rank)
        if not 0 < len(names) <= MOST_VALUES and key not in ("source", "generator"):
            continue
        tables[key] = {}
        for name in names:
            own = [row for row, value in zip(rows, values, strict=True) if value == name]
            tables[key][name] = measure(own, threshold=threshold, others=_others(own, rows), rounds=rounds, seed=seed)
    return {key: table for key, table in tables.items() if table}


def compare_generators(rows: Sequence[Row], *, rounds: int = 1000, seed: int = 0) -> dict[str, dict[str, Versus]]:
    """Measure each generator's fakes against each source's real pictures.

    What has no generator goes by its source, and what has neither is called ``"unnamed"``.

    Returns:
        ``{generator: {source: Versus}}``, with a last column ``"all"``.
    """
    scored = [row for row in rows if row.score is not None]
    fakes = _parted((row.generator or row.source or "unnamed", row) for row in scored if row.label == "fake")
    reals = _parted((row.source or row.generator or "unnamed", row) for row in scored if row.label == "real")
    if not reals:
        return {}
    columns = {**reals, "all": [row for part in reals.values() for row in part]}
    return {
        name: {column: _versus(fake, real, rounds, seed) for column, real in columns.items()}
        for name, fake in fakes.items()
    }


def compare_delivery(
    before: Sequence[Row], after: Sequence[Row], *, threshold: float, rounds: int = 1000, seed: int = 0
) -> Delivered:
    """Measure what a way of delivery costs.

    Args:
        before: The pictures as they are.
        after: The same pictures, in the same order, delivered.
        threshold: Score at and above which a picture is called fake.
        rounds: Of the bootstrap.
        seed: Of the bootstrap.
    """
    figures, intervals = _measured(scores_of(after), ("auc", "balanced_accuracy"), threshold, rounds, seed)
    pairs = [pair for pair in zip(before, after, strict=True) if None not in (pair[0].score, pair[1].score)]
    old, new = (scores_of([pair[side] for pair in pairs]) for side in (0, 1))
    lost = [
        draw_figures(of.y, of.score, groups=of.group, names=["auc"], rounds=rounds, seed=seed)["auc"]
        for of in (old, new)
    ]
    return Delivered(
        n=sum(row.score is not None for row in after),
        no_face=sum(row.said == "no-face" for row in after),
        auc=figures["auc"],
        balanced_accuracy=figures["balanced_accuracy"],
        lost_auc=classification.roc_auc(old.y, old.score) - classification.roc_auc(new.y, new.score),
        intervals={**intervals, "lost_auc": _interval("lost_auc", math.nan, lost[0] - lost[1], old)},
    )


def _measured(
    of: Scores, names: Sequence[str], threshold: float, rounds: int, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Give figures and their intervals."""
    draws = draw_figures(of.y, of.score, threshold=threshold, groups=of.group, names=names, rounds=rounds, seed=seed)
    figures = {name: _figure(name, of, threshold) for name in names}
    return figures, {name: _interval(name, figures[name], draws[name], of) for name in names}


def _figure(name: str, of: Scores, threshold: float) -> float:
    if name in _AT_THRESHOLD:
        return _AT_THRESHOLD[name](of.y, of.score, threshold=threshold)
    return _OVER_ALL[name](of.y, of.score)


def _interval(name: str, figure: float, draws: np.ndarray, of: Scores) -> Interval:
    if name == "accuracy":
        few = len(np.unique(of.group)) < FEWEST_GROUPS
    else:
        classes = (1,) if name == "recall" else (0, 1)
        few = any(len(np.unique(of.group[of.y == label])) < FEWEST_GROUPS for label in classes)
    if few:
        return math.nan, math.nan
    if name == "ece":  # chance adds to it, in a draw once more than in the pictures: take that out again
        draws = np.maximum(draws - (np.nanmean(draws) - figure), 0)
    return interval(draws)


def _kinds(rows: Sequence[Row]) -> Iterator[tuple[str, list[str]]]:
    """Give each key that pictures can be told by, with the value of each picture, "" where it has none."""
    yield "source", [row.source for row in rows]
    yield "generator", [row.generator for row in rows]
    for key in sorted({key for row in rows for key in row.tags} - {"source", "generator"}):
        yield key, [row.tags.get(key, "") for row in rows]


def _rank(name: str) -> tuple[int, str]:
    return _STEPS.index(name) if name in _STEPS else len(_STEPS), name


def _others(own: Sequence[Row], rows: Sequence[Row]) -> Sequence[Row]:
    """Choose what pictures of one class are held against: their own source's other class, or everyone's."""
    labels, sources = {row.label for row in own}, {row.source for row in own}
    near = [row for row in rows if row.source in sources and row.label not in labels and row.score is not None]
    return near or rows


def _parted(named: Iterable[tuple[str, Row]]) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {}
    for name, row in named:
        parts.setdefault(name, []).append(row)
    return dict(sorted(parts.items()))


def _versus(fakes: Sequence[Row], reals: Sequence[Row], rounds: int, seed: int) -> Versus:
    of = scores_of([*fakes, *reals])
    figures, intervals = _measured(of, ["auc"], 0.5, rounds, seed)
    return Versus(figures["auc"], *intervals["auc"], len(fakes), len(reals))
