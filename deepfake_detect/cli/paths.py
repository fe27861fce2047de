"""Expand the PATHs of a command line into single pictures or videos, and explain those that stand for nothing."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

import click

from deepfake_detect.cli.console import plural
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.inputs.image import PICTURE_SUFFIXES
from deepfake_detect.inputs.listing import files_below, list_files

STDIN = "-"
"""Stands for the bytes on standard input."""


def expand_paths(paths: Sequence[str], *, suffixes: Set[str] = PICTURE_SUFFIXES) -> list[str]:
    """Turn files, folders, patterns and URLs into single pictures, or videos.

    A folder stands for every such file below it, except in hidden folders; a pattern for what it
    matches (``**`` for any folders). URLs and ``-`` stay as they are, and so does what matches
    nothing, so that its error is reported in its place among the results.

    Args:
        paths: As given on the command line.
        suffixes: Which files of a folder to take.

    Returns:
        Pictures in the order of the arguments; sorted within a folder or pattern.
    """
    return [picture for path in paths for picture in _expand(path, suffixes) or [path]]


def open_stdin(pictures: Iterable[str]) -> Iterator[str | bytes]:
    """Replace ``-`` by the bytes on standard input; by none where it is closed, as under some services."""
    for picture in pictures:
        if picture != STDIN:
            yield picture
        else:
            yield b"" if sys.stdin is None else sys.stdin.buffer.read()


def better_error(
    path: str, error: DeepfakeDetectError, *, expected: str = "picture", usage: str = ""
) -> DeepfakeDetectError:
    """Return an error that names the right command, where a path is a video in place of a picture, or the reverse.

    Args:
        path: One of those that `expand_paths` returned.
        error: What opening it raised; returned where there is nothing better to say.
        expected: ``"picture"`` or ``"video"``.
        usage: The running command with what comes before the path; empty where that is its name alone.
    """
    other, command = ("video", "video") if expected == "picture" else ("picture", "predict")
    if expected == "picture" and Path(path).is_fifo():  # as bash makes of <(COMMAND)
        running = click.get_current_context(silent=True)
        words = usage or (running.info_name if running is not None else None) or "predict"
        return type(error)(f"{path} is a named pipe, expected a file; run: COMMAND | deepfake-detect {words} -")
    if os.path.isdir(path):
        return type(error)(_nothing_in(path, expected=expected, other=other, command=command))
    if os.path.isfile(path) and Path(path).suffix.lower() in suffixes_of(other):
        return type(error)(f"{path} is a {other}, expected a {expected}; run: {_command(command, path)}")
    return error


def suffixes_of(kind: str) -> Set[str]:
    """Return the endings of files that count as a ``"picture"`` or a ``"video"`` in a folder."""
    if kind == "picture":
        return PICTURE_SUFFIXES
    from deepfake_detect.inputs.frames import VIDEO_SUFFIXES  # loads OpenCV

    return VIDEO_SUFFIXES


def note_on_videos(paths: Sequence[str]) -> str:
    """Say which videos a command for pictures leaves out, and how to score them; empty where there are none."""
    folders = [path for path in paths if os.path.isdir(path)]
    videos = {folder: len(files_below(folder, suffixes=suffixes_of("video"))) for folder in folders}
    notes = (
        f"{plural(number, 'video')} in {folder} left out; run: {_command('video', folder)}"
        for folder, number in videos.items()
        if number and files_below(folder)
    )
    return "\n".join(notes)


def _nothing_in(folder: str, *, expected: str, other: str, command: str) -> str:
    there = len(files_below(folder, suffixes=suffixes_of(other)))
    if there:
        return f"{folder} holds no {expected} but {plural(there, other)}; run: {_command(command, folder)}"
    endings = ", ".join(sorted(suffixes_of(expected)))
    return f"{folder} holds no {expected} (looked in it and in all folders below it for {endings})"


def _command(command: str, path: str) -> str:
    return f"deepfake-detect {command} {shlex.quote(path)}"


def _expand(path: str, suffixes: Set[str]) -> list[str]:
    files = None if path == STDIN else list_files(path, suffixes=suffixes)
    return [path] if files is None else files
