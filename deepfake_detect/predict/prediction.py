"""Results of scoring pictures: the verdict on one picture, and a list of verdicts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from PIL import Image

from deepfake_detect._options import check_number
from deepfake_detect.drawing.annotate import COLOURS, draw_banner, draw_faces
from deepfake_detect.drawing.result import DrawnResult, Frame, make_frame, short_name, show_picture
from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable
from deepfake_detect.faces.crop import crop_square
from deepfake_detect.faces.face import Face, worst_face
from deepfake_detect.inputs.image import ImageInput, Picture, open_image
from deepfake_detect.predict.case_file import write_case
from deepfake_detect.predict.evidence import record_evidence
from deepfake_detect.predict.intake import Fingerprint, is_held, open_again
from deepfake_detect.weights.card import Card

if TYPE_CHECKING:
    import numpy as np

    from deepfake_detect.predict.content import Content

Label = Literal["real", "fake", "uncertain", "no-face", "no-detector", "error"]
"""The verdict on a picture; ``"no-detector"`` for a face that a `ContentRouter` has no detector for."""

_UNFIXED = (
    "since a file of more than 256 MB, or a picture that is decoded anew each time, may change; "
    "predict its pixels: detector.predict(open_image(picture).pixels)"
)

MARGIN = 1.3
"""Side of a saved face crop, as a multiple of the longer side of the face box: that of the packaged weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a picture was scored: what is needed to score it again in the same way.

    Attributes:
        card: Of the weights.
        faces: The choice of faces that was made.
        threshold: Given by the caller in place of the card's; None where the card decided.
    """

    card: Card
    faces: str
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Prediction(DrawnResult):
    """The verdict on one picture.

    Attributes:
        name: Path or URL of the picture, or a word such as ``"<array>"``.
        label: ``"real"``, ``"fake"``, ``"uncertain"``, ``"no-face"``; ``"error"`` where it could not be scored;
            ``"no-detector"`` for a face that a `ContentRouter` has no detector for.
        score: Calibrated probability that the picture is fake, 0..1: the highest of its faces; None without a face.
        logit: Output of the model for that face; positive means fake.
        threshold: Score at and above which the label is ``"fake"``.
        faces: Largest first.
        size_hw: Height and width of the upright picture in pixels; None where it could not be read.
        model: Name and version of the weights, such as ``"xception-fakefaces@1"``.
        revision: Their commit on the Hub; None for packaged or local weights.
        seconds: Time that the picture took.
        backend: What ran the model: ``"torch"``; ``"torch-packed"``, torch with a network packed for speed; or
            ``"openvino"``.
        dtype: Number format of the computation: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        error: Why the picture could not be scored, with ``on_error="yield"``.
        content: What the picture shows, where that was asked for; in `to_dict` only then.
        source: The picture as it was taken over from the caller, so that `plot` can open it again; not in `to_dict`.
        settings: How it was scored; not in `to_dict`. None for a prediction that was put together by hand.
        fingerprint: Size and sha256 of the file as it was decoded, where ``source`` is a path or an address; not in
            `to_dict`. What opens the picture again refuses a file that has other bytes by then.

    Example:
        >>> Prediction(name="cat.jpg", label="no-face", size_hw=(48, 64), model="meso4-fakefaces@1", threshold=0.5,
        ...            seconds=0.01)
        Prediction(no-face, no score, 0 faces, meso4-fakefaces@1, cat.jpg)
    """

    name: str
    label: Label
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
    content: Content | None = None
    source: ImageInput | None = field(default=None, repr=False)
    settings: Settings | None = field(default=None, repr=False)
    fingerprint: Fingerprint | None = field(default=None, repr=False)

    _notebook_px: ClassVar[tuple[int, int]] = (640, 640)
    _notebook_format: ClassVar[str] = "JPEG"

    @property
    def worst(self) -> Face | None:
        """Return the face with the highest score, which decides the verdict; None without a face."""
        return worst_face(self.faces)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values; the picture itself is not among them."""
        error = self.error and {"type": type(self.error).__name__, "message": str(self.error)}
        content = {} if self.content is None else {"content": self.content.to_dict()}
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
            **content,
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row for a table: as `to_dict`, with the number of faces and the message of an error."""
        height, width = self.size_hw or (None, None)
        row = {**self.to_dict(), "faces": len(self.faces), "height": height, "width": width}
        del row["size_hw"]
        return [{**row, "error": None if self.error is None else str(self.error)}]

    def plot(self) -> Image.Image:
        """Draw every face with its label and score, orange for fake, blue for real, grey for uncertain.

        The picture is opened once more. One whose longer side is below 480 pixels is enlarged, so that
        the letters can be read.

        Returns:
            RGB picture; with the words "no face found" where there is none.

        Raises:
            DeepfakeDetectError: The picture could not be scored, or cannot be opened any more.
        """
        pixels = self._pixels("plot")
        if not self.faces:
            return draw_banner(pixels, text="no face found")
        return draw_faces(
            pixels,
            boxes=[face.box_xyxy for face in self.faces],
            captions=[_caption(face) for face in self.faces],
            colours=[COLOURS.get(face.label or "", COLOURS["uncertain"]) for face in self.faces],
        )

    def to_case(
        self, *, stability: Mapping[str, Any] | None = None, metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the verdict with everything that somebody else needs to check it again.

        That is the sha256 of the picture that was scored, the card and sha256 of the weights, the settings, and the
        versions of the libraries. `deepfake_detect.verify` reads it. A file is opened once more for its metadata, and
        must still be the one that was scored.

        Args:
            stability: `Stability.to_dict` of the picture, to be handed on with it.
            metadata: `MetadataFindings.to_dict` of the picture; a file is inspected here where None.

        Returns:
            Plain JSON values, as ``docs/case.schema.json`` describes them.

        Raises:
            DeepfakeDetectError: The picture could not be scored, cannot be opened any more, or is another file by now.
            InvalidOption: The stability or the metadata are those of another picture.
        """
        if self.error is not None:
            raise self.error
        if self.source is None or self.settings is None:
            lacks = "no picture" if self.source is None else "no weights, since no detector scored it"
            raise ImageUnreadable(f"{self.name}: this prediction holds {lacks}; predict it again to record it")
        if self.fingerprint is None and not is_held(self.source):
            raise ImageUnreadable(f"{self.name}: nothing tells what was scored, {_UNFIXED}")
        return record_evidence(
            self.reopen(),
            self.to_dict(),
            card=self.settings.card,
            faces=self.settings.faces,
            threshold=self.settings.threshold,
            stability=stability,
            metadata=metadata,
        )

    def reopen(self) -> Any:
        """Return what `open_image` opens once more: a file must still have the bytes that were scored.

        Raises:
            DeepfakeDetectError: The picture could not be scored, cannot be opened any more, or is another file by now.
        """
        if self.error is not None:
            raise self.error
        return open_again(self.source, name=self.name, fingerprint=self.fingerprint)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the verdict as a case that can be checked again, or its `plot` as a picture.

        Args:
            path: Ends in .json, for `to_case`; or in .png, .jpg, .jpeg or .webp, for `plot`.

        Raises:
            InvalidOption: Any other ending, or the file cannot be written.
            DeepfakeDetectError: As for `to_case` or `plot`. ``to_json()`` gives the verdict alone, whatever it is.
        """
        if Path(path).suffix.lower() == ".json":
            write_case(self.to_case(), path)
        else:
            super(Prediction, self).save(path)  # slots=True makes a new class, which bare super() does not know

    def save_crops(self, folder: str | os.PathLike[str], *, margin: float = MARGIN) -> list[Path]:
        """Write each face as a PNG picture, at the resolution of the original.

        The picture is opened once more.

        Args:
            folder: Made where it is missing. The files are called ``portrait-1-fake-0.973.png``: name of the picture,
                number of the face (largest first), label and score.
            margin: Side of the square as a multiple of the longer side of the face box.

        Returns:
            Paths of the files, one for each face.

        Raises:
            InvalidOption: The margin is not above 0.
            DeepfakeDetectError: The picture could not be scored, or cannot be opened any more.
        """
        return self._write_crops(Path(os.path.expanduser(folder)), margin=margin)

    def __repr__(self) -> str:
        count = f"{len(self.faces)} face{'' if len(self.faces) == 1 else 's'}"
        return f"Prediction({self._verdict()}, {count}, {self.model}, {short_name(self.name)})"

    def _verdict(self) -> str:
        if self.error is not None:
            return f"error, {type(self.error).__name__}: {' '.join(str(self.error).split())}"
        return f"{self.label}, {'no score' if self.score is None else f'score {self.score:.3f}'}"

    def _pixels(self, purpose: str) -> np.ndarray:
        if self.error is not None:
            raise self.error
        if self.source is None:
            raise ImageUnreadable(f"{self.name}: this prediction holds no picture; predict it again to {purpose} it")
        return open_image(self.reopen()).pixels

    def _write_crops(self, folder: Path, *, margin: float, prefix: str = "") -> list[Path]:
        check_number("margin", margin, above=0)
        pixels = self._pixels("crop")
        folder.mkdir(parents=True, exist_ok=True)
        stem, paths = re.sub(r"[^\w.-]+", "_", Path(short_name(self.name)).stem).strip("_") or "picture", []
        for number, face in enumerate(self.faces, start=1):
            is_whole = not len(face.landmarks_xy)
            box = face.box_xyxy if is_whole else crop_square(face.box_xyxy, margin=margin, size_hw=pixels.shape[:2])
            verdict = _caption(face).replace(" ", "-")
            left, top, right, bottom = (round(side) for side in box)
            paths.append(folder / f"{prefix}{stem}-{number}-{verdict}.png")
            Image.fromarray(pixels[top:bottom, left:right]).save(paths[-1])
        return paths


class Predictions(list[Prediction]):
    """A list of predictions, in the order of the pictures, that can be drawn, saved as crops and put into a table.

    Example:
        >>> from deepfake_detect import Detector
        >>> detector = Detector.from_pretrained("xception-fakefaces")
        >>> Predictions(detector.predict_many(["examples/portrait.jpg"])).to_rows()[0]["label"]
        'real'
    """

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each picture, as `Prediction.to_rows`."""
        return [row for prediction in self for row in prediction.to_rows()]

    def to_frame(self) -> Frame:
        """Return `to_rows` as a pandas DataFrame.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return make_frame(self.to_rows())

    def plot(self, *, columns: int = 6) -> Image.Image:
        """Draw the face with the highest score of each picture, with its label and score, side by side.

        The pictures are opened once more; one that could not be scored, or cannot be opened, is an empty tile.

        Args:
            columns: Pictures in a row.

        Returns:
            RGB picture.
        """
        from deepfake_detect.drawing.gallery import draw_gallery

        check_number("columns", columns, low=1, whole=True)
        title = f"{len(self)} picture{'' if len(self) == 1 else 's'}"
        return draw_gallery([(title, [_tile(prediction) for prediction in self])], columns=columns)

    def show(self) -> None:
        """Show the `plot`: below the cell of a notebook, else in the picture viewer of the system."""
        show_picture(self.plot())

    def save_crops(self, folder: str | os.PathLike[str], *, margin: float = MARGIN) -> list[Path]:
        """Write each face of each picture, as `Prediction.save_crops`, the number of the picture in front.

        Pictures that could not be scored are left out.

        Args:
            folder: Made where it is missing.
            margin: Side of the square as a multiple of the longer side of the face box.

        Returns:
            Paths of the files.
        """
        check_number("margin", margin, above=0)
        target, paths = Path(os.path.expanduser(folder)), []
        for number, prediction in enumerate(self, start=1):
            if prediction.error is None:
                paths += prediction._write_crops(target, margin=margin, prefix=f"{number:04d}-")
        return paths


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _caption(face: Face) -> str:
    label = face.label or "face"
    return label if face.score is None else f"{label} {face.score:.3f}"


@dataclass(frozen=True, slots=True, eq=False)
class _Reopened:
    """The picture of a prediction, opened when it is drawn."""

    prediction: Prediction

    @property
    def name(self) -> str:
        return self.prediction.name

    def open_picture(self) -> Picture:
        return open_image(self.prediction.reopen())


def _tile(prediction: Prediction) -> Any:
    from deepfake_detect.drawing.gallery import Tile

    face = prediction.worst
    return Tile(
        image=None if prediction.source is None else _Reopened(prediction),
        box_xyxy=face.box_xyxy if face and len(face.landmarks_xy) else None,
        caption=_caption(face) if face else prediction.label,
        colour=COLOURS.get(prediction.label, COLOURS["uncertain"]),
        note=short_name(prediction.name),
    )
