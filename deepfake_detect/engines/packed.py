"""Pack a network for fast answers on a processor.

`pack` makes of a network in evaluation mode a list of steps that gives the same logits: batch norms are folded into the
convolutions before them, a sum and an activation behind a convolution are computed with it, while its result is still
in the cache, and weights are laid out once as oneDNN wants them. Eager PyTorch does none of the three.

The operators are torch's own for its compiler (``torch.ops.mkldnn``) and not promised to stay, so `pack` returns None
where one is missing or the network cannot be traced, and the packed network is compared with the network before use.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from deepfake_detect.engines.fusion import Chain, find_chains, trace_network

TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 0.25}
"""How far a packed logit may lie from that of the network, by what the convolutions compute in."""


def pack(
    model: nn.Module, batch: Tensor, *, dtype: torch.dtype = torch.float32
) -> tuple[Packed, Tensor] | tuple[None, None]:
    """Pack a network, for a processor and the number of threads that torch has at the moment.

    Args:
        model: Maps [N, 3, H, W] to logits; in evaluation mode, float32, on the CPU. It stays as it is.
        batch: Pictures as the model will see them [N, 3, H, W], float32; the packed network takes the same height and
            width.
        dtype: float32, or bfloat16 for the convolutions, their weights and maps; the rest stays float32.

    Returns:
        The packed network, which several threads may call at once, and its logits for the batch. None and None where
        the network has no convolution or cannot be traced, where the processor or torch lacks an operator, or where the
        logits of the two differ.

    Example:
        >>> from deepfake_detect import create_model
        >>> model, batch = create_model("meso4", seed=0).eval(), torch.rand(1, 3, 256, 256)
        >>> packed, logits = pack(model, batch)
        >>> torch.allclose(logits, model(batch), atol=1e-5)
        True
    """
    has_any = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if dtype not in TOLERANCE or not has_any or not _is_supported(dtype):
        return None, None
    with torch.inference_mode():
        try:
            graph = trace_network(model)
            recorder = _Shapes(model, graph)
            expected = recorder.record(batch)
            packed = Packed(_steps(graph, model, recorder.shapes, dtype))
            logits = packed(batch)
        except Exception:  # of the tracer and of private operators, in as many ways as networks differ
            return None, None
    agree = logits.shape == expected.shape and bool((logits - expected).abs().max() <= TOLERANCE[dtype])
    return (packed, logits) if agree else (None, None)


class Packed:
    """A network as a list of steps; made by `pack`.

    Args:
        steps: In the order in which they run; the first stands for the pictures, the last gives the logits.
    """

    def __init__(self, steps: list[_Step]) -> None:
        self._steps = steps

    def __call__(self, batch: Tensor) -> Tensor:
        """Map pictures [N, 3, H, W] float32 to the logits of the network, float32."""
        return _run(self._steps, batch).float()

    def splice(self, layer: str) -> Spliced | None:
        """Return the same network with one layer that hooks can be set on.

        Args:
            layer: As in ``model.named_modules()`` of the network.

        Returns:
            The network; None where the layer is computed with what follows, where something passes by it, or where a
            convolution follows, through which there is no way back.
        """
        names = (layer, layer.removesuffix(".act"))  # the activation that batch norms of timm have inside
        places = [place for place, step in enumerate(self._steps) if step.node.target in names]
        if len(places) != 1 or self._steps[places[0]].node.op != "call_module":
            return None
        before, after = self._steps[: places[0] + 1], self._steps[places[0] :]
        known = {step.node for step in after}
        used: list[fx.Node] = []
        fx.node.map_arg([(step.args, step.kwargs) for step in after[1:]], used.append)
        if not known.issuperset(used) or any(isinstance(step.call, _Convolution) for step in after[1:]):
            return None
        return Spliced(before, after).eval()


class Spliced(nn.Module):
    """A packed network whose `layer` returns the maps of one of its layers; behind that it runs as the network does.

    Args:
        before: The steps up to the layer.
        after: The step of the layer, which stands for its maps, and those behind it.
    """

    def __init__(self, before: list[_Step], after: list[_Step]) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self._before, self._after = before, after

    def forward(self, batch: Tensor) -> Tensor:
        """Map pictures [N, 3, H, W] float32 to logits."""
        maps: Tensor = self.layer(_run(self._before, batch).float())
        return _run(self._after, maps)


def _run(steps: list[_Step], value: Tensor) -> Tensor:
    """Run steps, the first of which stands for the input, and return the value of the last."""
    first, *rest = steps
    values: dict[fx.Node, Any] = {first.node: value}
    for step in rest:
        args, kwargs = fx.node.map_arg((step.args, step.kwargs), values.__getitem__)
        values[step.node] = step.call(*args, **kwargs)
        for node in step.used_up:
            del values[node]
    result: Tensor = values[steps[-1].node]
    return result


@dataclass(slots=True, eq=False)
class _Step:
    node: fx.Node  # whose value it computes
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    used_up: tuple[fx.Node, ...] = ()


class _Shapes(fx.Interpreter):
    """Runs a network once, and records the shape of every value."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.shapes: dict[fx.Node, torch.Size] = {}

    def record(self, batch: Tensor) -> Tensor:
        """Run the network; unlike `run`, which makes a bar of tqdm, without starting a thread."""
        self.env, self.args_iter = {}, iter([batch])
        for node in self.graph.nodes:
            self.env[node] = self.run_node(node)
        logits: Tensor = self.env[node]
        return logits

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = value.shape
        return value


class _Convolution:
    """A chain whose weights are laid out as oneDNN wants them."""

    def __init__(self, chain: Chain, shape: torch.Size, dtype: torch.dtype) -> None:
        conv = chain.conv
        self.dtype = dtype
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        weight, bias = chain.weights()
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight.to(dtype), *self.geometry, list(shape))
        self.bias = None if bias is None else bias.to(dtype)
        self.activation, scalars = chain.activation
        self.scalars = list(scalars)

    def __call__(self, maps: Tensor, added: Tensor | None = None) -> Tensor:
        layer = (self.weight, self.bias, *self.geometry)
        if added is None:
            activation = self.activation or "none"
            result = torch.ops.mkldnn._convolution_pointwise(maps.to(self.dtype), *layer, activation, self.scalars, "")
        else:
            both = (maps.to(self.dtype), added.to(self.dtype))
            rest = ("add", 1.0, self.activation, self.scalars, "")
            result = torch.ops.mkldnn._convolution_pointwise.binary(*both, *layer, *rest)
        return result  # type: ignore[no-any-return]


def _is_supported(dtype: torch.dtype) -> bool:
    known = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and bool(torch.backends.mkldnn.enabled)
    return known and (dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def _steps(graph: fx.Graph, model: nn.Module, shapes: dict[fx.Node, torch.Size], dtype: torch.dtype) -> list[_Step]:
    modules = dict(model.named_modules())
    chains = find_chains(graph, modules, shapes)
    inner = {node for chain in chains.values() for node in chain.nodes[:-1]}
    steps = []
    for node in graph.nodes:
        if node in inner or node.op == "output":
            continue
        chain = chains.get(node)
        if chain is None:
            args = node.args if node.op in ("call_module", "call_method", "call_function") else ()
            steps.append(_Step(node, _call(node, model, modules), args, dict(node.kwargs)))
        else:
            steps.append(_Step(node, _Convolution(chain, shapes[chain.inputs[0]], dtype), chain.inputs, {}))
    _note_last_uses(steps)
    return steps


def _call(node: fx.Node, model: nn.Module, modules: dict[str, nn.Module]) -> Callable[..., Any]:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return _in_float32(module) if isinstance(module, nn.AdaptiveAvgPool2d | nn.Linear) else module
    if node.op == "get_attr":
        constant = operator.attrgetter(str(node.target))(model)
        return lambda: constant
    if node.op == "placeholder":
        return _pictures
    if node.op == "call_method":
        name = str(node.target)
        method: Callable[..., Any] = getattr(Tensor, name)
        return _in_float32(method) if name == "mean" else method
    assert callable(node.target)
    return _in_float32(node.target) if node.target is nn.functional.linear else node.target


def _pictures() -> None:
    """Stand for the input, which is not computed."""


def _in_float32(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let an operation that sums over many values do so in float32, which is cheap."""

    @functools.wraps(call, updated=())
    def called(first: Tensor, *args: Any, **kwargs: Any) -> Any:
        return call(first.float(), *args, **kwargs)

    return called


def _note_last_uses(steps: list[_Step]) -> None:
    """Let every step drop the values that no later one uses."""
    used_later: set[fx.Node] = set()
    for step in reversed(steps):
        used: list[fx.Node] = []
        fx.node.map_arg((step.args, step.kwargs), used.append)
        step.used_up = tuple(node for node in dict.fromkeys(used) if node not in used_later)
        used_later.update(used)
