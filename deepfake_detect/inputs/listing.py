"""List the pictures or videos that a folder or a pattern stands for."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Set
from pathlib import Path

from deepfake_detect.inputs.image import PICTURE_SUFFIXES

_SEPARATOR = re.compile(r"([/\\]+)" if os.sep == "\\" else "(/+)")


def list_files(path: str, *, suffixes: Set[str] = PICTURE_SUFFIXES) -> list[str] | None:
    """List the files of a folder, or those that a pattern matches.

    A folder stands for every such file below it, except in hidden folders; a pattern for what it matches (``**`` for
    any folders). Links to folders are not followed by ``**``, and a file that a pattern reaches by two names is one.

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
    files: dict[str, str] = {}
    for match in sorted(set(_matches(path))):
        for file in files_below(match, suffixes=suffixes) if os.path.isdir(match) else [match]:
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def _matches(pattern: str) -> list[str]:
    """Return what a pattern matches; unlike ``glob``, ``**`` does not go round in rings of links."""
    parts = _SEPARATOR.split(pattern)
    if "**" not in parts[::2]:
        return glob.glob(pattern)
    place = 2 * parts[::2].index("**")
    start, rest = "".join(parts[:place]), "".join(parts[place + 2 :])
    folders = [
        parent[0 if start else 2 :]  # without "./"
        for root in (glob.glob(start) if start else ["."])
        for parent in _folders_below(root)
    ]
    if not rest:
        pairs = ((folder, name) for folder in folders for name in os.listdir(folder or "."))
        return [os.path.join(folder, name) for folder, name in pairs if not name.startswith(".")]
    return [match for folder in folders for match in _matches(os.path.join(glob.escape(folder), rest))]


def _folders_below(root: str) -> Iterator[str]:
    for parent, folders, _ in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent


def files_below(folder: str, *, suffixes: Set[str] = PICTURE_SUFFIXES) -> list[str]:
    """List every file with one of the endings below a folder, except in hidden folders, sorted folder by folder."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in sorted(files) if Path(name).suffix.lower() in suffixes)
        paths += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    return paths
