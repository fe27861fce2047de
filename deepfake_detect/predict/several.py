"""Tell one picture from several, and list those that a folder, a pattern or a column stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Protocol

import numpy as np
from PIL import Image

from deepfake_detect.errors import ImageUnreadable, InvalidOption
from deepfake_detect.inputs.image import PICTURE_SUFFIXES, Lazy, Picture
from deepfake_detect.inputs.listing import files_below, list_files


class Series(Protocol):
    """A column of a table, such as a pandas or polars Series."""

    def to_list(self) -> list[Any]:
        """Return the values."""


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
