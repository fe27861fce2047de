"""Copy the weights of another network into a new one, as far as they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from deepfake_detect.errors import WeightsMismatch

LEAST_SHARE = 0.2
"""Share of a model's weights that must be filled in; with fewer, the two networks differ too much."""

_NET = "net."  # prefix of timm's networks in our models


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Which weights of a model were filled in by `take_over`.

    Attributes:
        layers: Keys of its state dict that were filled in.
        new: Keys that keep their random weights, usually those of the head.
        share: Share of the model's weights that were filled in, 0..1.
    """

    layers: tuple[str, ...]
    new: tuple[str, ...]
    share: float


def take_over(model: nn.Module, tensors: Mapping[str, torch.Tensor], *, where: str = "the weights") -> Taken:
    """Fill in every layer of a model for which there is a tensor of the same name and shape; leave the others.

    This starts a detector from a network that was trained for another task. The prefix ``net.``, which our models put
    before the names of timm's networks, may be there or missing.

    Args:
        model: Changed in place.
        tensors: State dict of the other network.
        where: What the tensors are called in error messages.

    Returns:
        Which weights were filled in.

    Raises:
        WeightsMismatch: Fewer than `LEAST_SHARE` of the model's weights would be filled in; the model is unchanged.

    Example:
        >>> from deepfake_detect import create_model
        >>> take_over(create_model("meso4", seed=1), create_model("meso4", seed=0).state_dict()).share
        1.0
    """
    state = model.state_dict()
    matched = {key: value for name, value in tensors.items() if (key := _key(name, state)) is not None}
    fitting = {key: value.to(state[key].dtype) for key, value in matched.items() if value.shape == state[key].shape}
    total = sum(value.numel() for value in state.values())
    share = sum(value.numel() for value in fitting.values()) / max(1, total)
    if share < LEAST_SHARE:
        raise WeightsMismatch(
            f"{where}: {len(fitting)} of {len(tensors)} layers, {share:.0%} of the model's weights, have a namesake of "
            f"the same shape, expected {LEAST_SHARE:.0%} at least; start from weights of the same architecture"
        )
    model.load_state_dict({**state, **fitting})
    return Taken(layers=tuple(sorted(fitting)), new=tuple(sorted(state.keys() - fitting.keys())), share=share)


def _key(name: str, state: Mapping[str, torch.Tensor]) -> str | None:
    names = (name, _NET + name, name.removeprefix(_NET))
    return next((key for key in names if key in state), None)
