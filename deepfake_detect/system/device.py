"""Choose the device and the dtype that a model computes with."""

from __future__ import annotations

import os
import platform
import sys
from textwrap import shorten
from typing import TYPE_CHECKING

from deepfake_detect.errors import InvalidOption

if TYPE_CHECKING:  # torch is imported where it is used: choosing OpenVINO does not need it
    import torch

DTYPES = ("float32", "float16", "bfloat16")
"""Dtypes that a model may compute in; the last two as automatic mixed precision."""


def find_device(device: str | torch.device = "auto") -> torch.device:
    """Choose the device: ``"auto"`` is cuda, then mps, then cpu.

    Args:
        device: ``"auto"``, or any name that torch knows.

    Raises:
        InvalidOption: No such device here.

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
    """Choose the dtype: ``"auto"`` is float16 on cuda, else float32.

    Args:
        dtype: ``"auto"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``, as a name or a ``torch.dtype``.
        device: Where the model computes.

    Raises:
        InvalidOption: Any other dtype.
    """
    import torch

    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    chosen: torch.dtype = getattr(torch, name_dtype(dtype))
    return chosen


def name_dtype(dtype: str | torch.dtype) -> str:
    """Give the plain name of a dtype, such as ``"float32"``, or ``"auto"``.

    Raises:
        InvalidOption: Neither ``"auto"`` nor one of `DTYPES`.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in ("auto", *DTYPES):
        raise InvalidOption(f"dtype is {dtype!r}, expected 'auto', {', '.join(map(repr, DTYPES))}")
    return name


def may_have_accelerator() -> bool:
    """Say whether there may be a GPU for torch, without importing torch, which takes long."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return os.path.exists(os.path.join(os.environ.get("SYSTEMROOT", ""), "System32", "nvcuda.dll"))
    return any(os.path.exists(file) for file in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def count_processors() -> int:
    """Count the processors that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether an error of torch's means that the device has too little memory."""
    message = str(error).lower()
    is_named = type(error).__name__ == "OutOfMemoryError"
    return is_named or "out of memory" in message or "can't allocate memory" in message


def free_memory() -> None:
    """Return the GPU memory that torch caches, where torch uses a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _checked_device(device: str | torch.device) -> torch.device:
    import torch

    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = shorten(str(error), 80)
        raise InvalidOption(f"no device {device!r} here ({reason}); use device='auto' or device='cpu'") from None
