"""Compose the tables, the words and the HTML page of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from deepfake_detect.drawing import html
from deepfake_detect.drawing.html import format_figure
from deepfake_detect.evaluation.scored import Row
from deepfake_detect.evaluation.summary import Delivered, Figures, Versus

_GENERATORS = "AUC of each generator against the real pictures of each source"
_ALWAYS_OPEN = ("By source", "By generator", "By difficulty", "Robustness", _GENERATORS)
_NAMED = 20  # files that could not be scored are named up to here
_SHOWN = {
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "ap": "average precision",
    "eer": "equal error rate",
    "ece": "calibration error",
    "log_loss": "log loss",
}
_HOW_TO_READ = (
    "After a figure stands its 95 % bootstrap interval: the range of the figure for other pictures of the same kind. "
    "Whole groups (persons, videos) were drawn for it, and ? stands where there are too few of them. AUC is how often "
    "a fake scores above a real picture: 1 is perfect, 0.5 is chance. Balanced accuracy, false alarms (real pictures "
    "called fake) and missed fakes depend on the threshold. The calibration error is the distance of the scores from "
    "the shares of fakes; the log loss punishes sure mistakes most (0.693 is that of always answering 0.5). An "
    "uncertain verdict counts by the side of the threshold on which its score falls. * marks a row of one class, "
    "whose AUC and balanced accuracy are against the other class of the same source, or of all sources."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of a report.

    Attributes:
        heading: Heading.
        header: Column names.
        rows: Cells, the name of the row first.
        shades: Row and column of a cell to 0 (bad) .. 1 (good).
    """

    heading: str
    header: list[str]
    rows: list[list[str]]
    shades: dict[tuple[int, int], float] = field(default_factory=dict)


def lead_of(figures: Figures, *, threshold: float) -> str:
    """Describe in a line what was measured."""
    counts = [(figures.no_face, "without a face"), (figures.unreadable, "unreadable")]
    left_out = ", ".join(f"{count} {word}" for count, word in counts if count)
    text = f"{figures.n} pictures, {figures.real} real and {figures.fake} fake; threshold {threshold:.3g}"
    text += f"; {figures.uncertain} called uncertain" if figures.uncertain else ""
    return f"{text}; left out: {left_out}" if left_out else text


def warnings_of(figures: Figures) -> list[str]:
    """List what to know before believing a figure."""
    warnings = []
    if not (figures.real and figures.fake):
        warnings.append("There are not both classes among the scored pictures: figures of two classes are undefined.")
    if figures.collapsed:
        warnings.append(f"Collapsed: every picture was called {figures.collapsed}. The accuracy means nothing here.")
    elif figures.real and figures.fake and figures.accuracy <= figures.majority:
        larger = "fake" if figures.fake > figures.real else "real"
        warnings.append(
            f'The accuracy of {figures.accuracy:.3f} is no better than always answering "{larger}", '
            f"which is right in {figures.majority:.3f}."
        )
    low = figures.intervals.get("auc", (math.nan, math.nan))[0]
    if low <= 0.5:
        warnings.append("The interval of the AUC reaches down to 0.5: this may be chance.")
    left_out, every = figures.no_face + figures.unreadable, figures.n + figures.no_face + figures.unreadable
    if left_out > 0.1 * every:
        warnings.append(f"{left_out} of {every} pictures could not be scored, and no figure counts them.")
    return warnings


def tables_of(
    figures: Figures,
    *,
    by: Mapping[str, Mapping[str, Figures]],
    generators: Mapping[str, Mapping[str, Versus]],
    robustness: Mapping[str, Delivered],
) -> list[Table]:
    """Return the tables of a report, the one over all pictures first."""
    tables = [_summary(figures)]
    tables += [_kinds(key, cells) for key, cells in by.items()]
    if generators:
        tables.append(_generators(generators))
    if robustness:
        tables.append(_deliveries(robustness))
    return tables


def compose_page(
    figures: Figures,
    *,
    title: str,
    threshold: float,
    tables: Sequence[Table],
    pictures: Mapping[str, Image.Image],
    unscored: Sequence[Row] = (),
    missing: str = "",
) -> str:
    """Compose the HTML page of a report.

    Args:
        figures: Over all pictures.
        title: Title of the page.
        threshold: Score at and above which a picture is called fake.
        tables: From `tables_of`; the figures of the first are shown as cards.
        pictures: Heading to picture; one with the heading of a table stands below that table.
        unscored: Pictures that could not be scored.
        missing: Why there are no charts.
    """
    parts = [("At a glance", html.cards(_cards(figures)) + _confusion(figures))]
    if missing:
        parts.append(("Curves", html.paragraph(missing)))
    sections = {table.heading: _html(table) for table in tables[1:]}
    order = dict.fromkeys(["Curves", *sections, *pictures])  # the faces last: there are many
    for name in [name for name in order if name in sections or name in pictures]:
        drawn = _picture(name, pictures[name]) if name in pictures else ""
        parts.append((name, sections.get(name, "") + drawn))
    if unscored:
        parts.append((f"Not scored ({len(unscored)})", _unscored(unscored)))
    parts.append(("How to read this", html.paragraph(_HOW_TO_READ)))
    lead, warnings = lead_of(figures, threshold=threshold), warnings_of(figures)
    return html.write_page(title=title, lead=lead, warnings=warnings, parts=parts)


def _summary(figures: Figures) -> Table:
    rows = [[word, _figure(figures, name)] for name, word in _SHOWN.items()]
    rows.insert(3, ["  always the larger class", format_figure(figures.majority)])
    rows += [["false alarms", format_figure(figures.false_alarms)], ["missed fakes", format_figure(figures.missed)]]
    return Table(heading="All pictures", header=["", "figure"], rows=rows)


def _kinds(key: str, cells: Mapping[str, Figures]) -> Table:
    header = [key, "real", "fake", "no face", "AUC", "balanced accuracy", "false alarms", "missed"]
    rows: list[list[str]] = []
    shades: dict[tuple[int, int], float] = {}
    for number, (name, figures) in enumerate(cells.items()):
        rows.append(
            [
                f"{name} *" if figures.paired else name,
                str(figures.real),
                str(figures.fake),
                str(figures.no_face),
                _figure(figures, "auc"),
                _figure(figures, "balanced_accuracy"),
                format_figure(figures.false_alarms),
                format_figure(figures.missed),
            ]
        )
        shades |= {(number, 4): _depth(figures.auc), (number, 5): _depth(figures.balanced_accuracy)}
    return Table(heading=f"By {key}", header=header, rows=rows, shades=shades)


def _generators(generators: Mapping[str, Mapping[str, Versus]]) -> Table:
    sources = list(next(iter(generators.values())))
    rows = [
        [f"{name} ({cells[sources[-1]].fake})", *(format_figure(cells[source].auc) for source in sources)]
        for name, cells in generators.items()
    ]
    shades = {
        (number, place): _depth(cells[source].auc)
        for number, cells in enumerate(generators.values())
        for place, source in enumerate(sources, 1)
    }
    first = next(iter(generators.values()))
    names = [f"{source} ({first[source].real})" for source in sources]
    return Table(heading=_GENERATORS, header=["", *names], rows=rows, shades=shades)


def _deliveries(robustness: Mapping[str, Delivered]) -> Table:
    header = ["delivery", "n", "no face", "AUC", "lost AUC", "balanced accuracy"]
    rows = [
        [
            name,
            str(after.n),
            str(after.no_face),
            *(_figure(after, key) for key in ("auc", "lost_auc", "balanced_accuracy")),
        ]
        for name, after in robustness.items()
    ]
    shades = {(place, 3): _depth(after.auc) for place, after in enumerate(robustness.values())}
    return Table(heading="Robustness", header=header, rows=rows, shades=shades)


def _cards(figures: Figures) -> list[tuple[str, str, str]]:
    below = {"accuracy": f"larger class alone: {format_figure(figures.majority)}"}
    cards = []
    for name, word in _SHOWN.items():
        value, _, ends = _figure(figures, name).partition(" ")
        cards.append((word, value, below.get(name, ends) if name != "accuracy" else f"{ends} {below[name]}".strip()))
    cards.append(("false alarms", format_figure(figures.false_alarms), f"of {figures.real} real pictures"))
    cards.append(("missed", format_figure(figures.missed), f"of {figures.fake} fakes"))
    return cards


def _confusion(figures: Figures) -> str:
    cell = figures.confusion
    rows = [["is real", str(cell.tn), str(cell.fp)], ["is fake", str(cell.fn), str(cell.tp)]]
    return "<br>" + html.table(["", "below the threshold", "called fake"], rows)


def _unscored(rows: Sequence[Row]) -> str:
    more = f"; and {len(rows) - _NAMED} more, in scores.csv" if len(rows) > _NAMED else ""
    return html.table(["file", "why"], [[row.name, row.error or "no face found"] for row in rows[:_NAMED]]) + (
        html.paragraph(more.lstrip("; ")) if more else ""
    )


def _html(table: Table) -> str:
    content = html.table(table.header, table.rows, shades=table.shades)
    return (
        content
        if table.heading in _ALWAYS_OPEN or len(table.rows) <= 6
        else html.fold(f"{len(table.rows)} rows", content)
    )


def _picture(name: str, image: Image.Image) -> str:
    if name == "Faces":
        return html.figure(image, words=name, format_name="JPEG")
    return html.figure(image, words=name, scale=0.7)  # drawn finer than a page shows


def _figure(of: Figures | Delivered, name: str) -> str:
    return format_figure(getattr(of, name), of.intervals.get(name))


def _depth(value: float) -> float:
    return 0.0 if math.isnan(value) else 2 * value - 1
