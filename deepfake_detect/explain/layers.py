"""Choose the layer that a heat map is of, and capture its activations and gradients."""

from __future__ import annotations

import difflib
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from deepfake_detect.errors import LayerNotFound
from deepfake_detect.system.threads import ForkSafeLock

HOOKING: Final = ForkSafeLock()
"""Held while a hook is set or removed, and while a model is copied: other threads may be using it."""

_MOST_EXTRA_TOKENS = 8  # class, distillation and register tokens, which stand before those of the patches
_FOUND: weakref.WeakKeyDictionary[nn.Module, dict[tuple[str | None, int], str]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tapped:
    """Activations of a layer, and the gradient of the logit by them.

    Attributes:
        activation: [N, C, h, h] float32.
        gradient: [N, C, h, h] float32, of each logit by the activation; None where it was not wanted.
        logit: [N] float32.
    """

    activation: Tensor
    gradient: Tensor | None
    logit: Tensor


def find_layer(model: nn.Module, name: str | None = None, *, size_px: int) -> tuple[str, nn.Module]:
    """Choose the layer whose output is a map of the picture.

    Args:
        model: [N, 3, size_px, size_px] to N logits.
        name: As in ``model.named_modules()``. None takes the last layer without layers inside, in running order, whose
            output is a map wider than one pixel. Of a network of tokens it is the last normalisation that the logit
            depends on through the tokens of patches: behind it, the class token alone counts.
        size_px: Side of the input; a layer may be a map at one size and a single pixel at another.

    Returns:
        Its name, and the layer. The result is cached as long as the model lives.

    Raises:
        LayerNotFound: There is no such layer (the nearest is offered), or its output is no map.

    Example:
        >>> from deepfake_detect import create_model
        >>> find_layer(create_model("cnn-simple", seed=0), size_px=64)[0]
        'features.2.2'
    """
    with HOOKING:
        known = _FOUND.setdefault(model, {})
    if (name, size_px) not in known:
        known[name, size_px] = _last_map(model, size_px) if name is None else _named_map(model, name, size_px)
    chosen = known[name, size_px]
    return chosen, model.get_submodule(chosen)


def tap(model: nn.Module, batch: Tensor, layer: nn.Module, *, gradient: bool = True) -> Tapped:
    """Run a model once, and capture activation and gradient of a layer.

    The graph begins at the layer: what lies before it runs as in use, and the backward pass covers only the rest.
    Computed in float32, also inside ``torch.autocast`` and ``torch.inference_mode``; the model is left as it
    was, and other threads may use it meanwhile.

    Args:
        model: [N, 3, S, S] to N logits.
        batch: [N, 3, S, S], on the model's device.
        layer: One of its modules; the last of several calls counts.
        gradient: Whether to run the backward pass.

    Returns:
        Activation, gradient and logit.

    Raises:
        LayerNotFound: The layer was not run, or its output is no map.
    """
    thread, leaves = threading.get_ident(), list[Tensor]()

    def watch(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != thread or as_map(output) is None:
            return None
        leaf: Tensor = output.detach().clone().requires_grad_(gradient)
        leaves.append(leaf)
        torch.set_grad_enabled(gradient)  # until the end of `undisturbed`
        return leaf.clone()  # what follows may change it in place

    with undisturbed(model, batch):
        with _hooked([(layer, watch)]):
            logit = model(batch)
        if not leaves:
            raise LayerNotFound(f"the layer {type(layer).__name__} gave no map of the picture; see find_layer")
        slope = _slope(logit, leaves[-1]) if gradient else None
    return Tapped(activation=_map(leaves[-1].detach()), gradient=slope, logit=logit.detach().float())


@contextmanager
def undisturbed(model: nn.Module, batch: Tensor) -> Iterator[None]:
    """Run a model in eval mode and float32, without gradients unless they are turned on inside, and restore all.

    Args:
        model: Its training flags are restored.
        batch: On the device of the model.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True


def as_map(output: Any) -> Tensor | None:
    """Interpret a layer's output as a map of the picture.

    Args:
        output: Of a square picture: [N, C, h, h]; or with the channels last; or tokens [N, T, C], of which the last
            h * h are the patches.

    Returns:
        [N, C, h, h], or None where the output is no map wider than one pixel.

    Example:
        >>> as_map(torch.zeros(1, 17, 32)).shape
        torch.Size([1, 32, 4, 4])
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 4 and output.shape[1] == output.shape[2] != output.shape[3]:
        output = output.permute(0, 3, 1, 2)  # [N, C, h, h]
    if output.ndim == 3:
        side = math.isqrt(output.shape[1])
        extra = output.shape[1] - side**2
        if extra > _MOST_EXTRA_TOKENS:
            return None
        output = output[:, extra:].transpose(1, 2).unflatten(2, (side, side))  # [N, C, h, h]
    return output if output.ndim == 4 and output.shape[2] == output.shape[3] > 1 else None


def _map(output: Tensor) -> Tensor:
    values = as_map(output)
    if values is None:
        raise LayerNotFound(f"the layer gave {_described(output)}, which is no map of the picture; see find_layer")
    return values.float()


def _slope(logit: Tensor, leaf: Tensor) -> Tensor:
    if not logit.requires_grad:
        return torch.zeros_like(_map(leaf.detach()))
    (slope,) = torch.autograd.grad(logit.float().sum(), leaf, allow_unused=True)
    return _map(torch.zeros_like(leaf) if slope is None else slope)


def _last_map(model: nn.Module, size_px: int) -> str:
    leaves = {name: module for name, module in model.named_modules() if name and not [*module.children()]}
    outputs = _outputs(model, leaves, size_px)
    for name in reversed(outputs):
        output = outputs[name]
        if as_map(output) is None or (output.ndim == 3 and "norm" not in type(leaves[name]).__name__.lower()):
            continue
        if output.ndim == 4 or _is_reached(model, leaves[name], size_px):
            return name
    raise LayerNotFound(
        f"{type(model).__name__} has no layer that gives a map wider than one pixel at {size_px} px; "
        "the methods 'occlusion' and 'integrated-gradients' need none"
    )


def _named_map(model: nn.Module, name: str, size_px: int) -> str:
    layers = dict(model.named_modules())
    if not name or name not in layers:
        close = difflib.get_close_matches(name, [known for known in layers if known], n=1, cutoff=0)
        offer = f"; did you mean {close[0]!r}?" if close else ""
        raise LayerNotFound(f"{type(model).__name__} has no layer called {name!r}{offer}")
    output = _outputs(model, {name: layers[name]}, size_px).get(name)
    if as_map(output) is None:
        gives = "is not run" if output is None else f"gives {_described(output)}, which is no map of the picture"
        raise LayerNotFound(f"the layer {name!r} {gives}; {_last_map(model, size_px)!r} is the last that gives one")
    return name


def _described(output: Any) -> str:
    return str([*output.shape]) if isinstance(output, Tensor) else type(output).__name__


def _outputs(model: nn.Module, layers: Mapping[str, nn.Module], size_px: int) -> dict[str, Any]:
    """Run the model once, and return the last output of each layer, in running order."""
    thread, outputs = threading.get_ident(), dict[str, Any]()

    def note(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            outputs.pop(name, None)
            outputs[name] = output

    probe = _probe(model, size_px)
    with undisturbed(model, probe), _hooked([(layer, partial(note, name)) for name, layer in layers.items()]):
        model(probe)
    return outputs


@contextmanager
def _hooked(hooks: Sequence[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    with HOOKING:
        handles = [layer.register_forward_hook(hook) for layer, hook in hooks]
    try:
        yield
    finally:
        with HOOKING:
            for handle in handles:
                handle.remove()


def _is_reached(model: nn.Module, layer: nn.Module, size_px: int) -> bool:
    slope = tap(model, _probe(model, size_px), layer).gradient
    return slope is not None and bool(slope.any())


def _probe(model: nn.Module, size_px: int) -> Tensor:
    """Return noise in place of a picture: on a constant one, layers that matter may be inactive."""
    noise = torch.rand(1, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    weight = next(model.parameters(), noise)
    return noise.to(weight.device)
