"""What does a caller get back?"""

from __future__ import annotations

import base64
import html
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from deepfake_detect.drawing.annotate import COLOURS, draw_banner, draw_faces
from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable
from deepfake_detect.faces.face import Face
from deepfake_detect.inputs.image import ImageInput, open_image

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_NOTEBOOK_PX = 640


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Prediction:
    """The verdict on one picture.

    Attributes:
        name: Path or URL of the picture, or a word such as ``"<array>"``.
        label: ``"real"``, ``"fake"``, ``"uncertain"``, ``"no-face"``; ``"error"`` where it could not be scored.
        score: Calibrated probability that the picture is fake, 0..1: the highest of its faces; None without a face.
        logit: What the model said of that face; positive means fake.
        threshold: Score at and above which the label is ``"fake"``.
        faces: Largest first.
        size_hw: Height and width of the upright picture in pixels; None where it could not be read.
        model: The weights that said it, such as ``"xception-fakefaces@1"``.
        revision: Their commit on the Hub; None for packaged or local weights.
        seconds: Time that the picture took.
        backend: What ran the model: ``"torch"``, or ``"torch-packed"``, its faster twin on a processor.
        dtype: What it computed in: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        error: Why it could not be scored, where errors were asked to be handed out.
        source: What the caller gave, so that `plot` can open it again; never part of `to_dict`.

    Example:
        >>> Prediction(name="cat.jpg", label="no-face", size_hw=(48, 64), model="meso4-fakefaces@1", threshold=0.5,
        ...            seconds=0.01)
        Prediction(no-face, no score, 0 faces, meso4-fakefaces@1, cat.jpg)
    """

    name: str
    label: str
    score: float | None = None
    logit: float | None = None
    threshold: float
    faces: tuple[Face, ...] = ()
    size_hw: tuple[int, int] | None
    model: str
    revision: str | None = None
    seconds: float
    backend: str = "torch"
    dtype: str = "float32"
    error: DeepfakeDetectError | None = None
    source: ImageInput | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Give the verdict as plain JSON values; the picture itself is not among them."""
        error = self.error and {"type": type(self.error).__name__, "message": str(self.error)}
        return {
            "name": self.name,
            "label": self.label,
            "score": _number(self.score),
            "logit": _number(self.logit),
            "threshold": float(self.threshold),
            "faces": [face.to_dict() for face in self.faces],
            "size_hw": None if self.size_hw is None else [int(side) for side in self.size_hw],
            "model": self.model,
            "revision": self.revision,
            "seconds": float(self.seconds),
            "backend": self.backend,
            "dtype": self.dtype,
            "error": error,
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON text, on one line unless an indent is given."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def plot(self) -> Image.Image:
        """Draw every face with its label and score, orange for fake, blue for real, grey for uncertain.

        The picture is opened once more. One whose longer side is below 480 pixels is enlarged, so that
        the letters can be read.

        Returns:
            RGB picture; with the words "no face found" where there is none.

        Raises:
            DeepfakeDetectError: The error of a picture that could not be scored; or the picture is gone.
        """
        if self.error is not None:
            raise self.error
        if self.source is None:
            raise ImageUnreadable(f"{self.name}: this prediction holds no picture; predict it again to plot it")
        pixels = open_image(self.source).pixels
        if not self.faces:
            return draw_banner(pixels, text="no face found")
        return draw_faces(
            pixels,
            boxes=[face.box_xyxy for face in self.faces],
            captions=[_caption(face) for face in self.faces],
            colours=[COLOURS.get(face.label or "", COLOURS["uncertain"]) for face in self.faces],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the verdict as JSON, or its `plot` as a picture.

        Args:
            path: Ends in .json, or in .png, .jpg, .jpeg or .webp.

        Raises:
            ValueError: Any other ending.
        """
        write_result(self, Path(path))

    def __repr__(self) -> str:
        count = f"{len(self.faces)} face{'' if len(self.faces) == 1 else 's'}"
        return f"Prediction({self._said()}, {count}, {self.model}, {self._short_name()})"

    def _repr_html_(self) -> str:
        text = html.escape(repr(self)[len("Prediction(") : -1])
        try:
            picture = base64.b64encode(self._thumbnail("JPEG")).decode()
        except DeepfakeDetectError:  # the words are still worth showing
            return f"<p>{text}</p>"
        return f'<figure><img src="data:image/jpeg;base64,{picture}"><figcaption>{text}</figcaption></figure>'

    def _repr_png_(self) -> bytes | None:
        try:
            return self._thumbnail("PNG")
        except DeepfakeDetectError:
            return None

    def _said(self) -> str:
        if self.error is not None:
            return f"error, {type(self.error).__name__}: {' '.join(str(self.error).split())}"
        return f"{self.label}, {'no score' if self.score is None else f'score {self.score:.3f}'}"

    def _short_name(self) -> str:
        return self.name.replace("\\", "/").rstrip("/").rpartition("/")[2] or self.name

    def _thumbnail(self, format_name: str) -> bytes:
        image, file = self.plot(), io.BytesIO()
        image.thumbnail((_NOTEBOOK_PX, _NOTEBOOK_PX))
        image.save(file, format_name)
        return file.getvalue()


class Drawn(Protocol):
    """A result that can be written as JSON and drawn as a picture."""

    def to_json(self, *, indent: int | None = None) -> str:
        """Give it as JSON text."""

    def plot(self) -> Image.Image:
        """Draw it."""


def write_result(result: Drawn, target: Path) -> None:
    """Write a result as JSON, or its plot as a picture, by the ending of the file.

    Raises:
        ValueError: The file ends neither in .json nor as a picture.
    """
    suffix = target.suffix.lower()
    if suffix == ".json":
        target.write_text(result.to_json(indent=2) + "\n", encoding="utf-8")
    elif suffix in _PICTURE_SUFFIXES:
        result.plot().save(target, quality=92)
    else:
        raise ValueError(f"{target}: ends in {suffix!r}, expected .json or one of {', '.join(_PICTURE_SUFFIXES)}")


def notebook_html(result: Drawn, *, side_px: int) -> str:
    """Show a result in a notebook: its plot above its words, or the words alone where it cannot be drawn.

    Args:
        result: Its ``repr`` has the words in brackets.
        side_px: Most pixels along a side of the plot.
    """
    text, file = html.escape(repr(result).partition("(")[2].removesuffix(")")), io.BytesIO()
    try:
        image = result.plot()
    except DeepfakeDetectError:  # the words are still worth showing
        return f"<p>{text}</p>"
    image.thumbnail((side_px, side_px))
    image.save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    return f'<figure><img src="data:image/png;base64,{picture}"><figcaption>{text}</figcaption></figure>'


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _caption(face: Face) -> str:
    label = face.label or "face"
    return label if face.score is None else f"{label} {face.score:.3f}"
