"""What is known of one picture in a test, and what was said of it?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One picture, what it is, and what was said of it.

    Attributes:
        name: Path or URL, or a word such as ``"<array>"``.
        label: What it is: ``"real"`` or ``"fake"``.
        said: ``"real"``, ``"fake"``, ``"uncertain"``, ``"no-face"``, or ``"error"``.
        score: Calibrated probability of fake, 0..1; None where there was no face or an error.
        logit: What the model said; positive means fake.
        source: The collection that it comes from.
        generator: What made it.
        group: Pictures of one group stand or fall together; empty makes it its own.
        split: ``"train"``, ``"val"``, ``"test"``, or empty.
        tags: What the note says as ``key=value;key=value``, such as the difficulty.
        error: Why it could not be scored.
        box_xyxy: The face that was scored, in pixels of the original.
        image: What the caller gave, so that a gallery can open it again; never part of `to_dict`.
    """

    name: str
    label: str
    said: str
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
        """Give the row as plain JSON values, without the picture."""
        names = [item.name for item in dataclasses.fields(self) if item.name != "image"]
        values = {name: getattr(self, name) for name in names}
        return {**values, "box_xyxy": None if self.box_xyxy is None else list(self.box_xyxy)}


class Scores(NamedTuple):
    """The pictures with a score, as arrays.

    Attributes:
        y: 1 for fake, [N].
        score: Probability of fake, [N].
        group: Number of the group, [N]: as they are sorted, so that the same pictures give the same draws.
    """

    y: np.ndarray
    score: np.ndarray
    group: np.ndarray


def scores_of(rows: Iterable[Row]) -> Scores:
    """Give what can be measured of rows: those with a score."""
    rows = [row for row in rows if row.score is not None]
    names = [("group", row.group) if row.group else ("alone", place) for place, row in enumerate(rows)]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return Scores(
        y=np.array([row.label == "fake" for row in rows], int),
        score=np.array([row.score for row in rows], float),
        group=np.array([numbers[name] for name in names], int),
    )
