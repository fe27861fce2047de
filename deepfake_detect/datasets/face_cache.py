"""Find the faces of pictures once, and keep them on disk."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.faces.crop import crop_square
from deepfake_detect.faces.face import Face
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.inputs.frames import VideoFrame
from deepfake_detect.inputs.image import Picture, open_image
from deepfake_detect.system.atomic import whole_file
from deepfake_detect.system.folders import private_temporary_folder, user_cache_folder

logger = logging.getLogger("deepfake_detect")

LARGEST_PX = 1024
"""Shorter side, in pixels, to which a large JPEG may be reduced before its faces are stored."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """A face with enough around it for crops that are shifted and zoomed; or a whole picture.

    `crop_face` gives the same pixels from here as from the whole picture.

    Attributes:
        pixels: [H, W, 3] uint8 RGB, not scaled unless the picture is far larger than any model needs.
        box_xyxy: The face, in pixels of this cut-out.
        landmarks_xy: [5, 2], likewise; [0, 2] for a whole picture.
    """

    pixels: np.ndarray
    box_xyxy: tuple[float, float, float, float]
    landmarks_xy: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFace:
    """A reference to a stored face.

    Attributes:
        path: File with the faces of the picture.
        number: Number of the face, the largest first.
        name: Name of the picture.
        size_hw: Height and width of the picture, in pixels.
    """

    path: Path
    number: int
    name: str
    size_hw: tuple[int, int]

    def open_picture(self) -> Picture:
        """Return the face with its surroundings as a picture."""
        pixels = _read(self).pixels
        return Picture(pixels=pixels, size_hw=(pixels.shape[0], pixels.shape[1]), name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WholePicture:
    """A picture that is used whole, without a search for faces; decoded each time.

    Attributes:
        image: Anything that `open_image` takes.
        name: Name of the picture.
        key: Hash of its content.
    """

    image: Any
    name: str
    key: str

    def open_picture(self, *, min_side_px: int | None = None) -> Picture:
        """Read the pixels; arguments as for `open_image`."""
        return open_image(self.image, min_side_px=min_side_px)

    def surroundings(self, *, min_side_px: int | None = None) -> Surroundings:
        """Return the pixels, with the whole picture as the box; arguments as for `open_image`."""
        pixels = self.open_picture(min_side_px=min_side_px).pixels
        height, width = pixels.shape[:2]
        box = (0.0, 0.0, float(width), float(height))
        return Surroundings(pixels=pixels, box_xyxy=box, landmarks_xy=np.zeros((0, 2), np.float32))


class FaceStore:
    """The faces of pictures, found once and kept on disk by the hash of the picture's bytes and the settings.

    Safe for several processes at once: files are written to a temporary name and renamed.

    Args:
        folder: Created if missing; `default_folder` where None.
        finder: The face finder; the packaged one where None.
        reach: Side of the cut-out as a multiple of the longer side of the face box.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        finder: FaceFinder | None = None,
        reach: float = 1.8,
    ) -> None:
        self.finder, self.reach = finder or FaceFinder(), reach
        settings = f"2 {self.finder.fingerprint} {reach} {LARGEST_PX}"
        name = hashlib.sha256(settings.encode()).hexdigest()[:16]
        self.folder = _writable(default_folder() if folder is None else Path(folder).expanduser(), name)

    def find(
        self, sample: Sample, *, picture: Picture | None = None, whole: bool = False
    ) -> tuple[KeptFace, ...] | tuple[WholePicture]:
        """Return the faces of a picture, the largest first, and search for them if they are not stored yet.

        Args:
            sample: The picture.
            picture: Its pixels, where they are decoded already; otherwise opened if needed.
            whole: Search for no faces, and return the whole picture if it can be read.

        Raises:
            DeepfakeDetectError: The picture cannot be read.
        """
        if whole:
            return (_whole(sample, picture),)
        path = self._place(sample.image)
        if path is None:  # no file: the pixels themselves are the key
            picture = picture or sample.open_picture()
            path = self.folder / f"{hashlib.sha256(picture.pixels.tobytes()).hexdigest()[:32]}.npz"
        kept = _kept_faces(path, sample.name)
        if kept is None:
            picture = picture or sample.open_picture(min_side_px=LARGEST_PX)
            faces = self.finder.find(picture.pixels, border=True)
            _keep(path, picture.size_hw, [self._cut_out(face, picture.pixels) for face in faces])
            kept = _kept_faces(path, sample.name)
        return kept or ()

    def holds(self, sample: Sample, *, whole: bool = False) -> bool:
        """Return whether the faces of a picture are stored already."""
        path = self._place(sample.image)
        return not whole and path is not None and path.exists()

    def load(self, image: Any) -> Surroundings | None:
        """Return a stored face, the largest face of a picture, or a whole picture; None where there is no face."""
        if isinstance(image, KeptFace):
            return _read(image)
        if isinstance(image, WholePicture):
            return image.surroundings()
        faces = self.find(Sample(image=image, label=0))
        return _read(faces[0]) if faces and isinstance(faces[0], KeptFace) else None

    def _place(self, image: Any) -> Path | None:
        key = _content_key(image)
        return None if key is None else self.folder / f"{key}.npz"

    def _cut_out(self, face: Face, pixels: np.ndarray) -> Surroundings:
        size_hw = (pixels.shape[0], pixels.shape[1])
        x1, y1, x2, y2 = crop_square(face.box_xyxy, margin=self.reach, size_hw=size_hw)
        left, top = max(0, int(x1) - 4), max(0, int(y1) - 4)
        bx1, by1, bx2, by2 = face.box_xyxy
        return Surroundings(
            pixels=pixels[top : math.ceil(y2) + 4, left : math.ceil(x2) + 4],
            box_xyxy=(bx1 - left, by1 - top, bx2 - left, by2 - top),
            landmarks_xy=face.landmarks_xy - np.array([left, top], np.float32),
        )


def default_folder() -> Path:
    """Return where faces are stored: ``DEEPFAKE_DETECT_CACHE``, or ``deepfake-detect`` in the user's cache folder.

    A private temporary folder where the user has no home.
    """
    configured = os.environ.get("DEEPFAKE_DETECT_CACHE")
    return Path(configured).expanduser() if configured else user_cache_folder() / "faces"


def _writable(folder: Path, name: str) -> Path:
    """Create a folder for the faces; in a private temporary folder where the usual place cannot be written."""
    try:
        (folder / name).mkdir(parents=True, exist_ok=True)
        usable = os.access(folder / name, os.W_OK)
    except OSError:
        usable = False
    if usable:
        return folder / name
    instead = private_temporary_folder() / "faces"
    (instead / name).mkdir(parents=True, exist_ok=True)
    logger.warning(
        "%s cannot be written, so found faces are kept in %s; set DEEPFAKE_DETECT_CACHE to another folder",
        folder, instead,
    )  # fmt: skip
    return instead / name


def _whole(sample: Sample, picture: Picture | None) -> WholePicture:
    picture = picture or sample.open_picture(min_side_px=LARGEST_PX)
    key = _content_key(sample.image) or hashlib.sha256(picture.pixels.tobytes()).hexdigest()[:32]
    return WholePicture(image=sample.image, name=sample.name, key=key)


def _content_key(image: Any) -> str | None:
    """Return a hash of the file that a picture is in; None where it is in no file."""
    if isinstance(image, VideoFrame):
        return f"{_file_key(image.path)}-{image.index}" if image.path.is_file() else None
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()[:32]
    is_file = isinstance(image, str | os.PathLike) and os.path.isfile(image)
    return _file_key(Path(image)) if is_file else None


def _file_key(path: Path) -> str:
    state = path.stat()
    return _hashed(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=200_000)
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _keep(path: Path, size_hw: tuple[int, int], faces: Sequence[Surroundings]) -> None:
    arrays: dict[str, Any] = {"size_hw": np.array(size_hw), "count": np.array(len(faces))}
    for number, face in enumerate(faces):
        arrays |= {f"pixels{number}": face.pixels, f"box{number}": face.box_xyxy, f"points{number}": face.landmarks_xy}
    with whole_file(path, flush=False) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _kept_faces(path: Path, name: str) -> tuple[KeptFace, ...] | None:
    """Return the stored faces of a picture; None where nothing is stored, or the file is damaged or cut short."""
    try:
        with path.open("rb") as file, np.load(file) as stored:  # numpy leaves a damaged file open
            (height, width), count = (int(side) for side in stored["size_hw"]), int(stored["count"])
    except _NOT_KEPT:
        return None
    return tuple(KeptFace(path=path, number=n, name=name, size_hw=(height, width)) for n in range(count))


def _read(face: KeptFace) -> Surroundings:
    try:
        with face.path.open("rb") as file, np.load(file) as stored:
            pixels, box, points = (stored[f"{what}{face.number}"] for what in ("pixels", "box", "points"))
    except _NOT_KEPT as error:
        raise ImageUnreadable(
            f"{face.name}: its face in {face.path} is gone or damaged ({error}); delete that file and find crops again"
        ) from error
    x1, y1, x2, y2 = (float(value) for value in box)
    return Surroundings(pixels=pixels, box_xyxy=(x1, y1, x2, y2), landmarks_xy=points)


_NOT_KEPT = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)
