"""Count how many verdicts change where a network computes with fewer digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deepfake_detect.datasets.read import read_dataset
from deepfake_detect.errors import DatasetError, ImageTooLarge, ImageUnreadable
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.predict.verdict import judge
from deepfake_detect.system.progress import progress_bar
from deepfake_detect.weights.card import Card

MOST_PICTURES = 900
"""Pictures of a data set that are used, evenly spaced: a third for the ranges of values, the others to compare."""

_FEWEST_FACES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictChanges:
    """How the verdicts on faces differ from those in float32.

    Attributes:
        n: Faces, none of which the ranges of values were taken from.
        changed: Faces with another label.
        changes: Labels before and after, such as ``"real -> fake"``, to the number of faces.
        wrong_before: Faces with a wrong label in float32; ``"uncertain"`` is not wrong.
        wrong_after: Faces with a wrong label now.
        mean_score_difference: Mean distance of the two scores.
        largest_score_difference: Largest distance of the two scores.
    """

    n: int
    changed: int
    changes: Mapping[str, int]
    wrong_before: int
    wrong_after: int
    mean_score_difference: float
    largest_score_difference: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        kinds = "".join(f", {number} {change}" for change, number in sorted(self.changes.items()))
        return (
            f"{self.changed} of {self.n} verdicts change ({self.changed / self.n:.1%}){kinds}; "
            f"wrong: {self.wrong_before} before, {self.wrong_after} after; "
            f"scores move by {self.mean_score_difference:.4f} on average, {self.largest_score_difference:.4f} at most"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFaces:
    """Faces of a data set as a network takes them.

    Attributes:
        pixels: [N, size_px, size_px, 3] float32, normalised.
        labels: ``"real"`` or ``"fake"`` for each.
    """

    pixels: np.ndarray
    labels: tuple[str, ...]


def find_labelled_faces(predictor: Predictor, data: Any) -> tuple[LabelledFaces, LabelledFaces]:
    """Cut out the largest face of each picture of a data set; pictures that cannot be read are left out.

    Args:
        predictor: Finds and crops them.
        data: Whatever `read_dataset` takes.

    Returns:
        A third of the faces, for the ranges of values, and the others, to compare verdicts on.

    Raises:
        DatasetError: It cannot be read, or has too few faces.
    """
    samples = read_dataset(data)
    chosen = [samples[place] for place in np.unique(np.linspace(0, len(samples) - 1, MOST_PICTURES).astype(int))]
    crops: list[np.ndarray] = []
    labels: list[str] = []
    for sample in progress_bar(chosen, title="faces"):
        try:
            look = predictor.look(sample.image, faces="largest")
        except (ImageUnreadable, ImageTooLarge):
            continue
        crops += look.crops
        labels += [("real", "fake")[sample.label]] * len(look.crops)
    if len(crops) < _FEWEST_FACES:
        raise DatasetError(
            f"the data set shows {len(crops)} faces in {len(chosen)} pictures, expected at least {_FEWEST_FACES}, and "
            "better some hundred; give more pictures as data="
        )
    pixels = normalise(crops, preprocessing=predictor.card.preprocessing)
    is_for_ranges = np.arange(len(crops)) % 3 == 0
    return _part(pixels, labels, is_for_ranges), _part(pixels, labels, ~is_for_ranges)


def compare_verdicts(before: np.ndarray, after: np.ndarray, *, labels: Sequence[str], card: Card) -> VerdictChanges:
    """Compare the verdicts on the same faces.

    Args:
        before: Logits [N] in float32.
        after: Logits [N] now.
        labels: The true ones.
        card: Turns logits into verdicts.
    """
    old = [judge(float(logit), card=card) for logit in before]
    new = [judge(float(logit), card=card) for logit in after]
    differences = np.abs(np.array([score for score, _ in old]) - np.array([score for score, _ in new]))
    changes = Counter(f"{was} -> {now}" for (_, was), (_, now) in zip(old, new, strict=True) if was != now)
    return VerdictChanges(
        n=len(old),
        changed=changes.total(),
        changes=dict(changes),
        wrong_before=_count_wrong([label for _, label in old], labels),
        wrong_after=_count_wrong([label for _, label in new], labels),
        mean_score_difference=float(differences.mean()),
        largest_score_difference=float(differences.max()),
    )


def _part(pixels: np.ndarray, labels: Sequence[str], chosen: np.ndarray) -> LabelledFaces:
    return LabelledFaces(pixels=pixels[chosen], labels=tuple(labels[int(place)] for place in np.flatnonzero(chosen)))


def _count_wrong(verdicts: Sequence[str], labels: Sequence[str]) -> int:
    return sum(verdict not in (label, "uncertain") for verdict, label in zip(verdicts, labels, strict=True))
