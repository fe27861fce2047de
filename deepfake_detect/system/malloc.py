"""Who keeps the memory that one picture, or one step of a training, gives back, until the next one asks for it?"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Iterator

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_NEVER = 2**31 - 1  # bytes; a mallopt takes no more
_ON_ITS_OWN = 32 * 2**20  # bytes: the most that glibc comes to by itself


@functools.cache
def keep_blocks() -> None:
    """Let the process keep some freed megabytes for the next picture, from now on.

    glibc learns with time not to return blocks of a size that is asked for again and again, but may never come to do
    so where several are set free at once; then the kernel clears the same pages for every picture, which can take as
    long as to decode it. What is set here is the most that it learns to by itself. Nowhere but with glibc does this do
    anything; whoever has set its ``MALLOC_`` variables or ``GLIBC_TUNABLES`` is not overruled.
    """
    libc = _glibc()
    if libc is not None:
        _settle(libc)


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let the process keep freed memory for its next use, as long as this lasts; then give it back.

    glibc returns a large block to the kernel as soon as it is free. A step of a training on a processor asks for the
    same blocks as the one before, and then the kernel has to find and clear every page of them again, a gigabyte and
    more in each step. Nowhere but with glibc does this do anything; results are the same. It holds for the whole
    process, whose memory stays meanwhile as large as it was at its largest; whoever has set glibc's own ``MALLOC_``
    variables or ``GLIBC_TUNABLES`` is not overruled.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP, _ON_ITS_OWN)  # all that an old glibc takes
    libc.mallopt(_MMAP, _NEVER)
    libc.mallopt(_TRIM, _NEVER)
    try:
        yield
    finally:
        _settle(libc)  # what a training sets free has brought glibc there before, too
        libc.malloc_trim(0)


def _settle(libc: ctypes.CDLL) -> None:
    libc.mallopt(_MMAP, _ON_ITS_OWN)
    libc.mallopt(_TRIM, 2 * _ON_ITS_OWN)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return None
    libc = ctypes.CDLL(None)
    return libc if all(hasattr(libc, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")) else None
