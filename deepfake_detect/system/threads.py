"""Share torch's threads among the threads of a pool, and renew what does not survive a fork.

``torch.set_num_threads`` is meant for the whole process. What it sets in the end, OpenMP's number of threads, belongs
to the calling thread, and is set here directly: the number of the process is never touched.

A forked child has one thread: a lock that another thread held stays locked there, and pools lose their threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Protocol

_DUPLICATES = "KMP_DUPLICATE_LIB_OK"
_LOADED_IN = os.getpid()
_OWNERS: weakref.WeakSet[Any] = weakref.WeakSet()  # of what is renewed


def can_share_threads() -> bool:
    """Say whether torch computes with OpenMP's threads, whose number may differ from thread to thread."""
    return bool(_openmp())


def share_threads(pool: Executor, *, workers: int, lanes: int) -> None:
    """Give every thread of a new pool its share of the threads that torch computes with in this one.

    Two networks with two threads each on two processors are ten times as slow as with one thread each. Where torch was
    built without OpenMP nothing happens; see `can_share_threads`.

    Args:
        pool: New, with ``workers`` threads.
        workers: How many threads it has.
        lanes: How many of them compute at the same time.
    """
    import torch

    share = max(1, torch.get_num_threads() // lanes)
    started = threading.Barrier(workers)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes the number of the process when it first calls torch
        _set_openmp_threads(share)
        started.wait()  # so that every thread of the pool takes exactly one of these

    for future in [pool.submit(begin) for _ in range(workers)]:
        future.result()


@contextlib.contextmanager
def threads_after_fork() -> Iterator[None]:
    """Compute with one thread in a forked child, where the threads of its parent's OpenMP pool are missing.

    GNU's OpenMP would wait for them for ever. Only the calling thread is affected, and only while the context lasts; in
    the process that imported the package nothing happens.
    """
    if not is_forked():
        yield
        return
    import torch

    before = torch.get_num_threads()
    _set_openmp_threads(1)
    try:
        yield
    finally:
        _set_openmp_threads(before)


class Renewable(Protocol):
    """Something with threads or locks."""

    def renew(self) -> None:
        """Replace what was inherited; called in a forked child before anything else runs there."""


def is_forked() -> bool:
    """Tell whether this process was forked after the package had been imported."""
    return os.getpid() != _LOADED_IN


def renew_after_fork(owner: Renewable) -> None:
    """Have ``owner.renew()`` called in every child that this process forks while the owner lives.

    Example:
        >>> class Counter:
        ...     def renew(self) -> None:
        ...         self.count = 0
        >>> renew_after_fork(Counter())
    """
    _OWNERS.add(owner)


def never_free(inherited: object) -> None:
    """Keep an object until the process ends, without running its destructor, which would wait for lost threads."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


class ForkSafeLock:
    """A lock that a thread may take several times, and that is free in a forked child whoever held it in the parent.

    Example:
        >>> lock = ForkSafeLock()
        >>> with lock, lock:
        ...     pass
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        renew_after_fork(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Begin with a free lock in a forked child."""
        self._lock = threading.RLock()


@functools.cache
def _openmp() -> tuple[Any, ...]:
    import torch  # noqa: F401 - its OpenMP must be in the process

    is_set = _DUPLICATES in os.environ
    from threadpoolctl import ThreadpoolController  # sets a variable of the environment

    if not is_set:
        os.environ.pop(_DUPLICATES, None)
    return tuple(ThreadpoolController().select(user_api="openmp").lib_controllers)


def _set_openmp_threads(count: int) -> None:
    for library in _openmp():
        library.set_num_threads(count)


def _renew_all() -> None:
    for owner in list(_OWNERS):
        owner.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_renew_all)
