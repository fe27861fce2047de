"""What does a model compute on, and in which numbers?"""

from __future__ import annotations

import os
import platform
import sys
import threading
from concurrent.futures import Executor
from textwrap import shorten
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is imported where it is needed: to choose OpenVINO needs none
    import torch

DTYPES = ("float32", "float16", "bfloat16")
"""What a model may compute in; the last two as automatic mixed precision."""

_SHARING = threading.Lock()


def find_device(device: str | torch.device = "auto") -> torch.device:
    """Choose the device: ``"auto"`` is cuda, then mps, then cpu.

    Args:
        device: ``"auto"``, or any name that torch knows.

    Raises:
        ValueError: No such device here.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    import torch

    if device != "auto":
        return _checked_device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Choose the numbers: ``"auto"`` is float16 on cuda, else float32.

    Args:
        dtype: ``"auto"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``, as a name or as torch's own.
        device: Where the model computes.

    Raises:
        ValueError: Any other dtype.
    """
    import torch

    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    found: torch.dtype = getattr(torch, name_dtype(dtype))
    return found


def name_dtype(dtype: str | torch.dtype) -> str:
    """Give the plain name of a dtype, such as ``"float32"``, or ``"auto"``.

    Raises:
        ValueError: It is none of `DTYPES`.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in ("auto", *DTYPES):
        raise ValueError(f"dtype is {dtype!r}, expected 'auto', {', '.join(map(repr, DTYPES))}")
    return name


def may_have_accelerator() -> bool:
    """Say whether there may be a graphics processor for torch, without asking torch, which takes long to import."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return os.path.exists(os.path.join(os.environ.get("SYSTEMROOT", ""), "System32", "nvcuda.dll"))
    return any(os.path.exists(file) for file in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def count_processors() -> int:
    """Count the processors that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def share_threads(pool: Executor, *, workers: int, lanes: int) -> None:
    """Give every thread of a new pool its share of the threads that torch computes with in this one.

    torch.set_num_threads is meant for the whole process, but what it sets for the thread that calls it stays with that
    thread when another calls it later. Two networks with two threads each on two processors are ten times as slow as
    with one thread each.

    Args:
        pool: Just made, with ``workers`` threads.
        workers: How many it has.
        lanes: How many of them compute at the same time.
    """
    import torch

    with _SHARING:
        before = torch.get_num_threads()
        started = threading.Barrier(workers)

        def begin() -> None:
            torch.get_num_threads()  # a thread that never asked takes the number of the process when it first computes
            torch.set_num_threads(max(1, before // lanes))
            started.wait()  # so that every thread takes one of these, and only one

        for future in [pool.submit(begin) for _ in range(workers)]:
            future.result()
        torch.set_num_threads(before)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether an error of torch's means that the device has too little memory."""
    words = str(error).lower()
    named = type(error).__name__ == "OutOfMemoryError"
    return named or "out of memory" in words or "can't allocate memory" in words


def free_memory() -> None:
    """Give back what torch keeps of a graphics processor's memory, where it is used."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _checked_device(device: str | torch.device) -> torch.device:
    import torch

    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = shorten(str(error), 80)
        raise ValueError(f"no device {str(device)!r} here ({reason}); use device='auto' or device='cpu'") from None
