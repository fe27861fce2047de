"""Which pictures does a PATH on the command line stand for?"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

from deepfake_detect.inputs.image import PICTURE_SUFFIXES

STDIN = "-"
"""Stands for the bytes on standard input."""


def expand_paths(paths: Sequence[str], *, suffixes: Set[str] = PICTURE_SUFFIXES) -> list[str]:
    """Turn files, folders, patterns and addresses into single pictures, or videos.

    A folder stands for every such file below it, but none in hidden folders; a pattern for what it
    matches (``**`` for any folders). URLs and ``-`` stay as they are, and so does what stands for
    nothing, so that its error is told where it belongs.

    Args:
        paths: As given on the command line.
        suffixes: What counts as such a file in a folder.

    Returns:
        Pictures in the order of the arguments; sorted within a folder or pattern.
    """
    return [picture for path in paths for picture in _expand(path, suffixes) or [path]]


def open_stdin(pictures: Iterable[str]) -> Iterator[str | bytes]:
    """Put the bytes on standard input in the place of ``-``."""
    for picture in pictures:
        yield sys.stdin.buffer.read() if picture == STDIN else picture


def _expand(path: str, suffixes: Set[str]) -> list[str]:
    if os.path.isdir(path):
        return _below(path, suffixes)
    if os.path.lexists(path) or path == STDIN or "://" in path or path.startswith("data:"):
        return [path]
    found = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
    return [picture for match in found for picture in (_below(match, suffixes) if os.path.isdir(match) else [match])]


def _below(folder: str, suffixes: Set[str]) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        pictures = (name for name in sorted(files) if Path(name).suffix.lower() in suffixes)
        found += [os.path.join(parent, name) for name in pictures if not name.startswith(".")]
    return found
