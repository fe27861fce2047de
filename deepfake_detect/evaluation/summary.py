"""Compute the figures of an evaluation: over all pictures, by source, by generator and by delivery."""

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
"""A key of the notes with more values than this is not broken down: it names pictures, not kinds of pictures."""

FEWEST_GROUPS = 5
"""With fewer groups of a class than this there is no interval: bootstrap draws would only repeat them."""

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
    "log_loss": classification.log_loss,
}
_OF_ONE_CLASS: Final = ("accuracy", "recall")
_OF_BOTH_CLASSES: Final = ("balanced_accuracy", "precision", "f1", "auc", "ap", "eer", "ece", "log_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures of the verdicts on some pictures; nan where one is undefined.

    A score counts by its side of the threshold, also where the verdict is uncertain.

    Attributes:
        n: Pictures with a score, which the figures are about.
        real: Real ones among them.
        fake: Fake ones among them.
        no_face: Further pictures, in which no face was found.
        unreadable: Further pictures, which could not be opened.
        uncertain: Number of the ``n`` with the verdict uncertain.
        accuracy: Share of right verdicts.
        balanced_accuracy: Mean of the two classes' accuracies.
        precision: Share of fakes among the pictures called fake.
        recall: Share of the fakes called fake.
        f1: Harmonic mean of the two.
        auc: Share of pairs in which the fake scores above the real picture.
        ap: Average precision.
        eer: Rate at which misses and false alarms are equally frequent.
        ece: Expected calibration error: distance of the scores from the shares of fakes.
        log_loss: Mean negative log-likelihood of the labels under the scores.
        majority: Accuracy of always answering the larger class, as a baseline.
        collapsed: ``"real"`` or ``"fake"`` where every picture is called that although there are both classes.
        confusion: Confusion matrix.
        intervals: Name of a figure to its 95 % bootstrap interval over groups; nan where a class has fewer groups than
            `FEWEST_GROUPS`.
        paired: There is one class only, and balanced accuracy, precision, F1, AUC, AP, EER, ECE and log loss are over
            these pictures and others of the other class. Everything else is over these alone.
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
    log_loss: float
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
    """Figures of the same pictures after a delivery, such as a recompression.

    Attributes:
        n: Pictures with a score.
        no_face: Pictures in which no face was found.
        auc: Of the pictures with a score.
        balanced_accuracy: Of the same, at the same threshold.
        lost_auc: AUC before minus AUC after, over the pictures with a score both times.
        intervals: Name of a figure to its 95 % bootstrap interval over groups; that of the lost AUC uses the same
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
    """Compute the figures of some pictures.

    Args:
        rows: The pictures.
        threshold: Score at and above which a picture is called fake.
        others: Where the pictures are of one class, figures of two classes use the other class of these.
        rounds: Bootstrap draws.
        seed: Random seed of the draws.
    """
    scores = scores_of(rows)
    labels = {row.label for row in rows if row.score is not None}
    added = [row for row in others if row.label not in labels and row.score is not None] if len(labels) == 1 else []
    figures, intervals = _measured(scores, _OF_ONE_CLASS + _OF_BOTH_CLASSES, threshold, rounds, seed)
    if added:
        paired = _measured(scores_of([*rows, *added]), _OF_BOTH_CLASSES, threshold, rounds, seed)
        figures, intervals = figures | paired[0], intervals | paired[1]
    fake, called_fake = int(scores.y.sum()), scores.score >= threshold
    one_answer = 0 < fake < scores.y.size and (called_fake.all() or not called_fake.any())
    return Figures(
        n=scores.y.size,
        real=scores.y.size - fake,
        fake=fake,
        no_face=sum(row.predicted == "no-face" for row in rows),
        unreadable=sum(row.predicted == "error" for row in rows),
        uncertain=sum(row.predicted == "uncertain" for row in rows),
        majority=max(fake, scores.y.size - fake) / scores.y.size if scores.y.size else math.nan,
        collapsed=("fake" if called_fake.all() else "real") if one_answer else None,
        confusion=classification.confusion(scores.y, scores.score, threshold=threshold),
        intervals=intervals,
        paired=bool(added),
        **figures,
    )


def break_down(rows: Sequence[Row], *, threshold: float, rounds: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Compute the figures of each source, each generator, and each value of each key in the notes.

    One with a single class is paired with the other class of the same source, or of all sources where that source
    has none.

    Returns:
        ``{"source": {name: Figures}, "generator": {...}, "difficulty": {...}}``, names sorted. A key with more than
        `MOST_VALUES` values is left out.
    """
    tables: dict[str, Any] = {}
    for key, values in _kinds(rows):
        names = sorted({value for value in values if value}, key=_rank)
        if not 0 < len(names) <= MOST_VALUES and key not in ("source", "generator"):
            continue
        tables[key] = {}
        for name in names:
            chosen = [row for row, value in zip(rows, values, strict=True) if value == name]
            others = _others(chosen, rows)
            tables[key][name] = measure(chosen, threshold=threshold, others=others, rounds=rounds, seed=seed)
    return {key: table for key, table in tables.items() if table}


def compare_generators(rows: Sequence[Row], *, rounds: int = 1000, seed: int = 0) -> dict[str, dict[str, Versus]]:
    """Compute the AUC of each generator's fakes against each source's real pictures.

    Fakes without a generator are named by their source, and those with neither ``"unnamed"``.

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
    """Compute the figures after a delivery, and the AUC that it costs.

    Args:
        before: The pictures as given.
        after: The same pictures, in the same order, delivered.
        threshold: Score at and above which a picture is called fake.
        rounds: Bootstrap draws.
        seed: Random seed of the draws.
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
        no_face=sum(row.predicted == "no-face" for row in after),
        auc=figures["auc"],
        balanced_accuracy=figures["balanced_accuracy"],
        lost_auc=classification.roc_auc(old.y, old.score) - classification.roc_auc(new.y, new.score),
        intervals={**intervals, "lost_auc": _interval("lost_auc", math.nan, lost[0] - lost[1], old)},
    )


def _measured(
    of: Scores, names: Sequence[str], threshold: float, rounds: int, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return figures and their intervals."""
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
    if name == "ece":  # chance adds to it, in a draw once more than in the pictures: remove that bias
        draws = np.maximum(draws - (np.nanmean(draws) - figure), 0)
    return interval(draws)


def _kinds(rows: Sequence[Row]) -> Iterator[tuple[str, list[str]]]:
    """Yield each key that pictures are grouped by, with the value of each picture, "" where it has none."""
    yield "source", [row.source for row in rows]
    yield "generator", [row.generator for row in rows]
    for key in sorted({key for row in rows for key in row.tags} - {"source", "generator"}):
        yield key, [row.tags.get(key, "") for row in rows]


def _rank(name: str) -> tuple[int, str]:
    return _STEPS.index(name) if name in _STEPS else len(_STEPS), name


def _others(chosen: Sequence[Row], rows: Sequence[Row]) -> Sequence[Row]:
    """Choose the other class for pictures of one class: that of their sources, or of all."""
    labels, sources = {row.label for row in chosen}, {row.source for row in chosen}
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
