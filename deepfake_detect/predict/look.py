"""Open a picture, find its faces and cut out what the model sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from deepfake_detect._options import check_choice, check_number
from deepfake_detect.faces.crop import crop_face, crop_square, whole_picture
from deepfake_detect.faces.face import Box, Face
from deepfake_detect.faces.finder import SIDES_PX, FaceFinder
from deepfake_detect.inputs.image import ImageInput, Picture, open_image
from deepfake_detect.predict.intake import Fingerprint, Taken, read_once, reading, take_over
from deepfake_detect.predict.patches import cut_patches, has_patches
from deepfake_detect.weights.card import Preprocessing
from deepfake_detect.weights.texture import TextureLook

FaceChoice = Literal["auto", "all", "largest", "none"]
"""Which faces are scored: every one, looking once more with a border where none is found
(``"auto"``); every one found without that (``"all"``); the largest alone, looked for as in
``"auto"`` (``"largest"``); or no search at all and the picture as it is (``"none"``)."""

OVERSAMPLING = 2
"""A crop out of a JPEG decoded at a reduced scale has at least this many times the model's pixels
along its side; where it would have fewer, the picture is decoded at full size for the crop."""


class View(NamedTuple):
    """What the networks see of one face.

    Attributes:
        crop: [size_px, size_px, 3] uint8 RGB.
        patches: [N, patch_px, patch_px, 3] uint8 RGB for the texture look; None where it is withheld or there is none.
    """

    crop: np.ndarray
    patches: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """What is taken out of one picture for the model.

    Attributes:
        name: Of the picture, for messages.
        source: The picture as it was taken over, so that it can be opened again; bytes where it was a file object.
        size_hw: Height and width of the upright original.
        faces: Largest first, boxes in pixels of the upright original, without scores.
        views: What the networks see of each face.
        choice: The choice of faces that was made.
        fingerprint: Of the bytes that were decoded, where ``source`` is a path or an address.
    """

    name: str
    source: Any
    size_hw: tuple[int, int]
    faces: tuple[Face, ...]
    views: tuple[View, ...]
    choice: FaceChoice = "auto"
    fingerprint: Fingerprint | None = None

    @property
    def crops(self) -> tuple[np.ndarray, ...]:
        """One [size_px, size_px, 3] uint8 RGB for each face."""
        return tuple(view.crop for view in self.views)


def check_faces(faces: Any, *, threshold: Any = None) -> None:
    """Refuse a choice of faces or a threshold that does not exist.

    Raises:
        InvalidOption: ``faces`` is none of `FaceChoice`, or ``threshold`` lies outside 0..1.
    """
    check_choice("faces", faces, get_args(FaceChoice))
    check_number("threshold", threshold, low=0, high=1, optional=True)


def look_at(
    image: ImageInput | Taken,
    *,
    preprocessing: Preprocessing,
    finder: FaceFinder | None,
    texture: TextureLook | None = None,
    faces: FaceChoice = "auto",
) -> Look:
    """Open a picture, find its faces and cut out what the model will see.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 as long as that loses nothing: its shorter side keeps as
    many pixels as the face finder's closest look, and every crop at least `OVERSAMPLING` times the
    pixels of the model's input along its side. Boxes are those of the original all the same. It is decoded in full
    where a face is large enough for the texture look, whose patches are never scaled.

    Args:
        image: Anything that `open_image` takes, or what `take_over` made of it.
        preprocessing: From the card.
        finder: Not used, and may be None, for ``faces="none"``.
        texture: From the card; None for a detector with one look.
        faces: See `FaceChoice`. With ``"none"`` there is one face: its box is the whole picture, it
            has no landmarks ([0, 2]), and its confidence is 1, since no finder was used.

    Returns:
        The faces, and what the networks see of each.

    Raises:
        ImageUnreadable: Not a picture.
        ImageTooLarge: More pixels than the limit.
    """
    taken = image if isinstance(image, Taken) else take_over(image)
    with reading(taken.name):
        opened, fingerprint = read_once(taken)
        if faces == "none" or finder is None:
            return replace(_look_at_all(opened, taken, preprocessing, texture), fingerprint=fingerprint)
        picture = open_image(opened, min_side_px=SIDES_PX[-1])
    faces_found = finder.find(picture.pixels, border=faces != "all")[: 1 if faces == "largest" else None]
    faces_found = [_in_original(face, picture) for face in faces_found]
    needed = _needed_side_px(faces_found, picture, preprocessing)
    if picture.scale < 1 and min(picture.pixels.shape[:2]) < needed:
        with reading(taken.name):
            picture = open_image(opened, min_side_px=needed)
    with reading(taken.name):
        patches = _all_patches(faces_found, picture, opened, texture)
    crops = [_crop(face, picture, preprocessing) for face in faces_found]
    return Look(
        name=taken.name,
        source=taken.source,
        size_hw=picture.size_hw,
        faces=tuple(faces_found),
        views=tuple(map(View, crops, patches)),
        choice=faces,
        fingerprint=fingerprint,
    )


def view_of(
    pixels: np.ndarray, box_xyxy: Box, *, preprocessing: Preprocessing, texture: TextureLook | None = None
) -> View:
    """Cut out what the networks see of a face whose box is known.

    Args:
        pixels: [H, W, 3] uint8 RGB, at the size of the original.
        box_xyxy: Left, top, right, bottom, in these pixels.
        preprocessing: From the card.
        texture: From the card.
    """
    crop = crop_face(
        pixels,
        box_xyxy,
        margin=preprocessing.margin,
        size_px=preprocessing.size_px,
        interpolation=preprocessing.interpolation,
    )
    return View(crop, None if texture is None else cut_patches(pixels, box_xyxy, look=texture))


def _look_at_all(opened: Any, taken: Taken, preprocessing: Preprocessing, texture: TextureLook | None) -> Look:
    """Take the whole picture for the face."""
    size_px = preprocessing.size_px
    picture = open_image(opened, min_side_px=OVERSAMPLING * size_px)
    crop = whole_picture(picture.pixels, size_px=size_px, interpolation=preprocessing.interpolation)
    face = _whole(picture.size_hw)
    (patches,) = _all_patches([face], picture, opened, texture)
    return Look(
        name=taken.name,
        source=taken.source,
        size_hw=picture.size_hw,
        faces=(face,),
        views=(View(crop, patches),),
        choice="none",
    )


def _all_patches(
    faces: Sequence[Face], picture: Picture, opened: Any, texture: TextureLook | None
) -> list[np.ndarray | None]:
    """Cut the patches of the faces out of the picture, decoded in full where one of them is large enough."""
    if texture is None or not any(has_patches(face.box_xyxy, picture.size_hw, look=texture) for face in faces):
        return [None] * len(faces)
    full = picture if picture.scale == 1 else open_image(opened)
    return [cut_patches(full.pixels, face.box_xyxy, look=texture) for face in faces]


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
    """Return how many pixels the shorter side needs for the smallest crop to have enough."""
    squares = (crop_square(face.box_xyxy, margin=preprocessing.margin, size_hw=picture.size_hw) for face in faces)
    smallest = min((right - left for left, _, right, _ in squares), default=math.inf)
    return math.ceil(OVERSAMPLING * preprocessing.size_px * min(picture.size_hw) / smallest)


def _crop(face: Face, picture: Picture, preprocessing: Preprocessing) -> np.ndarray:
    x1, y1, x2, y2 = (float(value) for value in np.array(face.box_xyxy) * np.tile(_scale_xy(picture), 2))
    return view_of(picture.pixels, (x1, y1, x2, y2), preprocessing=preprocessing).crop
