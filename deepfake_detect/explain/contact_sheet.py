"""How do explanations of a data set look side by side, the surest mistakes first?"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image

from deepfake_detect.datasets.read import FRAMES, Sample, read_dataset
from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.gallery import Tile, draw_gallery
from deepfake_detect.drawing.heatmap import lay_over
from deepfake_detect.explain.explainer import explain_image
from deepfake_detect.explain.explanation import Explanation
from deepfake_detect.inputs.image import open_image
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.weights.card import DETECTS

MISTAKES: Final = "Mistakes, the surest first"
HITS: Final = "Right, the surest first"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One picture of a sheet.

    Attributes:
        actual: What it is: ``"real"`` or ``"fake"``.
        explanation: What was said of it, and why.
    """

    actual: str
    explanation: Explanation

    @property
    def is_right(self) -> bool:
        """Say whether the verdict is what the picture is; one that is uncertain is wrong here."""
        return self.explanation.label == self.actual


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExplanationSheet:
    """Explanations of a data set.

    Attributes:
        entries: Those that are shown, the surest mistake first, then the surest hit.
        n: Pictures that were scored.
        mistakes: How many of them were called something else than they are.
        left_out: The pictures that could not be scored, each with its name and why: no face, or damaged.
    """

    entries: tuple[Entry, ...] = field(repr=False)
    n: int
    mistakes: int
    left_out: tuple[str, ...] = ()

    def plot(self, *, columns: int = 6) -> Image.Image:
        """Draw a contact sheet: the heat over each picture, what was said, and what it is.

        Args:
            columns: Pictures in a row.
        """
        parts: list[tuple[str, list[Tile]]] = [(MISTAKES, []), (HITS, [])]
        for entry in self.entries:
            parts[entry.is_right][1].append(_tile(entry))
        return draw_gallery([part for part in parts if part[1]] or parts[:1], columns=columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `plot` as a picture, by the ending of the file."""
        self.plot().save(path)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.plot().save(file, "PNG")
        return file.getvalue()


def explain_many(
    predictor: Predictor,
    dataset: Any,
    *,
    count: int = 24,
    split: str | None = None,
    labels: Mapping[Any, str] | None = None,
    frames: int = FRAMES,
    faces: FaceChoice = "auto",
    **options: Any,
) -> ExplanationSheet:
    """Score a data set, and explain the surest mistakes, then the surest hits.

    All pictures are scored as by `Predictor.predict_many`; only those that are shown are explained.

    Args:
        predictor: A `Predictor` or a `Detector`.
        dataset: Whatever `read_dataset` takes.
        count: Pictures that are shown, at the most.
        split: Keep the pictures of this split only.
        labels: What labels mean that are not known.
        frames: For each video.
        faces: See `FaceChoice`.
        **options: Of `explain`: ``method``, ``layer``, ``faithfulness`` (``"off"`` here unless said), ``target``.

    Returns:
        What is shown, how many were wrong, and which pictures were left out and why.

    Raises:
        DatasetError: A label cannot be told.

    Example:
        >>> from deepfake_detect import Detector
        >>> pictures = [("examples/portrait.jpg", "real"), ("examples/portrait_fake.jpg", "fake")]
        >>> explain_many(Detector.from_pretrained("meso4-fakefaces"), pictures).n
        2
    """
    samples = [s for s in read_dataset(dataset, labels=labels, frames=frames) if split in (None, s.split)]
    said = list(predictor.predict_many((sample.image for sample in samples), faces=faces, on_error="yield"))
    scored = [(sample, one) for sample, one in zip(samples, said, strict=True) if one.score is not None]
    shown = sorted(scored, key=_order)[:count]
    options.setdefault("faithfulness", "off")
    return ExplanationSheet(
        entries=tuple(
            Entry(
                actual=DETECTS[sample.label], explanation=explain_image(predictor, sample.image, faces=faces, **options)
            )
            for sample, _ in shown
        ),
        n=len(scored),
        mistakes=sum(one.label != DETECTS[sample.label] for sample, one in scored),
        left_out=tuple(str(one.error or f"{one.name}: no face was found") for one in said if one.score is None),
    )


def _order(one: tuple[Sample, Prediction]) -> tuple[bool, float]:
    """Mistakes first; in both parts those that are farthest from what they are, or nearest to it."""
    sample, prediction = one
    away = abs(sample.label - (prediction.score or 0.0))
    right = prediction.label == DETECTS[sample.label]
    return right, away if right else -away


def _tile(entry: Entry) -> Tile:
    found = entry.explanation
    pixels = open_image(found.prediction.source).pixels
    decisive = found.decisive
    return Tile(
        image=lay_over(pixels, found.heat, squares=[one.crop_xyxy for one in found.faces]),
        box_xyxy=None if decisive is None else decisive.face.box_xyxy,
        caption=f"{found.label} {found.score:.3f}",
        colour=COLOURS.get(found.label, COLOURS["uncertain"]),
        note=f"is {entry.actual}: {_short(found.name)}",
    )


def _short(name: str) -> str:
    parts: Sequence[str] = name.replace("\\", "/").rstrip("/").split("/")
    return parts[-1]
