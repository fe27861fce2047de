"""Choose the precision and the batch size that train fastest on this machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from deepfake_detect.system.device import find_dtype, is_out_of_memory

logger = logging.getLogger("deepfake_detect")

CPU_BATCH = 32
"""Largest automatic batch on a CPU, where larger ones are no faster."""

LARGEST_BATCH = 512
"""Largest batch that is tried."""

_SMALL = 1_000_000  # parameters; smaller models are not timed
_MIN_SPEEDUP = 1.2  # of half precision, so that noise does not decide
_MIN_GAIN = 1.05  # in pictures a second, to be worth the memory of a larger batch


def choose_dtype(
    model: nn.Module, dtype: str | torch.dtype, *, device: torch.device, shape: tuple[int, int, int]
) -> torch.dtype:
    """Choose the precision: on cuda bfloat16 if supported, else float16; on a CPU whichever is measured to be faster.

    Args:
        model: On the device; its weights and the random state do not change.
        dtype: ``"auto"``, or the precision to use.
        device: Device of the model.
        shape: Shape of one input.
    """
    if dtype != "auto":
        return find_dtype(dtype, device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type != "cpu" or sum(value.numel() for value in model.parameters()) < _SMALL:
        return torch.float32
    batch = torch.zeros(8, *shape, dtype=torch.float32)
    plain, half = (_seconds(model, batch, precision) for precision in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if plain > _MIN_SPEEDUP * half else torch.float32


def choose_batch_size(
    model: nn.Module,
    size: int | Literal["auto"],
    *,
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    pictures: int,
) -> int:
    """Choose the number of pictures in a batch.

    Args:
        model: On the device.
        size: ``"auto"``, or the size to use: no more than there are pictures in an epoch.
        device: Device of the model.
        dtype: Precision of the computation.
        shape: Shape of one input.
        pictures: Number of pictures in an epoch; ``"auto"`` takes at most a quarter of them.
    """
    if size != "auto":
        if size > pictures:
            logger.warning(
                "batch_size %d is larger than the %d pictures of an epoch: %d is used", size, pictures, pictures
            )
        return min(size, max(1, pictures))
    most = max(4, min(LARGEST_BATCH, pictures // 4))
    if device.type == "cpu":
        return min(CPU_BATCH, most)

    def attempt(count: int) -> float:
        return _seconds(model, torch.zeros(count, *shape, device=device, dtype=torch.float32), dtype)

    return best_batch(attempt, most=most)


def best_batch(attempt: Callable[[int], float], *, most: int, least: int = 8) -> int:
    """Double the batch size until memory is exhausted, or larger batches are no faster.

    Args:
        attempt: Computes a step with the given number of pictures, and returns the seconds; raises out of memory.
        most: Largest size.
        least: First size, also returned if even that fails.

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
        if speed < _MIN_GAIN * fastest:
            return best
        best, size, fastest = size, 2 * size, speed
    return best


def _seconds(model: nn.Module, batch: torch.Tensor, dtype: torch.dtype) -> float:
    on_cpu = batch.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter  # processor time: other programs must not matter
    best = float("inf")
    for _ in range(3):
        began = clock()
        _step(model, batch, dtype)
        if batch.device.type == "cuda":
            torch.cuda.synchronize(batch.device)
        best = min(best, clock() - began)
    return best


def _step(model: nn.Module, batch: torch.Tensor, dtype: torch.dtype) -> None:
    """Compute a gradient and discard it; in evaluation mode, so that batch norms do not change."""
    training = model.training
    model.eval()
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.autocast(batch.device.type, dtype, enabled=dtype != torch.float32):
        logit = model(batch)
    torch.autograd.grad(logit.float().sum(), [p for p in model.parameters() if p.requires_grad])
    model.train(training)
