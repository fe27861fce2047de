"""What suits this machine: which numbers, and how many pictures at once?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from deepfake_detect.system.device import find_dtype, is_out_of_memory

CPU_BATCH = 32
"""Pictures at once on a CPU, where more are no faster."""

LARGEST_BATCH = 512
"""Pictures at once that a trial goes up to."""

_SMALL = 1_000_000  # weights; fewer are not worth a trial
_WORTH = 1.2  # times as fast, so that chance does not decide
_FASTER = 1.05  # times as many pictures a second, or a larger batch is not worth its memory


def choose_dtype(
    model: nn.Module, dtype: str | torch.dtype, *, device: torch.device, shape: tuple[int, int, int]
) -> torch.dtype:
    """Choose what is computed in: on cuda bfloat16 where it has it, else float16; on a CPU what a trial finds faster.

    Args:
        model: On the device; its weights and random state stay as they are.
        dtype: ``"auto"``, or what is wanted.
        device: Where it computes.
        shape: Of one input.
    """
    if dtype != "auto":
        return find_dtype(dtype, device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type != "cpu" or sum(value.numel() for value in model.parameters()) < _SMALL:
        return torch.float32
    batch = torch.zeros(8, *shape)
    plain, half = (_seconds(model, batch, kind) for kind in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if plain > _WORTH * half else torch.float32


def choose_batch_size(
    model: nn.Module,
    size: int | Literal["auto"],
    *,
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    pictures: int,
) -> int:
    """Choose how many pictures the device gets at once.

    Args:
        model: On the device.
        size: ``"auto"``, or what is wanted.
        device: Where it computes.
        dtype: That it computes in.
        shape: Of one input.
        pictures: In the data set: a step takes no more than a quarter of it.
    """
    if size != "auto":
        return size
    most = max(4, min(LARGEST_BATCH, pictures // 4))
    if device.type == "cpu":
        return min(CPU_BATCH, most)
    return best_batch(lambda count: _seconds(model, torch.zeros(count, *shape, device=device), dtype), most=most)


def best_batch(attempt: Callable[[int], float], *, most: int, least: int = 8) -> int:
    """Double a batch until memory ends, or larger ones are no faster.

    Args:
        attempt: Takes a step with so many pictures and gives the seconds; raises where memory ends.
        most: Not more than this.
        least: The first attempt, and the answer where even that fails.

    Returns:
        ``least`` times a power of two, at most ``most``.

    Example:
        >>> best_batch(lambda count: 1.0, most=100)  # as fast for many as for few
        64
        >>> best_batch(lambda count: max(16, count) / 100, most=100)  # faster up to 16
        16
    """
    best, size, fastest = min(least, most), min(least, most), 0.0
    while size <= most:
        try:
            speed = size / attempt(size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return best
        if speed < _FASTER * fastest:
            return best
        best, size, fastest = size, 2 * size, speed
    return best


def _seconds(model: nn.Module, batch: torch.Tensor, dtype: torch.dtype) -> float:
    on_cpu = batch.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter  # other programs must not decide
    best = float("inf")
    for _ in range(3):
        began = clock()
        _step(model, batch, dtype)
        if batch.device.type == "cuda":
            torch.cuda.synchronize(batch.device)
        best = min(best, clock() - began)
    return best


def _step(model: nn.Module, batch: torch.Tensor, dtype: torch.dtype) -> None:
    """Compute a gradient and throw it away; in evaluation mode, so that no statistics change."""
    training = model.training
    model.eval()
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.autocast(batch.device.type, dtype, enabled=dtype != torch.float32):
        logit = model(batch)
    torch.autograd.grad(logit.float().sum(), [p for p in model.parameters() if p.requires_grad])
    model.train(training)
