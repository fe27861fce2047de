"""Build the optimizer, freeze the backbone, and average the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from deepfake_detect.models.head import head_of
from deepfake_detect.training.schedule import Schedule


class Average:
    """The exponential moving average of the weights and buffers of a model.

    The decay grows from 0.1 to the given one, so that the first epochs do not lag behind. It begins with the present
    weights, not with those after the first step.

    Args:
        model: The model to follow.
        decay: Final decay; 0 copies the model.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self._averaged = AveragedModel(model, multi_avg_fn=self._move, use_buffers=True)
        self.model = self._averaged.module.requires_grad_(False).eval()

    def update(self, model: nn.Module, *, step: int) -> None:
        """Add the present weights of the model to the average, after ``step`` steps."""
        self._share = 1 - min(self.decay, (1 + step) / (10 + step))
        self._averaged.n_averaged.fill_(1)  # at 0 the average would become the present weights
        self._averaged.update_parameters(model)

    def _move(self, averages: Any, values: Any, _: torch.Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, self._share)
        else:  # counters
            torch._foreach_copy_(averages, values)


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Build the optimizer; each parameter group has a ``scale``, its factor on the learning rate.

    Biases and norms have no weight decay. With ``layer_decay`` below 1, earlier blocks have lower learning rates.
    """
    depth = _depths(model) if schedule.layer_decay < 1 else dict.fromkeys(dict(model.named_parameters()), 0)
    deepest = max(depth.values(), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = schedule.layer_decay ** (deepest - depth[name])
        groups.setdefault((scale, schedule.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    listed = [{"params": members, "weight_decay": decay, "scale": scale} for (scale, decay), members in groups.items()]
    return _of_kind(listed, schedule)


def set_frozen(model: nn.Module, *, frozen: bool) -> None:
    """Put a model into training mode: all of it, or the head alone.

    In a frozen backbone the weights have no gradient, and batch norms neither use nor update batch statistics.
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
    """Yield the state of the optimizer under stable names."""
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state[parameter].items():
            if value is not None:
                yield f"{index}.{name}", torch.as_tensor(value)


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what `optimizer_tensors` yielded."""
    parameters = _parameters(optimizer)
    optimizer.state.clear()
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        like_weights = value.shape == parameter.shape and value.ndim > 0  # fused steps need the same memory format
        restored = torch.empty_like(parameter, dtype=value.dtype).copy_(value) if like_weights else value.clone()
        optimizer.state[parameter][key] = restored.detach()  # step counters stay on the CPU


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _of_kind(groups: list[dict[str, Any]], schedule: Schedule) -> torch.optim.Optimizer:
    if schedule.optimizer == "nadam":
        return torch.optim.NAdam(groups, lr=schedule.lr)
    if schedule.optimizer == "sgd":  # not fused: fused SGD fails for weights that were frozen so far
        momentum = schedule.momentum
        return torch.optim.SGD(groups, lr=schedule.lr, momentum=momentum, nesterov=momentum > 0)
    places = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = True if places <= {"cpu", "cuda"} else None  # 3 times as fast
    return (torch.optim.Adam if schedule.optimizer == "adam" else torch.optim.AdamW)(
        groups, lr=schedule.lr, fused=fused
    )


def _depths(model: nn.Module) -> dict[str, int]:
    """Return the number of blocks before each parameter, in order of definition; the head is one block."""
    head, blocks = head_of(model)[0], dict[str, int]()
    depth = {}
    for name, _ in model.named_parameters():
        parts = name.removeprefix("net.").split(".")
        block = ".".join(parts[: 2 if len(parts) > 2 and parts[1].isdecimal() else 1])
        block = head if name.startswith(f"{head}.") else block
        depth[name] = blocks.setdefault(block, len(blocks))
    return depth
