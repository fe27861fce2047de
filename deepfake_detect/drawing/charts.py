"""Charts of evaluations, trainings and searches: plain numbers in, a picture out.
 Drawing needs matplotlib, which comes with
``pip install 'deepfake-detect[plots]'``; no window is opened and no global setting is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.canvas import INK, INKS, MARKS, SOFT, draw_chart
from deepfake_detect.metrics import classification

_REAL, _FAKE = ("#{:02x}{:02x}{:02x}".format(*COLOURS[label]) for label in ("real", "fake"))
_LABEL: Final = {"textcoords": "offset points", "ha": "center", "fontsize": 7}


def curves(y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5, title: str = "") -> Image.Image:
    """Draw ROC, precision over recall, reliability and the scores by class, in one picture.

    Args:
        y: 1 for fake, 0 for real, [N].
        score: Probabilities of fake, 0 to 1, [N].
        threshold: Marked on the curves.
        title: Title above all.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with draw_chart(8.6, 8.6, rows=2, columns=2, title=title) as (axes, finish):
        _roc(axes[0], y, score, threshold)
        _precision_recall(axes[1], y, score, threshold)
        _reliability(axes[2], {"": (y, score)})
        _histogram(axes[3], y, score, threshold)
    return finish()


def roc(y: ArrayLike, score: ArrayLike, *, threshold: float | None = None, title: str = "") -> Image.Image:
    """Draw the ROC curve; arguments as for `curves`."""
    with draw_chart(5.0, 4.6, title=title) as (axes, finish):
        _roc(axes[0], y, score, threshold)
    return finish()


def precision_recall(y: ArrayLike, score: ArrayLike, *, threshold: float | None = None, title: str = "") -> Image.Image:
    """Draw the precision over the recall; arguments as for `curves`."""
    with draw_chart(5.0, 4.6, title=title) as (axes, finish):
        _precision_recall(axes[0], y, score, threshold)
    return finish()


def reliability(scores: Mapping[str, tuple[ArrayLike, ArrayLike]], *, bins: int = 15, title: str = "") -> Image.Image:
    """Draw the share of fakes over the score.

    Args:
        scores: Name of a line to ``(y, score)``, such as before and after a calibration.
        bins: Number of bins of equal width; the area of a dot grows with the pictures in its bin.
        title: Title.
    """
    with draw_chart(5.0, 4.6, title=title) as (axes, finish):
        _reliability(axes[0], scores, bins)
    return finish()


def histogram(y: ArrayLike, score: ArrayLike, *, threshold: float | None = None, title: str = "") -> Image.Image:
    """Draw a histogram of the scores of real and of fake pictures; arguments as for `curves`."""
    with draw_chart(5.0, 4.6, title=title) as (axes, finish):
        _histogram(axes[0], y, score, threshold)
    return finish()


def training_curves(history: Sequence[Mapping[str, Any]], *, title: str = "") -> Image.Image:
    """Draw losses, AUC, accuracies and learning rate over the epochs of a training.

    Args:
        history: A mapping for each epoch, with some of: ``epoch``, ``loss``, ``valid_loss``, ``train_accuracy``,
            ``valid_auc``, ``valid_accuracy``, ``valid_balanced_accuracy``, ``rate``. None and nan leave a gap.
        title: Title.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    panels: list[tuple[str, dict[str, str]]] = [
        ("Loss", {"loss": "training", "valid_loss": "validation"}),
        (
            "AUC and accuracy",
            {
                "train_accuracy": "training accuracy",
                "valid_auc": "validation AUC",
                "valid_accuracy": "validation accuracy",
                "valid_balanced_accuracy": "validation balanced accuracy",
                "valid_balanced": "validation balanced accuracy",
            },
        ),
        ("Learning rate", {"rate": "rate"}),
    ]
    known = [(name, lines) for name, lines in panels if any(_known(history, key) for key in lines)]
    with draw_chart(4.0 * max(1, len(known)), 3.4, columns=max(1, len(known)), title=title) as (axes, finish):
        for axis, (name, lines) in zip(axes[: len(known)], known, strict=True):
            _epochs(axis, history, name, {key: word for key, word in lines.items() if _known(history, key)})
    return finish()


def comparison(
    values: Mapping[str, tuple[float, float, float]],
    *,
    label: str = "AUC",
    baseline: float | None = None,
    baseline_name: str = "chance",
    title: str = "",
) -> Image.Image:
    """Draw a figure of several models or sources, each with its interval.

    Args:
        values: Name to figure and lower and upper end of its interval, drawn from the top; nan leaves a gap, and
            a figure without an interval is a hollow dot.
        label: Name of the figure.
        baseline: A line to compare with.
        baseline_name: Name of that line.
        title: Title.
    """
    with draw_chart(6.4, 1.3 + 0.32 * max(2, len(values)), title=title) as (axes, finish):
        axis = axes[0]
        for place, (value, low, high) in enumerate(values.values()):
            axis.plot([low, high], [place, place], color=INKS[0], linewidth=2.4, solid_capstyle="round", alpha=0.45)
            known = math.isfinite(low) and math.isfinite(high)
            axis.plot([value], [place], "o", color=INKS[0], markersize=6, markerfacecolor=INKS[0] if known else "white")
            if math.isfinite(value):
                axis.annotate(f"{value:.3f}", (value, place), xytext=(0, 5), **_LABEL)
        if baseline is not None:
            axis.axvline(baseline, color=SOFT, linestyle="--", linewidth=1.2, label=baseline_name)
            axis.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)
        axis.set_yticks(range(len(values)), list(values))
        axis.set_ylim(max(len(values), 1) - 0.4, -0.7)
        axis.set_xlabel(label)
        axis.grid(visible=False, axis="y")
    return finish()


def confusion(table: Mapping[str, Mapping[str, int]], *, title: str = "") -> Image.Image:
    """Draw how often each true class is called what: numbers, shaded by their share of the true class.

    Args:
        table: True class to predicted class to number of pictures.
        title: Title.
    """
    names, side = list(table), 1.6 + 0.62 * max(2, len(table))
    with draw_chart(side + 0.8, side, title=title) as (axes, finish):
        axis = axes[0]
        counts = np.array([[table[name][other] for other in names] for name in names])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.25)
        for row, column in np.ndindex(*counts.shape):
            axis.annotate(f"{counts[row, column]:,}", (column, row), ha="center", va="center", fontsize=9)
        axis.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 6 else 0)
        axis.set_yticks(range(len(names)), names)
        axis.set(xlabel="predicted", ylabel="true")
        axis.grid(visible=False)
    return finish()


def robustness(
    lines: Mapping[str, Mapping[str, tuple[float, float, float]]], *, label: str = "AUC", title: str = ""
) -> Image.Image:
    """Draw a figure by delivery.

    Args:
        lines: Name of a line (a model, a figure) to ``{delivery: (figure, low, high)}``, in the same order.
        label: Name of the figure.
        title: Title.
    """
    with draw_chart(6.8, 3.6, title=title) as (axes, finish):
        axis = axes[0]
        for number, (name, points) in enumerate(lines.items()):
            place = np.arange(len(points)) + 0.06 * (number - (len(lines) - 1) / 2)
            value, low, high = np.array(list(points.values()), float).reshape(-1, 3).T
            ink, mark = INKS[number % len(INKS)], MARKS[number % len(MARKS)]
            axis.vlines(place, low, high, color=ink, alpha=0.45, linewidth=2.4)
            axis.plot(place, value, f"{mark}-", color=ink, markersize=5, label=name)
        names = list(next(iter(lines.values()), {}))
        axis.set_xticks(range(len(names)), names, rotation=20 if len(names) > 6 else 0)
        axis.set_ylabel(label)
        if lines:
            axis.legend(loc="lower left")
    return finish()


def ablation(
    trials: Sequence[tuple[Mapping[str, Any], float]], *, label: str = "validation AUC", title: str = ""
) -> Image.Image:
    """Draw the effect of each setting of a search: a dot for each trial, bars for the best and the median of a value.

    Args:
        trials: Settings and figure of each trial; a figure that is nan (a trial given up) is left out.
        label: Name of the figure.
        title: Title.

    Returns:
        One panel for each setting that varies: numbers of more than six values along a line, logarithmic where they
        span a factor of 20; anything else side by side.
    """
    finished = [(settings, value) for settings, value in trials if math.isfinite(value)]
    names = list(dict.fromkeys(name for settings, _ in finished for name in settings))
    varied = [name for name in names if len({str(settings.get(name)) for settings, _ in finished}) > 1]
    columns = min(3, max(1, len(varied)))
    rows = -(-max(1, len(varied)) // columns)
    with draw_chart(3.6 * columns, 3.0 * rows, rows=rows, columns=columns, title=title) as (axes, finish):
        for axis, name in zip(axes[: len(varied)], varied, strict=True):
            pairs = [(settings[name], value) for settings, value in finished if name in settings]
            _setting(axis, pairs)
            axis.set(title=name, ylabel=label)
        for axis in axes[len(varied) :]:
            axis.set_axis_off()
    return finish()


def _roc(axis: Any, y: ArrayLike, score: ArrayLike, threshold: float | None) -> None:
    fpr, tpr, _ = classification.roc_curve(y, score)
    axis.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=1)
    axis.fill_between(fpr, tpr, color=INKS[0], alpha=0.08, linewidth=0)
    axis.plot(fpr, tpr, color=INKS[0], label=f"AUC {classification.roc_auc(y, score):.3f}")
    if threshold is not None:
        tp, fp, tn, fn = classification.confusion(y, score, threshold=threshold)
        _at_threshold(axis, _share(fp, fp + tn), _share(tp, tp + fn), threshold)
    axis.set(title="ROC", xlabel="false alarms among real pictures", ylabel="fakes found")
    _unit_square(axis)


def _precision_recall(axis: Any, y: ArrayLike, score: ArrayLike, threshold: float | None) -> None:
    truth = np.asarray(y) == 1
    fpr, tpr, _ = classification.roc_curve(y, score)
    tp, fp = tpr * truth.sum(), fpr * (~truth).sum()
    precision = np.append(np.nan, tp[1:] / (tp[1:] + fp[1:]))
    base = _share(float(truth.sum()), truth.size)
    axis.axhline(base, color=SOFT, linestyle="--", linewidth=1)
    axis.plot(
        tpr,
        precision,
        color=INKS[0],
        drawstyle="steps-pre",
        label=f"AP {classification.average_precision(y, score):.3f}",
    )
    if threshold is not None:
        recall = classification.recall(y, score, threshold=threshold)
        _at_threshold(axis, recall, classification.precision(y, score, threshold=threshold), threshold)
    axis.set(title="Precision and recall", xlabel="recall: fakes found", ylabel="precision: fakes among the alarms")
    _unit_square(axis)


def _reliability(axis: Any, scores: Mapping[str, tuple[ArrayLike, ArrayLike]], bins: int = 15) -> None:
    axis.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=1)
    for number, (name, (y, score)) in enumerate(scores.items()):
        mean_score, share_fake, count = classification.reliability(y, score, bins=bins)
        ink = INKS[number % len(INKS)]
        error = classification.expected_calibration_error(y, score, bins=bins)
        full = count > 0
        axis.plot(mean_score[full], share_fake[full], color=ink, alpha=0.6, linewidth=1.2)
        area = 12 + 160 * count[full] / max(count.sum(), 1)
        axis.scatter(
            mean_score[full], share_fake[full], s=area, color=ink, label=f"{name} ECE {error:.3f}".strip(), zorder=3
        )
    axis.set(title="Reliability", xlabel="score: probability of fake", ylabel="share of fakes")
    _unit_square(axis)


def _histogram(axis: Any, y: ArrayLike, score: ArrayLike, threshold: float | None) -> None:
    truth, value = np.asarray(y) == 1, np.asarray(score, float)
    edges = np.linspace(0, 1, 26)
    for name, chosen, ink in (("real", ~truth, _REAL), ("fake", truth, _FAKE)):
        share = np.histogram(value[chosen], edges)[0] / max(int(chosen.sum()), 1)
        axis.stairs(share, edges, fill=True, color=ink, alpha=0.35)
        axis.stairs(share, edges, color=ink, linewidth=1.6, label=f"{name}, {int(chosen.sum())}")
    if threshold is not None:
        axis.axvline(threshold, color=INK, linestyle=":", linewidth=1.4, label=f"threshold {threshold:.3g}")
    axis.set(title="Scores", xlabel="score: probability of fake", ylabel="share of the class", xlim=(0, 1))
    axis.legend(loc="upper center")


def _at_threshold(axis: Any, x: float, y: float, threshold: float) -> None:
    axis.plot([x], [y], "o", color=INKS[5], markersize=7, label=f"threshold {threshold:.3g}", zorder=4, clip_on=False)


def _unit_square(axis: Any) -> None:
    axis.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    axis.legend(loc="best")


def _epochs(axis: Any, history: Sequence[Mapping[str, Any]], name: str, lines: Mapping[str, str]) -> None:
    epochs = [entry.get("epoch", place + 1) for place, entry in enumerate(history)]
    for number, (key, word) in enumerate(lines.items()):
        values = np.array([_number(entry.get(key)) for entry in history])
        mark = MARKS[number] if len(epochs) <= 30 else ""
        axis.plot(epochs, values, f"{mark}-", color=INKS[number], markersize=4, label=word)
        if key.startswith("valid"):
            best = int(np.nanargmin(values) if key == "valid_loss" else np.nanargmax(values))
            axis.annotate(
                f"{values[best]:.3f}", (epochs[best], values[best]), xytext=(0, -12 if number % 2 else 6), **_LABEL
            )
    axis.set(title=name, xlabel="epoch")
    axis.margins(y=0.12)
    axis.locator_params(axis="x", integer=True)
    if name == "Learning rate":
        axis.set_ylim(bottom=0)
        axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    else:
        axis.legend(loc="best")


def _setting(axis: Any, pairs: Sequence[tuple[Any, float]]) -> None:
    values = list(dict.fromkeys(setting for setting, _ in pairs))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numbers and len(values) > 6:
        x = np.array([float(setting) for setting, _ in pairs])
        axis.plot(x, [value for _, value in pairs], "o", color=INKS[0], alpha=0.75, markersize=5)
        if x.min() > 0 and x.max() / x.min() >= 20:
            axis.set_xscale("log")
        return
    values = sorted(values) if numbers else values
    for place, choice in enumerate(values):
        merits = [merit for setting, merit in pairs if setting == choice]
        axis.bar(place, max(merits), color=INKS[0], alpha=0.25, width=0.7)
        axis.plot([place - 0.35, place + 0.35], [float(np.median(merits))] * 2, color=INKS[0], linewidth=2)
        axis.plot([place] * len(merits), merits, "o", color=INK, markersize=3, alpha=0.6)
        axis.annotate(f"{max(merits):.3f}", (place, max(merits)), xytext=(0, 3), **_LABEL)
    low, high = min(value for _, value in pairs), max(value for _, value in pairs)
    room = 0.2 * (high - low) + 0.005
    axis.set_ylim(low - room, high + room)
    axis.set_xticks(range(len(values)), [_word(value) for value in values], rotation=20 if len(values) > 3 else 0)
    axis.grid(visible=False, axis="x")


def _word(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _known(history: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(math.isfinite(_number(entry.get(key))) for entry in history)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
