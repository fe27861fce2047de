"""Renew what does not survive a fork: locks that another thread held, and pools whose threads stay with the parent."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from types import TracebackType
from typing import Any, Protocol

_LOADED_IN = os.getpid()


class Renewable(Protocol):
    """Something with threads or locks."""

    def renew(self) -> None:
        """Replace what was inherited; called in a forked child before anything else runs there."""


_OWNERS: weakref.WeakSet[Any] = weakref.WeakSet()


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


def _renew_all() -> None:
    for owner in list(_OWNERS):
        owner.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_renew_all)
