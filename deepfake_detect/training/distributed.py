"""Which of several processes is this, and how do they agree?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

_Told = TypeVar("_Told")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes that train one model together.

    Attributes:
        rank: Of this one; 0 leads: it validates and writes.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Say whether this process validates and writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module, *, partly: bool = False) -> nn.Module:
        """Let the gradients of all processes be averaged; ``partly`` where some weights may be frozen for a while."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=partly)

    def agree(self, told: _Told) -> _Told:
        """Give every process what the leading one says."""
        if self.size == 1:
            return told
        said: list[Any] = [told]
        distributed.broadcast_object_list(said, src=0)
        first: _Told = said[0]
        return first


def own_device(device: torch.device) -> torch.device:
    """Give each process that ``torchrun`` has started a graphics card of its own.

    Args:
        device: That each was asked to use.

    Example:
        >>> own_device(torch.device("cpu"))
        device(type='cpu')
    """
    rank = os.environ.get("LOCAL_RANK")
    if device.type != "cuda" or rank is None:
        return device
    torch.cuda.set_device(int(rank))
    return torch.device("cuda", int(rank))


def join(device: torch.device) -> World:
    """Find the other processes that ``torchrun`` has started; alone where it has not.

    Args:
        device: Where this process computes: nccl joins those on cuda, gloo all others.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(rank=distributed.get_rank(), size=distributed.get_world_size())
