"""Opt-in settings of glibc's malloc that keep freed memory in the process.

Nothing in the package calls these but the command line, since they change the whole process: see ``docs/speed.md`` for
what they cost and gain. Outside glibc they do nothing, and whoever has set malloc's own ``MALLOC_`` variables or
``GLIBC_TUNABLES`` is not overruled.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_UNLIMITED = 2**31 - 1  # bytes; mallopt takes no more
_LEARNED = 32 * 2**20  # bytes: the largest threshold that glibc comes to by itself


def keep_freed_memory() -> bool:
    """Let this process keep some freed megabytes for the next picture, from now until it ends.

    glibc learns with time not to return blocks of a size that is requested again and again, but may never come to do
    so where several are freed at once; then the kernel clears the same pages for every picture. This sets the highest
    thresholds that glibc reaches by itself: blocks of up to 32 MiB are reused, and up to 64 MiB stay at the top of the
    heap.

    Returns:
        Whether anything was set.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    libc = _glibc()
    if libc is None:
        return False
    _set_learned(libc)
    return True


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let this process keep all freed memory while the context lasts, as for a training; then give it back.

    A step of a training on a processor requests the same blocks as the one before. Where glibc returns them to the
    kernel in between, the kernel has to find and clear a gigabyte of pages and more in each step. The process stays as
    large as it was at its largest until the context ends. Results are the same.

    Example:
        >>> with kept_memory():
        ...     pass  # detector.fine_tune(...)
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP, _LEARNED)  # all that an old glibc takes
    libc.mallopt(_MMAP, _UNLIMITED)
    libc.mallopt(_TRIM, _UNLIMITED)
    try:
        yield
    finally:
        _set_learned(libc)
        libc.malloc_trim(0)


def _set_learned(libc: ctypes.CDLL) -> None:
    libc.mallopt(_MMAP, _LEARNED)
    libc.mallopt(_TRIM, 2 * _LEARNED)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return None
    libc = ctypes.CDLL(None)
    return libc if all(hasattr(libc, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")) else None
