"""Take over a picture from the caller, so that nothing that happens to its memory or file later changes the score."""

from __future__ import annotations

import contextlib
import io
import os
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile

from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable
from deepfake_detect.inputs.image import Lazy, Picture, name_image, open_image
from deepfake_detect.inputs.source import open_bytes

FRESH_S = 60.0
"""A file that was written less than this long ago may be one that is written again for each picture."""

_ORIENTATION = ExifTags.Base.Orientation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """A picture that was taken over.

    Attributes:
        name: Of the picture, for messages.
        image: What `open_image` opens, as often as needed.
        source: What a prediction keeps to open the picture again.
    """

    name: str
    image: Any
    source: Any


def take_over(image: Any, *, read_fresh: bool = False) -> Taken:
    """Take over a picture: a later change of what the caller holds does not reach the result.

    Arrays, tensors and decoded PIL images are copied; file objects, and the files behind PIL images that are not yet
    decoded, are read. Paths and addresses stay as they are, since most files do not change, and reading them here
    would keep the threads waiting.

    Args:
        image: Anything that `open_image` takes.
        read_fresh: Read a file that was written within the last `FRESH_S` seconds, too: a generator may write each
            of its pictures to the same path.

    Returns:
        The picture with its name.

    Raises:
        ImageUnreadable: It cannot be read or copied, as with a closed file.

    Example:
        >>> pixels = np.zeros((8, 8, 3), np.uint8)
        >>> taken = take_over(pixels)
        >>> pixels[:] = 255
        >>> int(taken.image.max())
        0
    """
    name = safe_name(image)
    with reading(name):
        return _taken(image, name, read_fresh=read_fresh)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Make whatever the caller's object raises an error of that picture: the other pictures have no part in it.

    Raises:
        ImageUnreadable: In place of any other exception.
    """
    try:
        yield
    except (DeepfakeDetectError, MemoryError):
        raise
    except Exception as error:
        raise ImageUnreadable(f"{name}: cannot be read ({type(error).__name__}: {error})") from error


def safe_name(image: Any) -> str:
    """Return the name of a picture for messages; that of its type where it has none that can be read."""
    try:
        return name_image(image)
    except Exception:  # an address that cannot be parsed, or a property that fails
        return f"<{type(image).__name__}>"


def name_bytes(file: BinaryIO, name: str) -> io.BytesIO:
    """Read a file into memory and close it; the copy has a name, for messages."""
    with file:
        held = io.BytesIO(file.read())
    held.name = name
    return held


def _taken(image: Any, name: str, *, read_fresh: bool) -> Taken:
    if isinstance(image, str | os.PathLike):
        if read_fresh and _is_fresh(image):
            return Taken(name=name, image=name_bytes(open_bytes(image, name=name), name), source=image)
        return Taken(name=name, image=image, source=image)
    if isinstance(image, Image.Image):
        held = _held_pil(image, name)
        return Taken(name=name, image=held, source=held)
    if isinstance(image, np.ndarray):
        copy = image.copy()
        return Taken(name=name, image=copy, source=copy)
    if isinstance(image, bytearray | memoryview):
        content = bytes(image)
        return Taken(name=name, image=content, source=content)
    if isinstance(image, Picture):
        picture = replace(image, pixels=image.pixels.copy())
        return Taken(name=name, image=picture, source=picture)
    if callable(getattr(image, "read", None)):
        held_file = name_bytes(open_bytes(image, name=name), name)
        return Taken(name=name, image=held_file, source=held_file.getvalue())
    if isinstance(image, Lazy):
        return Taken(name=name, image=image, source=image)
    if callable(getattr(image, "detach", None)) and callable(getattr(image, "clone", None)):  # a tensor
        clone = image.detach().clone()
        return Taken(name=name, image=clone, source=clone)
    return Taken(name=name, image=image, source=image)


def _is_fresh(path: str | os.PathLike[str]) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # an address, or nothing at all
        return False
    return time.time() - max(status.st_mtime, status.st_ctime) < FRESH_S


def _held_pil(image: Image.Image, name: str) -> Any:
    """Copy a PIL image; of one that is not decoded yet the file is read, to be decoded in the threads."""
    if isinstance(image, ImageFile.ImageFile) and _is_untouched(image):
        return _Undecoded(name, type(image), _bytes_behind(image))
    copy: Any = image.copy()
    orientation = image.getexif().get(_ORIENTATION)
    if orientation != copy.getexif().get(_ORIENTATION):  # changed by the caller; copy() takes the file's
        copy.getexif()[_ORIENTATION] = 1 if orientation is None else orientation
    copy.format, copy.filename = image.format, name
    return copy


def _is_untouched(image: ImageFile.ImageFile) -> bool:
    """Tell whether the bytes of the file still say what the image is: first frame, full size, metadata as stored."""
    has_file = bool(image.tile) and image.fp is not None
    return has_file and image.tell() == 0 and not image.decoderconfig and getattr(image, "_exif", None) is None


def _bytes_behind(image: ImageFile.ImageFile) -> bytes:
    file: Any = image.fp
    place = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(place)
    if getattr(
        image, "_exclusive_fp", False
    ):  # opened by Pillow, which closes it once the image is decoded: here never
        weakref.finalize(image, file.close)
    return content


@dataclass(frozen=True, slots=True, eq=False)
class _Undecoded:
    """The file behind a PIL image, decoded anew each time."""

    name: str
    plugin: type[ImageFile.ImageFile]
    content: bytes

    def open_picture(self) -> Picture:
        with self.plugin(io.BytesIO(self.content), self.name) as image:
            return open_image(image)
