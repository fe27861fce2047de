"""List the pictures or videos that a folder or a pattern stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Set
from pathlib import Path

from deepfake_detect.inputs.image import PICTURE_SUFFIXES


def list_files(path: str, *, suffixes: Set[str] = PICTURE_SUFFIXES) -> list[str] | None:
    """List the files of a folder, or those that a pattern matches.

    A folder stands for every such file below it, except in hidden folders; a pattern for what it matches (``**`` for
    any folders).

    Args:
        path: Any path, URL or data URI; ``~`` is expanded.
        suffixes: Which files of a folder to take.

    Returns:
        Sorted paths; None where the path is neither a folder nor a pattern.

    Example:
        >>> list_files("examples")
        ['examples/portrait.jpg', 'examples/portrait_fake.jpg']
        >>> list_files("examples/*_fake.jpg"), list_files("examples/portrait.jpg")
        (['examples/portrait_fake.jpg'], None)
    """
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return files_below(path, suffixes=suffixes)
    if os.path.lexists(path) or "://" in path or path[:5].lower() == "data:" or not glob.has_magic(path):
        return None
    matches = sorted(glob.glob(path, recursive=True))
    return [
        file
        for match in matches
        for file in (files_below(match, suffixes=suffixes) if os.path.isdir(match) else [match])
    ]


def files_below(folder: str, *, suffixes: Set[str] = PICTURE_SUFFIXES) -> list[str]:
    """List every file with one of the endings below a folder, except in hidden folders, sorted folder by folder."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in sorted(files) if Path(name).suffix.lower() in suffixes)
        paths += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    return paths
