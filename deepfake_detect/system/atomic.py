"""Write a file whole or not at all, so that nobody finds half of one after an error, Ctrl-C or a full disk."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from deepfake_detect.errors import InvalidOption

_NAME_LENGTH = 56  # characters of up to four bytes each; a file system takes 255 bytes


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], *, flush: bool = True) -> Iterator[Path]:
    """Yield a path beside the target to write to; it takes the target's place where the block ends without an error.

    Args:
        path: The target. A file that stands there stays as it is until the new one is complete.
        flush: Wait until the bytes are on the disk; a rename may otherwise outlive a power cut that they do not.
            False is for caches and files of a moment, which can be made again.

    Example:
        >>> with whole_file("note.txt") as partial:
        ...     _ = partial.write_text("all of it")
        >>> Path("note.txt").read_text(), partial.exists()
        ('all of it', False)
    """
    target = Path(path)
    partial = target.with_name(f".{uuid.uuid4().hex[:12]}-{target.name[-_NAME_LENGTH:]}")
    try:
        yield partial
        if flush:
            flush_to_disk(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def named_write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says of a file or folder that cannot be written into an error that names it.

    Args:
        path: Of the file or folder.

    Raises:
        InvalidOption: In place of an OSError.

    Example:
        >>> with named_write_errors("missing/note.txt"):
        ...     Path("missing/note.txt").write_text("")
        Traceback (most recent call last):
        ...
        deepfake_detect.errors.InvalidOption: missing/note.txt cannot be written (No such file or directory); ...
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidOption(f"{os.fspath(path)} cannot be written ({reason}); choose another folder") from error


def flush_to_disk(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove_leftovers(path: Path) -> None:
    """Remove what processes left beside a file that were killed while they wrote it; no other may be writing it now."""
    pattern = re.compile(rf"\.[0-9a-f]{{12}}-{re.escape(path.name[-_NAME_LENGTH:])}")
    for neighbour in path.parent.iterdir():
        if pattern.fullmatch(neighbour.name):
            neighbour.unlink(missing_ok=True)
