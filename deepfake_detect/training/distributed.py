"""Train in several processes started by torchrun: ranks, shared gradients and shared decisions."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes that train one model together.

    Attributes:
        rank: Number of this process; rank 0 validates and writes.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Return whether this process validates and writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module, *, partly: bool = False) -> nn.Module:
        """Average the gradients of all processes; ``partly`` where some weights may be frozen for a while."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=partly)

    def agree(self, value: _Value) -> _Value:
        """Return the value of rank 0 in every process; waits for all of them."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        distributed.broadcast_object_list(values, src=0)
        first: _Value = values[0]
        return first


def local_device(device: torch.device) -> torch.device:
    """Return the graphics card of this process, where ``torchrun`` has started several.

    Args:
        device: Device of the training.

    Example:
        >>> local_device(torch.device("cpu"))
        device(type='cpu')
    """
    rank = os.environ.get("LOCAL_RANK")
    if device.type != "cuda" or rank is None:
        return device
    torch.cuda.set_device(int(rank))
    return torch.device("cuda", int(rank))


def join(device: torch.device) -> World:
    """Join the other processes that ``torchrun`` has started, if it has.

    Args:
        device: Device of this process: nccl connects those on cuda, gloo all others.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(rank=distributed.get_rank(), size=distributed.get_world_size())
