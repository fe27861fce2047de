"""What of a picture does the model see, and what does its logit mean?"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from deepfake_detect.errors import nearest
from deepfake_detect.faces.crop import crop_face, crop_square, whole_picture
from deepfake_detect.faces.face import Face
from deepfake_detect.faces.finder import SIDES_PX, FaceFinder
from deepfake_detect.inputs.image import Picture, name_image, open_image
from deepfake_detect.inputs.source import open_bytes
from deepfake_detect.weights.card import Preprocessing

FaceChoice = Literal["auto", "all", "largest", "none"]
"""Which faces are scored: every one, looking once more with a border where none is found
(``"auto"``); every one found without that (``"all"``); the largest alone, looked for as in
``"auto"`` (``"largest"``); or no search at all and the picture as it is (``"none"``)."""

OVERSAMPLING = 2
"""A crop out of a JPEG decoded at a reduced scale has at least this many times the model's pixels
along its side; where it would have fewer, the picture is decoded at full size for the crop."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """What is taken out of one picture for the model.

    Attributes:
        name: Of the picture, for messages.
        source: What the caller gave, so that it can be opened again; bytes where that was a file object.
        size_hw: Height and width of the upright original.
        faces: Largest first, boxes in pixels of the upright original, without scores.
        crops: One [size_px, size_px, 3] uint8 RGB for each face.
    """

    name: str
    source: Any
    size_hw: tuple[int, int]
    faces: tuple[Face, ...]
    crops: tuple[np.ndarray, ...]


def check_choice(faces: str, *, threshold: float | None = None) -> None:
    """Refuse a choice of faces or a threshold that does not exist.

    Raises:
        ValueError: ``faces`` is none of `FaceChoice`, or ``threshold`` lies outside 0..1.
    """
    choices = get_args(FaceChoice)
    if faces not in choices:
        raise ValueError(f"faces is {faces!r}, expected one of {', '.join(choices)}{nearest(str(faces), choices)}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}, expected a score within 0..1")


def look_at(image: Any, *, preprocessing: Preprocessing, finder: FaceFinder | None, faces: FaceChoice = "auto") -> Look:
    """Open a picture, find its faces and cut out what the model will see.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 as long as that loses nothing: its shorter side keeps as
    many pixels as the face finder's closest look, and every crop at least `OVERSAMPLING` times the
    pixels of the model's input along its side. Boxes are those of the original all the same.

    Args:
        image: Anything that `open_image` takes.
        preprocessing: From the card.
        finder: Not used, and may be None, for ``faces="none"``.
        faces: See `FaceChoice`. With ``"none"`` there is one face: its box is the whole picture, it
            has no landmarks ([0, 2]), and its confidence is 1, since nobody asked.

    Returns:
        The faces with a crop each.

    Raises:
        ImageUnreadable: Not a picture.
        ImageTooLarge: More pixels than the limit.
    """
    name = name_image(image)
    image, source = _twice_readable(image, name)
    if faces == "none" or finder is None:
        size_px = preprocessing.size_px
        picture = open_image(image, min_side_px=OVERSAMPLING * size_px)
        crop = whole_picture(picture.pixels, size_px=size_px, interpolation=preprocessing.interpolation)
        faces_found = (_whole(picture.size_hw),)
        return Look(name=name, source=source, size_hw=picture.size_hw, faces=faces_found, crops=(crop,))
    picture = open_image(image, min_side_px=SIDES_PX[-1])
    found = finder.find(picture.pixels, border=faces != "all")[: 1 if faces == "largest" else None]
    found = [_in_original(face, picture) for face in found]
    needed = _needed_side_px(found, picture, preprocessing)
    if picture.scale < 1 and min(picture.pixels.shape[:2]) < needed:
        picture = open_image(image, min_side_px=needed)
    crops = tuple(_crop(face, picture, preprocessing) for face in found)
    return Look(name=name, source=source, size_hw=picture.size_hw, faces=tuple(found), crops=crops)


def _twice_readable(image: Any, name: str) -> tuple[Any, Any]:
    """Give what can be opened again at another scale, and what can be opened again at any time."""
    is_file = callable(getattr(image, "read", None))
    is_address = isinstance(image, str | os.PathLike) and not os.path.isfile(image)  # a URL, a pipe, nothing at all
    if not (is_file or is_address):
        return image, image
    with open_bytes(image, name=name) as file:
        content = file.read()
    held = io.BytesIO(content)
    held.name = name
    return held, content if is_file else image


def _whole(size_hw: tuple[int, int]) -> Face:
    height, width = size_hw
    box = (0.0, 0.0, float(width), float(height))
    return Face(box_xyxy=box, landmarks_xy=np.zeros((0, 2), np.float32), confidence=1.0)


def _in_original(face: Face, picture: Picture) -> Face:
    """Move a face from the pixels at hand to those of the original."""
    if picture.scale == 1:
        return face
    scale_xy = _scale_xy(picture)
    x1, y1, x2, y2 = (float(value) for value in np.array(face.box_xyxy) / np.tile(scale_xy, 2))
    return replace(face, box_xyxy=(x1, y1, x2, y2), landmarks_xy=(face.landmarks_xy / scale_xy).astype(np.float32))


def _scale_xy(picture: Picture) -> np.ndarray:
    (height, width), (full_height, full_width) = picture.pixels.shape[:2], picture.size_hw
    return np.array([width / full_width, height / full_height])


def _needed_side_px(faces: Sequence[Face], picture: Picture, preprocessing: Preprocessing) -> int:
    """Tell how many pixels the shorter side needs for the smallest crop to have enough."""
    squares = (crop_square(face.box_xyxy, margin=preprocessing.margin, size_hw=picture.size_hw) for face in faces)
    smallest = min((right - left for left, _, right, _ in squares), default=math.inf)
    return math.ceil(OVERSAMPLING * preprocessing.size_px * min(picture.size_hw) / smallest)


def _crop(face: Face, picture: Picture, preprocessing: Preprocessing) -> np.ndarray:
    x1, y1, x2, y2 = (float(value) for value in np.array(face.box_xyxy) * np.tile(_scale_xy(picture), 2))
    return crop_face(
        picture.pixels,
        (x1, y1, x2, y2),
        margin=preprocessing.margin,
        size_px=preprocessing.size_px,
        interpolation=preprocessing.interpolation,
    )
