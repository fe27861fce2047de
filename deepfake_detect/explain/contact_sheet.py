"""Explain the surest mistakes and hits of a data set, side by side on a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict, Unpack

from PIL import Image

from deepfake_detect._options import check_number
from deepfake_detect.datasets.read import FRAMES, Sample, read_dataset
from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.gallery import Tile, draw_gallery
from deepfake_detect.drawing.heatmap import lay_over
from deepfake_detect.drawing.result import DrawnResult, short_name
from deepfake_detect.explain.explainer import Target, explain_image
from deepfake_detect.explain.explanation import Explanation
from deepfake_detect.explain.faithfulness import Level
from deepfake_detect.inputs.image import open_image
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.weights.card import DETECTS

MISTAKES: Final = "Mistakes, the surest first"
HITS: Final = "Right, the surest first"


class ExplainOptions(TypedDict, total=False):
    """Options of `explain_image` that `explain_many` passes on."""

    method: str
    layer: str | None
    faithfulness: Level | Literal["off"] | None
    target: Target | None
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One picture of the sheet.

    Attributes:
        actual: True label: ``"real"`` or ``"fake"``.
        explanation: Verdict and heat map.
    """

    actual: str
    explanation: Explanation

    @property
    def is_right(self) -> bool:
        """Whether the verdict is the true label; an uncertain one is wrong here."""
        return self.explanation.label == self.actual


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ExplanationSheet(DrawnResult):
    """Explanations of some pictures of a data set.

    Attributes:
        entries: The explained pictures, the surest mistakes first, then the surest hits.
        n: Pictures that were scored.
        mistakes: Number of them with a verdict that is not the true label.
        left_out: Pictures that could not be scored, each with its name and the reason.
    """

    entries: tuple[Entry, ...] = field(repr=False)
    n: int
    mistakes: int
    left_out: tuple[str, ...] = ()

    def plot(self, *, columns: int = 6) -> Image.Image:
        """Draw a contact sheet: the heat over each face, verdict, true label and file name.

        Args:
            columns: Pictures in a row.
        """
        parts: list[tuple[str, list[Tile]]] = [(MISTAKES, []), (HITS, [])]
        for entry in self.entries:
            parts[entry.is_right][1].append(_tile(entry))
        return draw_gallery([part for part in parts if part[1]] or parts[:1], columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the heat as plain JSON values."""
        return {
            "n": self.n,
            "mistakes": self.mistakes,
            "entries": [{"actual": entry.actual, **entry.explanation.to_dict()} for entry in self.entries],
            "left_out": list(self.left_out),
        }

    def __repr__(self) -> str:
        plural = "" if self.n == 1 else "s"
        return f"ExplanationSheet({len(self.entries)} of {self.n} picture{plural}, {self.mistakes} mistakes)"


def explain_many(
    predictor: Predictor,
    dataset: Any,
    *,
    count: int = 24,
    split: str | None = None,
    labels: Mapping[Any, str] | None = None,
    frames: int = FRAMES,
    faces: FaceChoice = "auto",
    **options: Unpack[ExplainOptions],
) -> ExplanationSheet:
    """Score a data set, and explain its surest mistakes and hits.

    All pictures are scored as by `Predictor.predict_many`; only those that are shown are explained.

    Args:
        predictor: A `Predictor` or a `Detector`.
        dataset: Anything that `read_dataset` takes.
        count: Most pictures to explain.
        split: Keep the pictures of this split only.
        labels: Meaning of labels that are not recognised.
        frames: Number of frames of each video.
        faces: See `FaceChoice`.
        **options: Options of `explain_image`; ``faithfulness`` is ``"off"`` by default here.

    Returns:
        The explanations, the number of mistakes, and the pictures that were left out, with the reasons.

    Raises:
        DatasetError: A label is not recognised.
        InvalidOption: An option out of range.

    Example:
        >>> from deepfake_detect import Detector
        >>> pictures = [("examples/portrait.jpg", "real"), ("examples/portrait_fake.jpg", "fake")]
        >>> explain_many(Detector.from_pretrained("meso4-fakefaces"), pictures).n
        2
    """
    check_number("count", count, low=1, whole=True)
    samples = [s for s in read_dataset(dataset, labels=labels, frames=frames) if split in (None, s.split)]
    predictions = list(predictor.predict_many((sample.image for sample in samples), faces=faces, on_error="yield"))
    scored = [(sample, one) for sample, one in zip(samples, predictions, strict=True) if one.score is not None]
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
        left_out=tuple(str(one.error or f"{one.name}: no face was found") for one in predictions if one.score is None),
    )


def _order(one: tuple[Sample, Prediction]) -> tuple[bool, float]:
    """Sort mistakes first, those farthest from the true label; then hits, those nearest to it."""
    sample, prediction = one
    away = abs(sample.label - (prediction.score or 0.0))
    right = prediction.label == DETECTS[sample.label]
    return right, away if right else -away


def _tile(entry: Entry) -> Tile:
    explanation = entry.explanation
    pixels = open_image(explanation.prediction.source).pixels
    decisive = explanation.decisive
    return Tile(
        image=lay_over(pixels, explanation.heat, squares=[one.crop_xyxy for one in explanation.faces]),
        box_xyxy=None if decisive is None else decisive.face.box_xyxy,
        caption=f"{explanation.label} {explanation.score:.3f}",
        colour=COLOURS.get(explanation.label, COLOURS["uncertain"]),
        note=f"is {entry.actual}",
        name=short_name(explanation.name),
    )
