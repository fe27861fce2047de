"""Take over the pictures that a caller gives: one or several, copied, so that later changes do not change scores."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import ExifTags, Image, ImageFile

from deepfake_detect.errors import DeepfakeDetectError, ImageTooLarge, ImageUnreadable, InvalidOption
from deepfake_detect.inputs.image import PICTURE_SUFFIXES, Lazy, Picture, name_image, open_image
from deepfake_detect.inputs.listing import files_below, list_files
from deepfake_detect.inputs.source import open_bytes

FRESH_S = 60.0
"""A file that was written less than this long ago may be one that is written again for each picture."""

LARGEST_HELD = 256 * 2**20
"""Bytes of the largest file that is read into memory before it is decoded; a larger one has no fingerprint."""

_ORIENTATION = ExifTags.Base.Orientation


class Series(Protocol):
    """A column of a table, such as a pandas or polars Series."""

    def to_list(self) -> list[Any]:
        """Return the values."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Size and sha256 of the bytes of a file, as they were decoded.

    Attributes:
        size_bytes: Size of the file.
        sha256: 64 hexadecimal digits.
    """

    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Fingerprint:
        """Compute the fingerprint of the bytes of a file."""
        return cls(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def list_several(images: Any) -> list[Any] | None:
    """List the pictures where several are given at once.

    Args:
        images: What the caller gave to `predict`: a list, tuple, folder, pattern, Series, array of paths, or a batch
            of pictures [N, H, W, 3]; or one picture in any form.

    Returns:
        The pictures in order; None where it is one picture.

    Raises:
        ImageUnreadable: A folder without pictures, or a pattern that matches nothing.
        InvalidOption: Something that may hold several pictures but has no order, or may never end; the message says
            what to use.

    Example:
        >>> list_several(["a.jpg", "b.jpg"]), list_several("a.jpg")
        (['a.jpg', 'b.jpg'], None)
    """
    if isinstance(images, str | os.PathLike):
        return _below(os.fspath(images))
    if _is_one(images):
        return None
    if isinstance(images, list | tuple):
        return list(images)
    _refuse_table(images)
    if isinstance(images, Iterator | Set):
        raise InvalidOption(
            f"predict got a {type(images).__name__}, expected one picture, or a list of them; "
            "use predict_many(images), which gives the predictions one by one"
        )
    if isinstance(images, np.ndarray) or callable(getattr(images, "to_list", None)) or isinstance(images, Sequence):
        return list(images)
    return list(images) if getattr(images, "ndim", 0) == 4 else None


def open_several(images: Any) -> Iterable[Any]:
    """Return what gives the pictures one after the other, for `predict_many`.

    Args:
        images: Any iterable, even an endless one; or a folder or a pattern.

    Raises:
        ImageUnreadable: A folder without pictures, or a pattern that matches nothing.
        InvalidOption: One picture, or a table in place of one of its columns.
    """
    if isinstance(images, str | os.PathLike):
        paths = _below(os.fspath(images))
        if paths is not None:
            return paths
    elif not _is_one(images) and isinstance(images, Iterable):
        _refuse_table(images)
        return images
    raise InvalidOption(
        f"predict_many got one {type(images).__name__}, expected several pictures; "
        "use predict(image), or predict_many([image])"
    )


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
    if isinstance(image, Taken):
        return image
    name = safe_name(image)
    with reading(name):
        return _taken(image, name, read_fresh=read_fresh)


def read_once(taken: Taken) -> tuple[Any, Fingerprint | None]:
    """Read the file behind a path or an address, so that all that is computed of it comes from the same bytes.

    Returns:
        What `open_image` opens, as often as needed; and the fingerprint of the bytes. None for what is no file, or is
        in memory anyway; and for a file of more than `LARGEST_HELD`, which is decoded from the disk.
    """
    if not isinstance(taken.source, str | os.PathLike):
        return taken.image, None
    if isinstance(taken.image, io.BytesIO):  # was read when it was taken over
        return taken.image, Fingerprint.of(taken.image.getvalue())
    held = _held_file(taken.image, taken.name)
    return (taken.image, None) if held is None else (held, Fingerprint.of(held.getvalue()))


def hold_image(image: Any) -> Any:
    """Read a picture once, so that everything is computed from the same bytes; it keeps its name.

    Args:
        image: Anything that `open_image` takes.

    Returns:
        A file in memory for paths, URLs, bytes and file objects; a copy of what else there is.

    Raises:
        ImageUnreadable: It cannot be read.
        ImageTooLarge: A file of more than `LARGEST_HELD`.
    """
    is_file = isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read")
    if not is_file or isinstance(image, Picture):
        return take_over(image).source
    name = safe_name(image)
    held = _held_file(image, name)
    if held is None:
        raise ImageTooLarge(
            f"{name}: more than {LARGEST_HELD:,} bytes, expected at most so many; make the file smaller"
        )
    return held


def open_again(source: Any, *, name: str, fingerprint: Fingerprint | None) -> Any:
    """Return what opens a picture once more that was scored before; a file must still be what it was.

    Args:
        source: Of the prediction.
        name: Of the picture, for messages.
        fingerprint: Of the file when it was scored; None does not compare.

    Raises:
        ImageUnreadable: The file is gone, or has other bytes than those that were scored.
    """
    if fingerprint is None or not isinstance(source, str | os.PathLike):
        return source
    file = hold_image(source)
    now = Fingerprint.of(file.getvalue())
    if now != fingerprint:
        raise ImageUnreadable(
            f"{name}: is not the file that was scored (sha256 {fingerprint.sha256[:8]} then, {now.sha256[:8]} now); "
            "predict it again"
        )
    return file


def is_held(source: Any) -> bool:
    """Return whether a picture is in memory, so that it is the same whenever it is opened."""
    return not isinstance(source, str | os.PathLike) and (
        not isinstance(source, Lazy) or isinstance(source, _Undecoded)
    )


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


def _held_file(image: Any, name: str) -> io.BytesIO | None:
    """Read a file into memory; None for one of more than `LARGEST_HELD`."""
    file = open_bytes(image, name=name)
    if file.seek(0, os.SEEK_END) > LARGEST_HELD:
        file.close()
        return None
    file.seek(0)
    return name_bytes(file, name)


def _is_one(images: Any) -> bool:
    """Tell whether something is one picture, though it may be iterable."""
    is_file = callable(getattr(images, "read", None))
    if is_file or isinstance(images, bytes | bytearray | memoryview | Image.Image | Picture | Lazy):
        return True
    if isinstance(images, np.ndarray) and images.dtype.kind in "OSU":  # of paths, or of any objects
        return images.ndim != 1
    is_pixels = isinstance(images, np.ndarray) or callable(getattr(images, "detach", None))  # an array or a tensor
    return is_pixels and images.ndim < 4


def _below(path: str | bytes) -> list[str] | None:
    path = os.fsdecode(path)
    if os.path.isfile(path) or "\0" in path:
        return None
    paths = list_files(path)
    if paths:
        return paths
    if paths is None:
        return None
    if not os.path.isdir(path):
        raise ImageUnreadable(f"{path} matches no file, expected a pattern such as 'folder/*.jpg'; check the folder")
    from deepfake_detect.inputs.frames import VIDEO_SUFFIXES

    videos = files_below(path, suffixes=VIDEO_SUFFIXES)
    if videos:
        raise ImageUnreadable(f"{path} holds no pictures, but {len(videos)} video(s); use predict_video for each")
    endings = ", ".join(sorted(PICTURE_SUFFIXES))
    raise ImageUnreadable(f"{path} holds no pictures (looked in it and in the folders below for {endings})")


def _refuse_table(images: Any) -> None:
    if isinstance(images, Mapping):
        raise InvalidOption("got a mapping, expected pictures; pass list(mapping.values())")
    if hasattr(images, "columns") and callable(getattr(images, "head", None)):
        names = ", ".join(map(repr, list(images.columns)[:8]))
        raise InvalidOption(
            f"got a {type(images).__name__} with the columns {names}, expected one column of paths; "
            "pass it as frame['NAME']"
        )


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


def _stat(path: str | os.PathLike[str]) -> os.stat_result:
    return os.stat(path)


def _is_fresh(path: str | os.PathLike[str]) -> bool:
    try:
        links = [
            parent for parent in (Path(os.fsdecode(path)), *Path(os.fsdecode(path)).parents) if parent.is_symlink()
        ]
        states = [_stat(path), *map(os.lstat, links)]  # a link may lead elsewhere next time
    except (OSError, ValueError):  # an address, or nothing at all
        return False
    return time.time() - max(max(status.st_mtime, status.st_ctime) for status in states) < FRESH_S


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
