"""Summarize a model: its blocks with output shapes, and how many parameters are trained and frozen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from deepfake_detect.models.head import head_of
from deepfake_detect.system.torch_defaults import usual_defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a model.

    Attributes:
        name: Name in ``model.named_modules()``.
        kind: Class of the module.
        output: Shape of its output for one picture; None where it was not computed.
        parameters: Number of parameters.
        trainable: Number of those that are trained.
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int
    trainable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """The blocks of a model, and its parameters.

    Attributes:
        name: Name of the detector.
        architecture: Name of the architecture.
        size_px: Side of the input in pixels.
        blocks: In order of definition.
    """

    name: str
    architecture: str
    size_px: int
    blocks: tuple[Block, ...]

    @property
    def total(self) -> int:
        """Number of parameters."""
        return sum(block.parameters for block in self.blocks)

    @property
    def trainable(self) -> int:
        """Number of parameters that are trained."""
        return sum(block.trainable for block in self.blocks)

    @property
    def frozen(self) -> int:
        """Number of parameters that are frozen."""
        return self.total - self.trainable

    def __str__(self) -> str:
        width = max((len(block.name) for block in self.blocks), default=0)
        lines = [f"{self.name}: {self.architecture}, input 3 x {self.size_px} x {self.size_px}"]
        for block in self.blocks:
            output = "" if block.output is None else " x ".join(map(str, block.output))
            frozen = "  frozen" if block.trainable < block.parameters else ""
            lines.append(f"  {block.name:<{width}}  {block.kind:<22} {output:<16} {block.parameters:>12,}{frozen}")
        lines.append(f"{self.total:,} parameters: {self.trainable:,} trainable, {self.frozen:,} frozen")
        return "\n".join(lines)


def summarize(
    model: nn.Module, *, name: str, architecture: str, size_px: int, freeze: str | int | None = None
) -> ModelSummary:
    """Summarize a model.

    Args:
        model: A detector's model.
        name: Name of the detector.
        architecture: Name of the architecture.
        size_px: Side of the input in pixels.
        freeze: ``"backbone"`` counts everything but the head as frozen; see `Schedule`.
    """
    head = head_of(model)[0]
    names = list(dict.fromkeys(_block_of(key, head) for key, _ in model.named_parameters()))
    outputs = _outputs(model, names, size_px)
    blocks = []
    for block_name in names:
        module = model.get_submodule(block_name)
        parameters = [parameter for key, parameter in model.named_parameters() if _block_of(key, head) == block_name]
        count = sum(parameter.numel() for parameter in parameters)
        frozen = freeze == "backbone" and block_name != head
        trainable = 0 if frozen else sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        kind, output = type(module).__name__, outputs.get(block_name)
        blocks.append(Block(name=block_name, kind=kind, output=output, parameters=count, trainable=trainable))
    return ModelSummary(name=name, architecture=architecture, size_px=size_px, blocks=tuple(blocks))


def _block_of(parameter: str, head: str) -> str:
    """Return the block of a parameter: two levels of numbered modules, else one; the head is a block."""
    if parameter.startswith(f"{head}."):
        return head
    prefix = "net." if parameter.startswith("net.") else ""  # networks of timm
    parts = parameter.removeprefix(prefix).split(".")[:-1]
    return prefix + ".".join(parts[: 2 if len(parts) > 1 and parts[1].isdecimal() else 1])


def _outputs(model: nn.Module, names: list[str], size_px: int) -> dict[str, tuple[int, ...]]:
    """Return the output shapes of some modules for one picture."""
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                shapes[name] = tuple(output.shape[1:])

        return model.get_submodule(name).register_forward_hook(hook)

    handles, was_training = [keep(name) for name in names], model.training
    try:
        with usual_defaults(), torch.no_grad():
            device = next(model.parameters()).device
            model.eval()(torch.zeros(1, 3, size_px, size_px, dtype=torch.float32, device=device))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return shapes
