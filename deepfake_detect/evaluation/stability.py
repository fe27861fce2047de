"""Measure whether a verdict survives recompression, resizing, cropping and a screenshot."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.gallery import Tile, draw_gallery
from deepfake_detect.drawing.result import DrawnResult, short_name
from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.faces.face import Box, Face, overlap
from deepfake_detect.inputs.delivery import STABILITY, Delivery, crop_picture
from deepfake_detect.inputs.image import ImageInput, Picture, open_image
from deepfake_detect.predict.look import FaceChoice, view_of
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.verdict import judge_face

logger = logging.getLogger("deepfake_detect")

ORIGINAL: Final = "original"
"""The delivery that changes nothing; the first of `STABILITY`."""

SAME_FACE: Final = 0.3
"""A face of the delivered picture is the one followed if its box overlaps the expected one by this share or more."""

_RULER_PX, _EDGE_PX = 96, 56
_INK, _SOFT = (26, 26, 26), (110, 110, 110)
_Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Stability(DrawnResult):
    """The verdict on one face of a picture as given, and after each delivery.

    Attributes:
        name: Path or URL of the picture, or a word such as ``"<array>"``.
        threshold: Score at and above which a label is ``"fake"``.
        scores: Delivery to the probability of fake, in the order of `STABILITY`; None without a face, and where the
            picture could not be delivered so.
        logits: The same before calibration.
        labels: Delivery to ``"real"``, ``"fake"``, ``"uncertain"``, ``"no-face"``; ``"error"`` where the picture could
            not be delivered so: a side is too long for the format, or the face is cut off.
        faces: Delivery to the number of faces that were found in it.
        lost: Deliveries in which the face was not found any more; it was cut out where it must be.
        model: The weights, such as ``"xception-fakefaces@1"``.
        revision: Their commit on the Hub; None for packaged or local weights.
        boxes: Delivery to the box of the face that was scored, in pixels of the picture as delivered.
        source: The picture, to be opened again by `plot`; not in `to_dict`.
    """

    name: str
    threshold: float
    scores: Mapping[str, float | None]
    logits: Mapping[str, float | None]
    labels: _Labels
    faces: Mapping[str, int]
    lost: tuple[str, ...] = ()
    model: str
    revision: str | None = None
    boxes: Mapping[str, Box | None]
    source: ImageInput | None = None

    @property
    def score(self) -> float | None:
        """Return the score of the picture as given."""
        return self.scores[ORIGINAL]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the lowest and the highest score of all deliveries; None without a face in any."""
        scores = [score for score in self.scores.values() if score is not None]
        return (min(scores), max(scores)) if scores else None

    @property
    def flips(self) -> tuple[str, ...]:
        """Name the deliveries that turn real into fake, fake into real, or lose or gain the face."""
        original = self.labels[ORIGINAL]
        return tuple(name for name, label in self.labels.items() if _is_flip(original, label))

    @property
    def withdrawn(self) -> tuple[str, ...]:
        """Name the deliveries that turn real or fake into uncertain."""
        if self.labels[ORIGINAL] not in ("real", "fake"):
            return ()
        return tuple(name for name, label in self.labels.items() if label == "uncertain")

    @property
    def holds(self) -> bool:
        """Whether the picture as given is called real or fake, and no delivery flips or withdraws that."""
        return self.labels[ORIGINAL] in ("real", "fake") and not self.flips and not self.withdrawn

    @property
    def label(self) -> str:
        """Return the verdict if it holds under every delivery, else ``"uncertain"``; ``"no-face"`` without a face."""
        original = self.labels[ORIGINAL]
        return original if self.holds or original == "no-face" else "uncertain"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the boxes and the picture as plain JSON values."""
        return {
            "name": self.name,
            "label": self.label,
            "score": self.score,
            "interval": None if self.interval is None else list(self.interval),
            "holds": self.holds,
            "flips": list(self.flips),
            "withdrawn": list(self.withdrawn),
            "threshold": self.threshold,
            "scores": dict(self.scores),
            "logits": dict(self.logits),
            "labels": dict(self.labels),
            "faces": dict(self.faces),
            "lost": list(self.lost),
            "model": self.model,
            "revision": self.revision,
        }

    def plot(self) -> Image.Image:
        """Draw the face as each delivery shows it, with its verdict; below, every score on one ruler.

        The picture is opened and delivered once more.

        Returns:
            RGB picture.

        Raises:
            DeepfakeDetectError: The picture is gone.
        """
        if self.source is None:
            raise ImageUnreadable(f"{self.name}: this result holds no picture; measure its stability again to plot it")
        pixels = open_image(self.source).pixels
        shown = [name for name, label in self.labels.items() if label != "error"]
        faces = draw_gallery([(self._verdict(), [self._tile(name, pixels) for name in shown])], columns=len(shown))
        picture = Image.new("RGB", (faces.width, faces.height + _RULER_PX), "white")
        picture.paste(faces, (0, 0))
        picture.paste(_ruler(self, faces.width), (0, faces.height))
        return picture

    def __repr__(self) -> str:
        return f"Stability({self._verdict()}, {self.model}, {short_name(self.name)})"

    def _verdict(self) -> str:
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        spread = "" if self.interval is None else " [{:.3f}, {:.3f}]".format(*self.interval)
        flips = f", {self.labels[ORIGINAL]} flips under {', '.join(self.flips)}" if self.flips else ""
        withdrawn = (
            f", {self.labels[ORIGINAL]} is withdrawn under {', '.join(self.withdrawn)}" if self.withdrawn else ""
        )
        return f"{self.label}, {score}{spread}{flips}{withdrawn}"

    def _tile(self, name: str, pixels: np.ndarray) -> Tile:
        label, score, count = self.labels[name], self.scores[name], self.faces[name]
        remarks = ["flips"] * (name in self.flips) + ["withdrawn"] * (name in self.withdrawn)
        if name in self.lost:
            remarks.append("face not found")
        elif not remarks and count and count != self.faces[ORIGINAL]:
            remarks.append(f"{count} face{'' if count == 1 else 's'}")
        return Tile(
            image=STABILITY[name](pixels),
            box_xyxy=self.boxes[name],
            caption=label if score is None else f"{label} {score:.3f}",
            colour=COLOURS.get(label, COLOURS["uncertain"]),
            note=f"{name}: {', '.join(remarks)}" if remarks else name,
        )


def measure_stability(
    predictor: Predictor, image: ImageInput, *, faces: FaceChoice = "auto", threshold: float | None = None
) -> Stability:
    """Score a face as it is and as every delivery of `STABILITY` would leave it.

    A verdict that recompression or a smaller copy reverses or withdraws is not one to act on. The face with the highest
    score decides the verdict of `Predictor.predict`, and it alone is followed: in each delivered copy, faces are found
    anew, and the one where this face must be is scored. Where the finder misses it, the copy is cropped at its place.
    Other faces, also those that only a copy shows, count for nothing; crop them to measure their stability.

    Args:
        predictor: A `Predictor` or a `Detector`.
        image: Anything that `Predictor.predict` takes.
        faces: See `FaceChoice`.
        threshold: See `Predictor.predict`.

    Returns:
        The scores, their interval, and the verdict: ``"uncertain"`` where a delivery flips or withdraws it. The
        original's score is that of `Predictor.predict`.

    Raises:
        ImageUnreadable: Not a picture.
        ImageTooLarge: More pixels than the limit.
        InvalidOption: ``faces`` or ``threshold`` out of range.

    Example:
        >>> from deepfake_detect import Detector
        >>> detector = Detector.from_pretrained("xception-fakefaces")
        >>> stability = measure_stability(detector, "examples/portrait.jpg")
        >>> list(stability.scores)
        ['original', 'jpeg90', 'jpeg60', 'jpeg40', 'half', 'webp', 'crop', 'screenshot']
        >>> stability.labels["original"]
        'real'
    """
    first = predictor.predict(image, faces=faces, threshold=threshold)
    copies = _deliver(open_image(first.source).pixels, first)
    choice: FaceChoice = "auto" if faces == "largest" else faces  # the face may not be the largest of a copy
    predictions = predictor.predict_many(copies.values(), on_error="yield", faces=choice, threshold=threshold)
    verdicts = {ORIGINAL: _verdict_on(first.worst, first)}
    for (name, copy), prediction in zip(copies.items(), predictions, strict=True):
        verdicts[name] = _follow(predictor, copy, prediction, threshold)
    for verdict in verdicts.values():
        if verdict.error:
            logger.warning("%s", verdict.error)
    return Stability(
        name=first.name,
        threshold=first.threshold,
        scores={name: verdict.face.score if verdict.face else None for name, verdict in verdicts.items()},
        logits={name: verdict.face.logit if verdict.face else None for name, verdict in verdicts.items()},
        labels={name: verdict.label for name, verdict in verdicts.items()},
        faces={name: verdict.count for name, verdict in verdicts.items()},
        lost=tuple(name for name, verdict in verdicts.items() if verdict.lost),
        model=first.model,
        revision=first.revision,
        boxes={name: verdict.face.box_xyxy if verdict.face else None for name, verdict in verdicts.items()},
        source=first.source,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Copy:
    """A picture as it is delivered, in the threads that look for faces."""

    name: str
    pixels: np.ndarray = field(repr=False)
    delivery: Delivery
    face: Face | None  # of the picture before, to be followed

    def open_picture(self) -> Picture:
        delivered = np.ascontiguousarray(self.delivery(self.pixels))
        return Picture(pixels=delivered, size_hw=delivered.shape[:2], name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Verdict:
    """The verdict on the face that is followed, in one copy."""

    label: str
    face: Face | None = None
    count: int = 0
    lost: bool = False
    error: str = ""


def _deliver(pixels: np.ndarray, first: Prediction) -> dict[str, _Copy]:
    changes = {name: delivery for name, delivery in STABILITY.items() if name != ORIGINAL}
    return {name: _Copy(f"{first.name} as {name}", pixels, change, first.worst) for name, change in changes.items()}


def _verdict_on(face: Face | None, prediction: Prediction) -> _Verdict:
    label = prediction.label if face is None else str(face.label)
    return _Verdict(label=label, face=face, count=len(prediction.faces))


def _follow(predictor: Predictor, copy: _Copy, prediction: Prediction, threshold: float | None) -> _Verdict:
    """Choose the face of a copy that is the one followed, or cut it out where it must be."""
    if prediction.error is not None:
        return _Verdict(label="error", error=f"{copy.name} is left out: {prediction.error}")
    if copy.face is None or not len(copy.face.landmarks_xy):  # none to follow, or the whole picture is scored
        return _verdict_on(prediction.worst, prediction)
    size_hw = prediction.size_hw or (0, 0)
    expected = _moved(copy.face.box_xyxy, copy.delivery, copy.pixels.shape[:2], size_hw)
    nearest = max(prediction.faces, key=lambda face: overlap(face.box_xyxy, expected), default=None)
    if nearest is not None and overlap(nearest.box_xyxy, expected) >= SAME_FACE:
        return _verdict_on(nearest, prediction)
    if _share_inside(expected, size_hw) < 0.5:
        return _Verdict(label="error", error=f"{copy.name} is left out: the face is cut off")
    face = _score_at(predictor, copy.open_picture().pixels, replace(copy.face, box_xyxy=expected), threshold)
    return replace(_verdict_on(face, prediction), lost=True)


def _moved(box: Box, delivery: Delivery, before_hw: Sequence[int], after_hw: Sequence[int]) -> Box:
    """Map a box into the delivered picture: the crop moves it, all others scale it."""
    across, down = (after / before for after, before in zip(after_hw[::-1], before_hw[::-1], strict=True))
    left = top = 0.0
    if delivery is crop_picture:
        across = down = 1.0
        top, left = (float((before - after) // 2) for after, before in zip(after_hw, before_hw, strict=True))
    x1, y1, x2, y2 = box
    return (x1 - left) * across, (y1 - top) * down, (x2 - left) * across, (y2 - top) * down


def _share_inside(box: Box, size_hw: Sequence[int]) -> float:
    width = min(box[2], size_hw[1]) - max(box[0], 0)
    height = min(box[3], size_hw[0]) - max(box[1], 0)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(0.0, width) * max(0.0, height) / area if area > 0 else 0.0


def _score_at(predictor: Predictor, pixels: np.ndarray, face: Face, threshold: float | None) -> Face:
    """Score a face that was not found, at its box."""
    card = predictor.card
    view = view_of(pixels, face.box_xyxy, preprocessing=card.preprocessing, texture=card.texture)
    (logits,) = predictor.read([view])
    return judge_face(face, logits, card=card, threshold=threshold)


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
