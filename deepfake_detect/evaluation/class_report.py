"""Measure a classifier on labelled pictures: accuracy, recall and precision of each class, and the confusion matrix."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepfake_detect.datasets.read import Sample
from deepfake_detect.drawing import charts
from deepfake_detect.drawing.html import format_figure, format_table
from deepfake_detect.drawing.result import DrawnResult
from deepfake_detect.errors import DatasetError, DeepfakeDetectError, MissingExtra
from deepfake_detect.metrics.classes import class_log_loss, confusion_matrix, mean_auc
from deepfake_detect.metrics.classification import bootstrap_interval, roc_auc
from deepfake_detect.predict.content import Content
from deepfake_detect.system.progress import progress_bar

_TINY = 1e-12  # least probability in the log loss


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """Figures of one class.

    Attributes:
        n: Pictures of the class.
        recall: Share of them that is recognised; nan without any.
        precision: Share of the pictures called so that are of the class; nan where none is called so.
        f1: Harmonic mean of the two.
        auc: AUC of its score against all other classes; nan where one side is empty.
    """

    n: int
    recall: float
    precision: float
    f1: float
    auc: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassReport(DrawnResult):
    """What a classifier does on labelled pictures.

    Attributes:
        n: Pictures that could be read.
        model: Name and version of the classifier.
        accuracy: Share of them that is called by its class.
        accuracy_interval: Its 95 % bootstrap interval over groups.
        balanced_accuracy: Mean recall of the classes.
        majority: Accuracy of always naming the largest class.
        auc: Mean AUC of each class against the others.
        log_loss: Mean negative log-likelihood of the true class.
        collapsed: The class that every picture is called, where there are several; else empty.
        by_class: Figures of each class.
        confusion: True class to predicted class to number.
        unreadable: Name and error of the pictures that could not be read.
        rows: For each picture its name, true label, predicted label and scores.
    """

    n: int
    model: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    majority: float
    auc: float
    log_loss: float
    collapsed: str
    by_class: Mapping[str, ClassFigures]
    confusion: Mapping[str, Mapping[str, int]]
    unreadable: tuple[tuple[str, str], ...]
    rows: tuple[dict[str, Any], ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain JSON values, without the pictures."""
        values = {name: _plain(value) for name, value in asdict(self).items() if name != "rows"}
        return {**values, "unreadable": [list(pair) for pair in self.unreadable]}

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each picture."""
        return [{**row, **{f"score.{name}": value for name, value in row["scores"].items()}} for row in self.rows]

    def __str__(self) -> str:
        lead = f"{self.model} on {self.n} pictures: accuracy {format_figure(self.accuracy, self.accuracy_interval)}"
        figures = f"balanced {self.balanced_accuracy:.3f}, majority {self.majority:.3f}, AUC {self.auc:.3f}"
        lines = [f"{lead}, {figures}, log loss {self.log_loss:.3f}"]
        if self.collapsed:
            lines.append(f"collapsed: every picture is called {self.collapsed}")
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} unreadable, left out: {self.unreadable[0][1]}")
        header = ("class", "n", "recall", "precision", "F1", "AUC", *(f"called {name}" for name in self.by_class))
        rows = [
            (name, str(one.n), *(format_figure(value) for value in (one.recall, one.precision, one.f1, one.auc)),
             *(str(self.confusion[name][other]) for other in self.by_class))
            for name, one in self.by_class.items()
        ]  # fmt: skip
        return "\n".join([*lines, format_table(header, rows)])

    def __repr__(self) -> str:
        return f"ClassReport({self.model}, n {self.n}, accuracy {self.accuracy:.3f}, {len(self.by_class)} classes)"

    def plot(self) -> Image.Image:
        """Draw the confusion matrix.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        return charts.confusion(self.confusion, title=f"{self.model}, {self.n} pictures")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``report.json``, ``scores.csv``, ``report.txt``, and ``confusion.png`` where matplotlib is installed.

        Args:
            folder: Created where it is missing; ``~`` is expanded.
        """
        target = Path(folder).expanduser()
        target.mkdir(parents=True, exist_ok=True)
        (target / "report.json").write_text(self.to_json(indent=2) + "\n", encoding="utf-8")
        (target / "report.txt").write_text(f"{self}\n", encoding="utf-8")
        with (target / "scores.csv").open("w", newline="", encoding="utf-8") as file:
            columns = ["name", "label", "predicted", *(f"score.{name}" for name in self.by_class)]
            table = csv.DictWriter(file, columns, extrasaction="ignore")
            table.writeheader()
            table.writerows(self.to_rows())
        try:
            self.plot().save(target / "confusion.png")
        except MissingExtra:
            return


def evaluate_classes(
    predict: Callable[[Any], Content],
    samples: Sequence[Sample],
    *,
    classes: Sequence[str],
    model: str,
    seed: int = 0,
    progress: bool | None = None,
) -> ClassReport:
    """Classify labelled pictures, and measure the answers.

    Args:
        predict: Classifies one picture.
        samples: Labelled by the number of the class.
        classes: Names of the classes.
        model: Name and version of the classifier.
        seed: Random seed of the bootstrap.
        progress: Whether to show a bar; None shows one on a terminal.

    Raises:
        DatasetError: No picture could be read.
    """
    scored: list[tuple[Sample, Content]] = []
    unreadable = []
    with progress_bar(total=len(samples), title="evaluate", show=progress) as bar:
        for sample in samples:
            try:
                scored.append((sample, predict(sample.image)))
            except DeepfakeDetectError as error:
                unreadable.append((sample.name, " ".join(str(error).split())))
            bar.update()
    if not scored:
        raise DatasetError(f"none of {len(samples)} pictures could be read: {unreadable[:1]}")
    label = np.array([sample.label for sample, _ in scored])
    score = np.array([[content.scores[name] for name in classes] for _, content in scored])
    predicted = score.argmax(1)
    table = confusion_matrix(label, predicted, len(classes))
    figures = {name: _figures(place, table, label, score) for place, name in enumerate(classes)}
    recalls = [one.recall for one in figures.values() if one.n]
    groups = [f"group {sample.group}" if sample.group else f"{index}" for index, (sample, _) in enumerate(scored)]
    right = (label == predicted).astype(float)
    one_sided = len(set(label.tolist())) > 1 and len(set(predicted.tolist())) == 1
    return ClassReport(
        n=len(scored),
        model=model,
        accuracy=float(right.mean()),
        accuracy_interval=bootstrap_interval(_mean, right > 0, right, groups=groups, seed=seed),
        balanced_accuracy=math.fsum(recalls) / len(recalls),
        majority=float(table.sum(1).max() / len(scored)),
        auc=mean_auc(label, score),
        log_loss=class_log_loss(label, np.log(np.maximum(score, _TINY))),
        collapsed=classes[predicted[0]] if one_sided else "",
        by_class=figures,
        confusion={
            name: dict(zip(classes, row.tolist(), strict=True)) for name, row in zip(classes, table, strict=True)
        },
        unreadable=tuple(unreadable),
        rows=tuple(
            {"name": sample.name, "label": classes[sample.label], "predicted": one.label, "scores": one.scores}
            for sample, one in scored
        ),
    )


def _mean(_: Any, right: np.ndarray) -> float:
    return float(right.mean())


def _figures(place: int, table: np.ndarray, label: np.ndarray, score: np.ndarray) -> ClassFigures:
    hits, true, called = int(table[place, place]), int(table[place].sum()), int(table[:, place].sum())
    return ClassFigures(
        n=true,
        recall=hits / true if true else math.nan,
        precision=hits / called if called else math.nan,
        f1=2 * hits / (true + called) if true + called else math.nan,
        auc=roc_auc(label == place, score[:, place]),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
