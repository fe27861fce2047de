"""Does a verdict survive the way that pictures travel?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.gallery import Tile, draw_gallery
from deepfake_detect.drawing.result import DrawnResult, short_name
from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.inputs.delivery import STABILITY, Delivery
from deepfake_detect.inputs.image import Picture, open_image
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor

logger = logging.getLogger("deepfake_detect")

ORIGINAL: Final = "original"
"""The delivery that changes nothing; the first of `STABILITY`."""

_Box = tuple[float, float, float, float]
_RULER_PX, _EDGE_PX = 96, 56
_INK, _SOFT = (26, 26, 26), (110, 110, 110)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Stability(DrawnResult):
    """What was said of one picture, however it was delivered.

    Attributes:
        name: Path or URL of the picture, or a word such as ``"<array>"``.
        threshold: Score at and above which a label is ``"fake"``.
        scores: Delivery to the probability of fake, in the order of `STABILITY`; None where no face was found, or where
            the picture could not be delivered so.
        logits: The same before calibration.
        labels: Delivery to ``"real"``, ``"fake"``, ``"uncertain"``, ``"no-face"``; ``"error"`` where it could not be
            delivered so, as a side is too long for the format.
        faces: Delivery to how many faces were scored; where the number differs, a score may be of something else.
        model: The weights, such as ``"xception-fakefaces@1"``.
        revision: Their commit on the Hub; None for packaged or local weights.
        boxes: Delivery to the face with the highest score, in pixels of the picture as delivered; None without a face.
        source: The picture, to be opened again by `plot`; not in `to_dict`.
    """

    name: str
    threshold: float
    scores: Mapping[str, float | None]
    logits: Mapping[str, float | None]
    labels: Mapping[str, str]
    faces: Mapping[str, int]
    model: str
    revision: str | None = None
    boxes: Mapping[str, _Box | None]
    source: Any = None

    @property
    def score(self) -> float | None:
        """Give the score of the picture as it was given."""
        return self.scores[ORIGINAL]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Give the lowest and the highest score of all deliveries; None where no face was found in any."""
        scores = [score for score in self.scores.values() if score is not None]
        return (min(scores), max(scores)) if scores else None

    @property
    def flips(self) -> tuple[str, ...]:
        """Name the deliveries that turn real into fake, fake into real, or lose or gain the face.

        To ``"uncertain"`` and back is no flip: the verdict is withheld, not reversed.
        """
        said = self.labels[ORIGINAL]
        return tuple(name for name, label in self.labels.items() if _is_flip(said, label))

    @property
    def label(self) -> str:
        """Give the verdict on the original; ``"uncertain"`` where it flips; ``"no-face"`` if the original has none."""
        said = self.labels[ORIGINAL]
        return "uncertain" if self.flips and said != "no-face" else said

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the boxes and the picture as plain JSON values."""
        return {
            "name": self.name,
            "label": self.label,
            "score": self.score,
            "interval": None if self.interval is None else list(self.interval),
            "flips": list(self.flips),
            "threshold": self.threshold,
            "scores": dict(self.scores),
            "logits": dict(self.logits),
            "labels": dict(self.labels),
            "faces": dict(self.faces),
            "model": self.model,
            "revision": self.revision,
        }

    def plot(self) -> Image.Image:
        """Draw the face as each delivery shows it, with what was said; below, every score on one ruler.

        The picture is opened and delivered once more.

        Returns:
            RGB picture.

        Raises:
            DeepfakeDetectError: The picture is gone.
        """
        if self.source is None:
            raise ImageUnreadable(f"{self.name}: this result holds no picture; ask for its stability again to plot it")
        pixels = open_image(self.source).pixels
        shown = [name for name, label in self.labels.items() if label != "error"]
        faces = draw_gallery([(self._said(), [self._tile(name, pixels) for name in shown])], columns=len(shown))
        picture = Image.new("RGB", (faces.width, faces.height + _RULER_PX), "white")
        picture.paste(faces, (0, 0))
        picture.paste(_ruler(self, faces.width), (0, faces.height))
        return picture

    def __repr__(self) -> str:
        return f"Stability({self._said()}, {self.model}, {short_name(self.name)})"

    def _said(self) -> str:
        low, high = self.interval or (None, None)
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        spread = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        flips = f", flips under {', '.join(self.flips)}" if self.flips else ""
        return f"{self.label}, {score}{spread}{flips}"

    def _tile(self, name: str, pixels: np.ndarray) -> Tile:
        label, score, count = self.labels[name], self.scores[name], self.faces[name]
        remarks = ["flips"] if name in self.flips else []
        if count != self.faces[ORIGINAL] and count:
            remarks.append(f"{count} face{'' if count == 1 else 's'}")
        return Tile(
            image=STABILITY[name](pixels),
            box_xyxy=self.boxes[name],
            caption=label if score is None else f"{label} {score:.3f}",
            colour=COLOURS.get(label, COLOURS["uncertain"]),
            note=f"{name}: {', '.join(remarks)}" if remarks else name,
        )


def measure_stability(
    predictor: Predictor, image: Any, *, faces: FaceChoice = "auto", threshold: float | None = None
) -> Stability:
    """Score a picture as it is and as every delivery of `STABILITY` would leave it.

    A verdict that recompression or a smaller copy reverses is not one to act on. Each copy is searched for faces anew,
    and the highest score counts, as in `Predictor.predict`: a face that is found in one copy alone moves the interval.

    Args:
        predictor: A `Predictor` or a `Detector`.
        image: Anything that `Predictor.predict` takes.
        faces: See `FaceChoice`.
        threshold: See `Predictor.predict`.

    Returns:
        The scores, their interval, and the verdict: ``"uncertain"`` where a delivery flips it. The original's score
        is that of `Predictor.predict`.

    Raises:
        ImageUnreadable: Not a picture.
        ImageTooLarge: More pixels than the limit.

    Example:
        >>> from deepfake_detect import Detector
        >>> found = measure_stability(Detector.from_pretrained("xception-fakefaces"), "examples/portrait.jpg")
        >>> list(found.scores)
        ['original', 'jpeg90', 'jpeg60', 'jpeg40', 'half', 'webp', 'crop', 'screenshot']
        >>> found.labels["original"]
        'real'
    """
    said = {ORIGINAL: predictor.predict(image, faces=faces, threshold=threshold)}
    first = said[ORIGINAL]
    picture = open_image(first.source)
    changes = {name: change for name, change in STABILITY.items() if name != ORIGINAL}
    arrivals = [_Arrival(f"{first.name} as {name}", picture.pixels, change) for name, change in changes.items()]
    after = predictor.predict_many(arrivals, on_error="yield", faces=faces, threshold=threshold)
    said |= dict(zip(changes, after, strict=True))
    for prediction in said.values():
        if prediction.error is not None:
            logger.warning("%s is left out: %s", prediction.name, prediction.error)
    return Stability(
        name=first.name,
        threshold=first.threshold,
        scores={name: prediction.score for name, prediction in said.items()},
        logits={name: prediction.logit for name, prediction in said.items()},
        labels={name: prediction.label for name, prediction in said.items()},
        faces={name: len(prediction.faces) for name, prediction in said.items()},
        model=first.model,
        revision=first.revision,
        boxes={name: _box(prediction) for name, prediction in said.items()},
        source=first.source,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Arrival:
    """A picture as it arrives, delivered in the threads that look for faces."""

    name: str
    pixels: np.ndarray = field(repr=False)
    change: Delivery

    def open_picture(self) -> Picture:
        arrived = np.ascontiguousarray(self.change(self.pixels))
        return Picture(pixels=arrived, size_hw=arrived.shape[:2], name=self.name)


def _box(prediction: Prediction) -> _Box | None:
    return None if prediction.worst is None else prediction.worst.box_xyxy


def _is_flip(before: str, after: str) -> bool:
    if "error" in (before, after):
        return False
    return {before, after} == {"real", "fake"} or (before == "no-face") != (after == "no-face")


def _ruler(result: Stability, width: int) -> Image.Image:
    """Draw the scores from 0 to 1: a line in the colours of the two verdicts, the interval, and a dot for each."""
    strip = Image.new("RGB", (width, _RULER_PX), "white")
    draw, level, font = ImageDraw.Draw(strip), _RULER_PX // 2, ImageFont.load_default(15)

    def across(score: float) -> float:
        return _EDGE_PX + score * (width - 2 * _EDGE_PX)

    middle = across(result.threshold)
    draw.line((across(0), level, middle, level), fill=COLOURS["real"], width=3)
    draw.line((middle, level, across(1), level), fill=COLOURS["fake"], width=3)
    draw.line((middle, level - 18, middle, level + 18), fill=_SOFT, width=2)
    draw.text((middle, level - 30), f"threshold {result.threshold:.2f}", fill=_SOFT, font=font, anchor="mm")
    for end, text in ((0.0, "0 real"), (1.0, "1 fake")):
        draw.text((across(end), level + 30), text, fill=_SOFT, font=font, anchor="mm")
    if result.interval is not None:
        low, high = (across(score) for score in result.interval)
        draw.rectangle((low, level - 5, high, level + 5), fill=(200, 200, 200))
    for name, score in [*result.scores.items()][::-1]:  # the original lies on top
        if score is not None:
            dot = 11 if name == ORIGINAL else 7
            colour = COLOURS.get(result.labels[name], COLOURS["uncertain"])
            draw.circle((across(score), level), dot, fill=colour, outline=_INK, width=2)
    return strip
