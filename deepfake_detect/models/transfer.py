"""Copy the weights of another network into a new one, as far as they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from deepfake_detect.errors import WeightsMismatch

LEAST_SHARE = 0.2
"""Below this share of its weights, a model does not begin with those of another: the networks differ too much."""

_NET = "net."  # timm's networks stand behind this in ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a model took over.

    Attributes:
        layers: Keys of its state dict that were filled in.
        new: Keys that keep their random weights: the head, as a rule.
        share: Of the model's weights, how many were filled in, 0..1.
    """

    layers: tuple[str, ...]
    new: tuple[str, ...]
    share: float


def take_over(model: nn.Module, tensors: Mapping[str, torch.Tensor], *, where: str = "the weights") -> Taken:
    """Fill in every layer of a model that has a namesake of the same shape; the others stay as they are.

    So a detector begins with the first layers of a network that was made for another task. Names count with and
    without the ``net.`` that stands before those of timm's networks.

    Args:
        model: Changed in place.
        tensors: Name to value, of another network.
        where: Named in the error.

    Returns:
        What was taken over.

    Raises:
        WeightsMismatch: Fewer than `LEAST_SHARE` of the model's weights would be filled in; the model is unchanged.

    Example:
        >>> from deepfake_detect import create_model
        >>> take_over(create_model("meso4", seed=1), create_model("meso4", seed=0).state_dict()).share
        1.0
    """
    state = model.state_dict()
    found = {key: value for name, value in tensors.items() if (key := _key(name, state)) is not None}
    fitting = {key: value.to(state[key].dtype) for key, value in found.items() if value.shape == state[key].shape}
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
