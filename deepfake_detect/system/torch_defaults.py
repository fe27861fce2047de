"""Compute as usual whatever defaults of torch the host program has chosen.

A host may have set another default dtype or device, or call from inside ``torch.no_grad`` or ``torch.inference_mode``.
What is undone here is undone for the calling thread and for the time of the context; the host's settings stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from deepfake_detect.system.threads import threads_after_fork

_DRAWN = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.linspace)
_CONVERTED = (torch.tensor, torch.as_tensor, torch.full)  # of Python's floats; whole numbers stay whole


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Make new tensors float32 and on the CPU where nothing else is said, and let gradients be recorded.

    In a forked child, which lacks the threads of its parent, the calling thread computes alone; see
    `threads_after_fork`.

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> with usual_defaults():
        ...     torch.zeros(1).dtype
        torch.float32
        >>> torch.set_default_dtype(torch.float32)
    """
    with ExitStack() as stack:
        stack.enter_context(threads_after_fork())
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(_Float32())
        yield


class _Float32(TorchFunctionMode):
    """Gives new tensors float32 in place of the default dtype, which is the same for all threads of a process."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") is not None or func not in (*_DRAWN, *_CONVERTED):
            return func(*args, **kwargs)
        if func in _DRAWN:
            return func(*args, **{**kwargs, "dtype": torch.float32})
        made = func(*args, **kwargs)
        is_plain = not any(hasattr(value, "dtype") for value in args)
        return made.float() if is_plain and made.dtype == torch.get_default_dtype() else made
