"""Does the verdict on a picture hold after the picture was delivered?"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image

from deepfake_detect.delivery import STABILITY, Arrival, Delivery
from deepfake_detect.draw import COLOURS
from deepfake_detect.fetch import open_bytes
from deepfake_detect.gallery import Tile, draw_gallery
from deepfake_detect.image import name_image, open_image
from deepfake_detect.predictor import Predictor
from deepfake_detect.results import Prediction
from deepfake_detect.scoring import FaceChoice

ORIGINAL: Final = "original"
"""The delivery that changes nothing."""

_VERDICTS = ("real", "fake", "no-face")
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Stability:
    """What a detector says of one picture, however that was delivered.

    Attributes:
        name: Path or URL of the picture, or a word such as ``"<array>"``.
        predictions: Way of delivery to the verdict on what arrived, ``"original"`` first.
    """

    name: str
    predictions: Mapping[str, Prediction] = field(repr=False)

    @property
    def scores(self) -> dict[str, float | None]:
        """Way of delivery to score; None where no face was found in what arrived."""
        return {name: said.score for name, said in self.predictions.items()}

    @property
    def labels(self) -> dict[str, str]:
        """Way of delivery to label."""
        return {name: said.label for name, said in self.predictions.items()}

    @property
    def score(self) -> float | None:
        """Score of the original."""
        return self.predictions[ORIGINAL].score

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest score; nan, nan where nothing was scored."""
        scores = [score for score in self.scores.values() if score is not None]
        return (min(scores), max(scores)) if scores else (math.nan, math.nan)

    @property
    def flips(self) -> tuple[str, ...]:
        """Ways of delivery that contradict the original.

        Of ``"real"``, ``"fake"`` and ``"no-face"`` they say another one; ``"uncertain"`` contradicts nothing.
        """
        first = self.predictions[ORIGINAL].label
        return tuple(
            name for name, label in self.labels.items() if first in _VERDICTS and label in _VERDICTS and label != first
        )

    @property
    def label(self) -> str:
        """The original's label, or ``"uncertain"`` where any delivery contradicts it."""
        return "uncertain" if self.flips else self.predictions[ORIGINAL].label

    @property
    def model(self) -> str:
        """The weights that said it, such as ``"xception-fakefaces@1"``."""
        return self.predictions[ORIGINAL].model

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain JSON values; the pictures are not among them."""
        interval = [None if math.isnan(end) else end for end in self.interval]
        return {
            "name": self.name,
            "label": self.label,
            "score": self.score,
            "interval": interval,
            "flips": list(self.flips),
            "scores": self.scores,
            "labels": self.labels,
            "threshold": float(self.predictions[ORIGINAL].threshold),
            "model": self.model,
            "revision": self.predictions[ORIGINAL].revision,
            "seconds": float(sum(said.seconds for said in self.predictions.values())),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON text, on one line unless an indent is given."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def plot(self) -> Image.Image:
        """Draw the face with the highest score as it arrived each time, with label and score below.

        The picture is opened and delivered once more; where no face was found all of it is shown.

        Returns:
            RGB picture, four tiles in a row.
        """
        tiles = [_tile(name, said, flipped=name in self.flips) for name, said in self.predictions.items()]
        return draw_gallery([(self._said(), tiles)], columns=4)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, or its `plot` as a picture.

        Args:
            path: Ends in .json, or in .png, .jpg, .jpeg or .webp.

        Raises:
            ValueError: Any other ending.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix == ".json":
            target.write_text(self.to_json(indent=2) + "\n", encoding="utf-8")
        elif suffix in _PICTURE_SUFFIXES:
            self.plot().save(target, quality=92)
        else:
            raise ValueError(f"{target}: ends in {suffix!r}, expected .json or one of {', '.join(_PICTURE_SUFFIXES)}")

    def __repr__(self) -> str:
        short = self.name.replace("\\", "/").rstrip("/").rpartition("/")[2] or self.name
        flips = f"flips under {', '.join(self.flips)}" if self.flips else "no flip"
        return f"Stability({self._said()}, {flips}, {self.model}, {short})"

    def _repr_html_(self) -> str:
        text = html.escape(repr(self)[len("Stability(") : -1])
        file = io.BytesIO()
        self.plot().save(file, "JPEG")
        picture = base64.b64encode(file.getvalue()).decode()
        return f'<figure><img src="data:image/jpeg;base64,{picture}"><figcaption>{text}</figcaption></figure>'

    def _said(self) -> str:
        if math.isnan(self.interval[0]):
            return f"{self.label}, no score"
        low, high = self.interval
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        return f"{self.label}, {score}, {low:.3f} to {high:.3f}"


def stability(
    predictor: Predictor,
    image: Any,
    *,
    faces: FaceChoice = "auto",
    threshold: float | None = None,
    deliveries: Mapping[str, Delivery] = STABILITY,
) -> Stability:
    """Score one picture as it is, and as it looks after each way of delivery.

    A verdict that a little compression turns over is a guess; it becomes ``"uncertain"``.

    Args:
        predictor: A `Predictor` or a `Detector`.
        image: Path, http(s) URL, data URI, bytes, file object, PIL image, RGB HWC uint8 array or CHW tensor.
        faces: See `FaceChoice`; each copy is searched anew.
        threshold: Score from which the label is ``"fake"``, in place of the card's.
        deliveries: Names to functions; ``"original"`` is the picture as `Predictor.predict` sees it, always there.

    Returns:
        Scores and labels by delivery, their interval, and the label that is left.

    Raises:
        ImageUnreadable: Not a picture; the message says what was found.
        ImageTooLarge: More pixels than the limit, or a side longer than JPEG or WebP can hold.

    Example:
        >>> from deepfake_detect import Detector
        >>> stability(Detector.from_pretrained("xception-fakefaces"), "examples/portrait_fake.jpg").labels["half"]
        'fake'
    """
    name = name_image(image)
    held = _held(image, name)
    picture = open_image(held)
    others = {way: Arrival(picture, name, change) for way, change in deliveries.items() if way != ORIGINAL}
    arrivals = {ORIGINAL: held, **others}
    said = predictor.predict_many(arrivals.values(), faces=faces, threshold=threshold)
    return Stability(name=name, predictions=dict(zip(arrivals, said, strict=True)))


def _held(image: Any, name: str) -> Any:
    """Give what can be opened again and again: a file is read, and a URL fetched, once."""
    if not (isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read")):
        return image
    with open_bytes(image, name=name) as file:
        content = io.BytesIO(file.read())
    content.name = name
    return content


def _tile(way: str, said: Prediction, *, flipped: bool) -> Tile:
    face = max(said.faces, key=lambda face: face.score or 0.0, default=None)
    caption = said.label if said.score is None else f"{said.label} {said.score:.3f}"
    return Tile(
        image=said.source,
        box_xyxy=face.box_xyxy if face else None,
        caption=caption,
        colour=COLOURS.get(said.label, COLOURS["uncertain"]),
        note=f"{way}: flips" if flipped else way,
    )
