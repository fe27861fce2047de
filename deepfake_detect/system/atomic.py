"""Write a file whole or not at all, so that nobody finds half of one after an error, Ctrl-C or a full disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside the target to write to; it takes the target's place where the block ends without an error.

    Args:
        path: The target. A file that stands there stays as it is until the new one is complete.

    Example:
        >>> with whole_file("note.txt") as partial:
        ...     _ = partial.write_text("all of it")
        >>> Path("note.txt").read_text(), partial.exists()
        ('all of it', False)
    """
    target = Path(path)
    partial = target.with_name(f".{os.getpid()}-{target.name[-60:]}")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
