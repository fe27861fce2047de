"""Rows of an evaluation: a picture, its true label, and the verdict on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One picture, its true label, and the verdict on it.

    Attributes:
        name: Path or URL, or a word such as ``"<array>"``.
        label: True label: ``"real"`` or ``"fake"``.
        predicted: Verdict: ``"real"``, ``"fake"``, ``"uncertain"``, ``"no-face"``, or ``"error"``.
        score: Calibrated probability of fake, 0..1; None where there was no face or an error.
        logit: Output of the model; positive means fake.
        source: Collection that the picture comes from.
        generator: What made the picture.
        group: Person or video; pictures of one group are drawn together. Empty is a group of its own.
        split: ``"train"``, ``"val"``, ``"test"``, or empty.
        tags: Entries ``key=value;key=value`` of the note, such as the difficulty.
        error: Why it could not be scored.
        box_xyxy: The face that was scored, in pixels of the original.
        image: The picture as given, so that a gallery can open it again; not in `to_dict`.
    """

    name: str
    label: str
    predicted: str
    score: float | None = None
    logit: float | None = None
    source: str = ""
    generator: str = ""
    group: str = ""
    split: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    error: str = ""
    box_xyxy: tuple[float, float, float, float] | None = None
    image: Any = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values, without the picture."""
        names = [item.name for item in dataclasses.fields(self) if item.name != "image"]
        values = {name: getattr(self, name) for name in names}
        return {**values, "box_xyxy": None if self.box_xyxy is None else list(self.box_xyxy)}


class Scores(NamedTuple):
    """The pictures with a score, as arrays.

    Attributes:
        y: 1 for fake, [N].
        score: Probability of fake, [N].
        group: Number of the group in sorted order, [N], so that the same pictures give the same draws.
    """

    y: np.ndarray
    score: np.ndarray
    group: np.ndarray


def scores_of(rows: Iterable[Row]) -> Scores:
    """Return the rows with a score as arrays."""
    rows = [row for row in rows if row.score is not None]
    names = [("group", row.group) if row.group else ("alone", place) for place, row in enumerate(rows)]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return Scores(
        y=np.array([row.label == "fake" for row in rows], int),
        score=np.array([row.score for row in rows], float),
        group=np.array([numbers[name] for name in names], int),
    )
