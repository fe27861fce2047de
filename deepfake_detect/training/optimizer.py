"""Which weights learn at which rate, and what is their average?"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from deepfake_detect.models.head import head_of
from deepfake_detect.training.schedule import Schedule


class Average:
    """The exponential moving average of a model's weights and buffers.

    The decay grows from 0.1 to the one that is asked for, so that the first epochs do not lag behind.

    Args:
        model: Averaged from here on.
        decay: 0 follows the model.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, *, step: int) -> None:
        """Take in the model's present weights, after so many steps."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        own, new = self.model.state_dict(), model.state_dict()
        moving = [name for name, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in moving], [new[name] for name in moving], weight)
        for name in own.keys() - set(moving):
            own[name].copy_(new[name])


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Build the optimiser; each group has a ``scale``, its share of the rate.

    Biases and norms have no weight decay. With ``layer_decay`` below 1, each block learns slower than the next one.
    """
    depth = _depths(model) if schedule.layer_decay < 1 else dict.fromkeys(dict(model.named_parameters()), 0)
    deepest = max(depth.values(), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = schedule.layer_decay ** (deepest - depth[name])
        groups.setdefault((scale, schedule.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    listed = [{"params": members, "weight_decay": decay, "scale": scale} for (scale, decay), members in groups.items()]
    return _kind(listed, schedule)


def set_frozen(model: nn.Module, *, frozen: bool) -> None:
    """Put a model into training mode, all of it, or its head alone.

    In a frozen backbone the weights have no gradient, and batch norms neither use nor change the statistics of the
    batch.
    """
    model.train()
    model.requires_grad_(True)
    if frozen:
        _, head = head_of(model)
        model.eval()
        model.requires_grad_(False)
        head.train()
        head.requires_grad_(True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    """Give the optimiser's state under stable names."""
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state[parameter].items():
            if value is not None:
                yield f"{index}.{name}", torch.as_tensor(value)


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = _parameters(optimizer)
    optimizer.state.clear()
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        like_weights = (
            value.shape == parameter.shape and value.ndim > 0
        )  # in the same order in memory: fused steps need it
        kept = torch.empty_like(parameter, dtype=value.dtype).copy_(value) if like_weights else value.clone()
        optimizer.state[parameter][key] = kept.detach()  # what is counted is counted on the CPU


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _kind(groups: list[dict[str, Any]], schedule: Schedule) -> torch.optim.Optimizer:
    if schedule.optimizer == "nadam":
        return torch.optim.NAdam(groups, lr=schedule.lr)
    if schedule.optimizer == "sgd":  # not fused: that takes no weights that have been frozen so far
        momentum = schedule.momentum
        return torch.optim.SGD(groups, lr=schedule.lr, momentum=momentum, nesterov=momentum > 0)
    places = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = True if places <= {"cpu", "cuda"} else None  # 3 times as fast
    return (torch.optim.Adam if schedule.optimizer == "adam" else torch.optim.AdamW)(
        groups, lr=schedule.lr, fused=fused
    )


def _depths(model: nn.Module) -> dict[str, int]:
    """Count the blocks before each parameter, in the order in which they were made; the head is one."""
    head, blocks = head_of(model)[0], dict[str, int]()
    depth = {}
    for name, _ in model.named_parameters():
        parts = name.removeprefix("net.").split(".")
        block = ".".join(parts[: 2 if len(parts) > 2 and parts[1].isdecimal() else 1])
        block = head if name.startswith(f"{head}.") else block
        depth[name] = blocks.setdefault(block, len(blocks))
    return depth
