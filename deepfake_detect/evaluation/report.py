"""The result of an evaluation: figures, charts, galleries, and a folder with all of them."""

from __future__ import annotations

import csv
import dataclasses
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image

from deepfake_detect.drawing import charts, html
from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.gallery import Tile, draw_gallery
from deepfake_detect.drawing.result import Result, short_name, show_picture
from deepfake_detect.errors import MissingExtra
from deepfake_detect.evaluation.report_page import Table, compose_page, lead_of, tables_of, warnings_of
from deepfake_detect.evaluation.scored import Row, scores_of
from deepfake_detect.evaluation.summary import (
    Delivered,
    Figures,
    Versus,
    break_down,
    compare_delivery,
    compare_generators,
    measure,
)

logger = logging.getLogger("deepfake_detect")

_COLUMNS = ("name", "label", "predicted", "score", "logit", "source", "generator", "group", "split", "error")


class _Draws(TypedDict):
    rounds: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Report(Figures, Result):
    """The result of an evaluation: figures over all pictures, by source, by generator and by delivery.

    Has every figure of `Figures`, over all pictures.

    Attributes:
        model: The weights, such as ``"xception-fakefaces@1"``.
        revision: Their commit on the Hub; None for packaged or local weights.
        threshold: Score at and above which a picture is called fake.
        rows: Every picture, in order.
        by: ``{"source": {name: Figures}, "generator": ..., "difficulty": ...}``, as far as the data names them.
        generators: Each generator's fakes against each source's real pictures, ``{generator: {source: Versus}}``.
        robustness: Delivery to the figures after it, with ``robustness=`` of `evaluate`.
        history: Figures of each epoch of the training, for a detector that remembers its training.
    """

    model: str
    revision: str | None = None
    threshold: float
    rows: tuple[Row, ...] = field(repr=False)
    by: dict[str, dict[str, Figures]]
    generators: dict[str, dict[str, Versus]]
    robustness: dict[str, Delivered]
    history: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of_rows(
        cls,
        rows: Sequence[Row],
        *,
        threshold: float,
        model: str,
        revision: str | None = None,
        delivered: Mapping[str, Sequence[Row]] | None = None,
        history: Sequence[Any] = (),
        rounds: int = 1000,
        seed: int = 0,
    ) -> Report:
        """Compute all figures of the verdicts on some pictures.

        Args:
            rows: The pictures.
            threshold: Score at and above which a picture is called fake.
            model: Named in the report.
            revision: Named in the report.
            delivered: Delivery to the verdicts on the same pictures, in the same order.
            history: Epochs of the training, such as `Epoch`, oldest first.
            rounds: Bootstrap draws.
            seed: Random seed of the draws.
        """
        draws: _Draws = {"rounds": rounds, "seed": seed}
        whole = measure(rows, threshold=threshold, **draws)
        return cls(
            **{item.name: getattr(whole, item.name) for item in dataclasses.fields(Figures)},
            model=model,
            revision=revision,
            threshold=threshold,
            rows=tuple(rows),
            by=break_down(rows, threshold=threshold, **draws),
            generators=compare_generators(rows, **draws),
            robustness={
                name: compare_delivery(rows, after, threshold=threshold, **draws)
                for name, after in (delivered or {}).items()
            },
            history=tuple(dataclasses.asdict(epoch) for epoch in history),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain JSON values, None where one is undefined; `save` writes the rows."""
        names = [item.name for item in dataclasses.fields(Figures)]
        return {
            "model": self.model,
            "revision": self.revision,
            "threshold": self.threshold,
            **{name: _plain(getattr(self, name)) for name in names},
            "false_alarms": _plain(self.false_alarms),
            "missed": _plain(self.missed),
            "by": _plain(self.by),
            "generators": _plain(self.generators),
            "robustness": _plain(self.robustness),
            "history": _plain(self.history),
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each picture: what it is, its score and label, and its tags."""
        return [{**row.to_dict(), "tags": "; ".join(f"{k}={v}" for k, v in row.tags.items())} for row in self.rows]

    def show(self) -> None:
        """Show the `plot`: below the cell of a notebook, else in the picture viewer of the system.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        show_picture(self.plot())

    def plot(self) -> Image.Image:
        """Draw ROC, precision over recall, reliability and scores by class.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        of = scores_of(self.rows)
        return charts.curves(of.y, of.score, threshold=self.threshold, title=self._title())

    def plot_sources(self) -> Image.Image:
        """Draw the AUC of each source with its interval.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        values = {name: (figures.auc, *figures.intervals["auc"]) for name, figures in self.by.get("source", {}).items()}
        return charts.comparison(values, baseline=0.5, title=self._title())

    def plot_training(self) -> Image.Image:
        """Draw losses, accuracies and learning rate over the epochs of the training.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        return charts.training_curves(self.history, title=f"{self.model}, {len(self.history)} epochs")

    def plot_robustness(self) -> Image.Image:
        """Draw AUC and balanced accuracy by delivery.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        lines = {
            word: {name: (getattr(figures, key), *figures.intervals[key]) for name, figures in self.robustness.items()}
            for key, word in (("auc", "AUC"), ("balanced_accuracy", "balanced accuracy"))
        }
        return charts.robustness(lines, label="figure", title=self._title())

    def gallery(self, *, count: int = 6) -> Image.Image:
        """Draw faces with their scores and names: surest hits, misses and false alarms, nearest to the threshold.

        The pictures are opened once more.

        Args:
            count: Faces of each kind.
        """
        scored = [row for row in self.rows if row.score is not None]
        surest = sorted(scored, key=_order, reverse=True)
        unsure = sorted(scored, key=lambda row: abs(_logit(row.score or 0.0) - _logit(self.threshold)))
        kinds = {
            "Fakes found, the surest": [row for row in surest if row.label == "fake" and self._is_alarm(row)],
            "Fakes missed, the surest": [
                row for row in surest[::-1] if row.label == "fake" and not self._is_alarm(row)
            ],
            "False alarms, the surest": [row for row in surest if row.label == "real" and self._is_alarm(row)],
            "Real pictures passed, the surest": [
                row for row in surest[::-1] if row.label == "real" and not self._is_alarm(row)
            ],
            "Nearest to the threshold": unsure,
        }
        return draw_gallery([(name, [_tile(row) for row in rows[:count]]) for name, rows in kinds.items()], columns=6)

    def save(self, folder: str | os.PathLike[str], *, count: int = 12) -> Path:
        """Write the report into a folder.

        ``report.html`` is the whole report in one file that opens without a network; ``report.json`` holds the
        figures, ``scores.csv`` a line for each picture; ``curves.png``, ``sources.png``, ``robustness.png`` and
        ``gallery.png`` are the pictures, and ``training.png`` for a detector that remembers its training. Where
        matplotlib is missing, everything but the charts is written, and the page says how to get them.

        Args:
            folder: Made where it is missing; ``~`` is expanded.
            count: Faces of each kind in the gallery.

        Returns:
            Path of ``report.html``.
        """
        folder = Path(os.path.expanduser(folder))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(self.to_json(indent=2) + "\n", encoding="utf-8")
        self._write_scores(folder / "scores.csv")
        pictures, missing = self._pictures(count)
        for name, (file, image) in pictures.items():
            image.save(folder / file)
            logger.debug("%s written to %s", name, folder / file)
        target = folder / "report.html"
        target.write_text(
            compose_page(
                self,
                title=f"{self.model}: report",
                threshold=self.threshold,
                tables=self._tables(),
                pictures={name: image for name, (_, image) in pictures.items()},
                unscored=[row for row in self.rows if row.score is None],
                missing=missing,
            ),
            encoding="utf-8",
        )
        return target

    def __repr__(self) -> str:
        left_out = f", {self.no_face} no face, {self.unreadable} unreadable" if self.no_face or self.unreadable else ""
        collapsed = f", collapsed to {self.collapsed}" if self.collapsed else ""
        auc, accuracy = (html.format_figure(value) for value in (self.auc, self.balanced_accuracy))
        return f"Report({self.model}, n {self.n}{left_out}, AUC {auc}, balanced accuracy {accuracy}{collapsed})"

    def __str__(self) -> str:
        tables = [
            f"{table.heading if number else ''}\n{html.format_table(table.header, table.rows)}".lstrip("\n")
            for number, table in enumerate(self._tables())
        ]
        head = [f"{self.model}: {lead_of(self, threshold=self.threshold)}", *warnings_of(self)]
        return "\n".join(head) + "\n\n" + "\n\n".join(tables)

    def _repr_html_(self) -> str:
        head = [f"{self.model}: {lead_of(self, threshold=self.threshold)}", *warnings_of(self)]
        parts = [f"<h4>{table.heading}</h4>{html.table(table.header, table.rows)}" for table in self._tables()]
        return "".join([*(html.paragraph(text) for text in head), *parts])

    def _tables(self) -> list[Table]:
        return tables_of(self, by=self.by, generators=self.generators, robustness=self.robustness)

    def _title(self) -> str:
        return f"{self.model}, {self.n} pictures"

    def _is_alarm(self, row: Row) -> bool:
        return row.score is not None and row.score >= self.threshold

    def _pictures(self, count: int) -> tuple[dict[str, tuple[str, Image.Image]], str]:
        """Return heading to file name and picture, and why there are no charts."""
        pictures, missing = {}, ""
        try:
            pictures["Curves"] = ("curves.png", self.plot())
            if len(self.by.get("source", {})) > 1:
                pictures["By source"] = ("sources.png", self.plot_sources())
            if self.history:
                pictures["Training"] = ("training.png", self.plot_training())
            if self.robustness:
                pictures["Robustness"] = ("robustness.png", self.plot_robustness())
        except MissingExtra as error:
            missing = str(error)
        pictures["Faces"] = ("gallery.png", self.gallery(count=count))
        return pictures, missing

    def _write_scores(self, path: Path) -> None:
        keys = sorted({key for row in self.rows for key in row.tags} - set(_COLUMNS))
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow([*_COLUMNS, *keys])
            for row in self.rows:
                out.writerow([*(getattr(row, name) for name in _COLUMNS), *(row.tags.get(key, "") for key in keys)])


def _plain(value: Any) -> Any:
    if isinstance(value, Figures):
        names = [item.name for item in dataclasses.fields(Figures)]
        values = {name: getattr(value, name) for name in [*names, "false_alarms", "missed"]}
        return _plain(values)
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _order(row: Row) -> float:
    """Return the score on a scale that does not end at 1."""
    return row.logit if row.logit is not None else _logit(row.score or 0.0)


def _logit(score: float) -> float:
    inside = min(max(score, 1e-12), 1 - 1e-12)
    return math.log(inside / (1 - inside))


def _tile(row: Row) -> Tile:
    return Tile(
        image=row.image,
        box_xyxy=row.box_xyxy,
        caption=f"{row.predicted} {row.score:.3f}",
        colour=COLOURS.get(row.predicted, COLOURS["uncertain"]),
        note=" · ".join(
            text for text in (f"is {row.label}", row.generator if row.label == "fake" else row.source) if text
        ),
        name=short_name(row.name),
    )
