"""How does a network answer as fast as a processor lets it?

`pack` makes of a network in evaluation mode a list of steps that gives the same logits: batch norms are folded into the
convolutions before them, a sum and an activation behind a convolution are computed with it, while its result is still
in the cache, and weights are laid out once as oneDNN wants them. Eager PyTorch does none of the three.

The operators are torch's own for its compiler (``torch.ops.mkldnn``) and not promised to stay, so `pack` gives None
where one is missing or the network cannot be traced, and what it makes is compared with the network before it is used.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 0.25}
"""How far a packed logit may lie from that of the network, by what the convolutions compute in."""

_Activation = tuple[str | None, tuple[float, ...]]
_ADDS = (operator.add, operator.iadd, torch.add)
_RELUS = (torch.relu, nn.functional.relu)


def pack(
    model: nn.Module, batch: Tensor, *, dtype: torch.dtype = torch.float32
) -> tuple[Packed, Tensor] | tuple[None, None]:
    """Make the fast twin of a network, for a processor and the number of threads that torch has at the moment.

    Args:
        model: Maps [N, 3, H, W] to logits; in evaluation mode, float32, on the CPU. It stays as it is.
        batch: Pictures as the model will see them [N, 3, H, W], float32; the twin takes the same height and width.
        dtype: float32, or bfloat16 for the convolutions, their weights and maps; the rest stays float32.

    Returns:
        The twin, which several threads may call at once, and its logits for the batch. None and None where there is
        none: the network has no convolution or cannot be traced, the processor or torch lacks what it takes, or the
        twin and the network do not agree on the batch.

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
            graph = traced(model)
            recorder = _Shapes(fx.GraphModule(model, graph))
            expected = recorder.run(batch)
            packed = Packed(_steps(graph, model, recorder.shapes, dtype))
            found = packed(batch)
        except Exception:  # of the tracer and of private operators, in as many ways as networks differ
            return None, None
    agree = found.shape == expected.shape and bool((found - expected).abs().max() <= TOLERANCE[dtype])
    return (packed, found) if agree else (None, None)


class Packed:
    """A network as a list of steps; made by `pack`.

    Args:
        steps: In the order in which they run; the first stands for the pictures, the last gives the logits.
    """

    def __init__(self, steps: list[_Step]) -> None:
        self._steps = steps

    def __call__(self, batch: Tensor) -> Tensor:
        """Map pictures [N, 3, H, W] float32 to the logits of the network, float32."""
        first, *rest = self._steps
        values: dict[fx.Node, Any] = {first.node: batch}
        for step in rest:
            args, kwargs = fx.node.map_arg((step.args, step.kwargs), values.__getitem__)
            values[step.node] = step.call(*args, **kwargs)
            for node in step.used_up:
                del values[node]
        logits: Tensor = values[self._steps[-1].node].float()
        return logits


@dataclass(slots=True, eq=False)
class _Step:
    node: fx.Node  # whose value it gives
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    used_up: tuple[fx.Node, ...] = ()


class _Tracer(fx.Tracer):
    """Takes batch norms whole, with the activation that those of timm have inside."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Runs a network once, and notes the shape of every value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = value.shape
        return value


@dataclass(slots=True, eq=False)
class _Chain:
    """A convolution, and what is computed with it: batch norm, sum, activation."""

    conv: nn.Conv2d
    nodes: list[fx.Node]
    norm: nn.BatchNorm2d | None = None
    added: fx.Node | None = None
    activation: _Activation = (None, ())

    @property
    def inputs(self) -> tuple[Any, ...]:
        """Give the maps, and what is added to the result."""
        return (self.nodes[0].args[0], *([] if self.added is None else [self.added]))

    def weights(self) -> tuple[Tensor, Tensor | None]:
        """Give weight and bias of the convolution, the batch norm folded in."""
        conv, norm = self.conv, self.norm
        if norm is None:
            return conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        assert norm.running_mean is not None and norm.running_var is not None
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        return weight.detach(), bias.detach()


class _Convolution:
    """A chain whose weights lie as oneDNN wants them."""

    def __init__(self, chain: _Chain, shape: torch.Size, dtype: torch.dtype) -> None:
        conv = chain.conv
        self.dtype = dtype
        self.place = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        weight, bias = chain.weights()
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight.to(dtype), *self.place, list(shape))
        self.bias = None if bias is None else bias.to(dtype)
        self.activation, scalars = chain.activation
        self.scalars = list(scalars)

    def __call__(self, maps: Tensor, added: Tensor | None = None) -> Tensor:
        own = (self.weight, self.bias, *self.place)
        if added is None:
            activation = self.activation or "none"
            result = torch.ops.mkldnn._convolution_pointwise(maps.to(self.dtype), *own, activation, self.scalars, "")
        else:
            both = (maps.to(self.dtype), added.to(self.dtype))
            rest = ("add", 1.0, self.activation, self.scalars, "")
            result = torch.ops.mkldnn._convolution_pointwise.binary(*both, *own, *rest)
        return result  # type: ignore[no-any-return]


def _is_supported(dtype: torch.dtype) -> bool:
    known = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and bool(torch.backends.mkldnn.enabled)
    return known and (dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def traced(model: nn.Module) -> fx.Graph:
    """Find what a network in evaluation mode computes; batch norms are taken whole."""
    graph = _Tracer().trace(model)
    modules = dict(model.named_modules())
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], nn.Identity | nn.Dropout):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    return graph


def _steps(graph: fx.Graph, model: nn.Module, shapes: dict[fx.Node, torch.Size], dtype: torch.dtype) -> list[_Step]:
    modules = dict(model.named_modules())
    chains = _chains(graph, modules, shapes)
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
    """Stand for what is given, not computed."""


def _in_float32(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let what sums over many values do so in float32: it is cheap."""

    @functools.wraps(call, updated=())
    def called(first: Tensor, *args: Any, **kwargs: Any) -> Any:
        return call(first.float(), *args, **kwargs)

    return called


def _chains(graph: fx.Graph, modules: dict[str, nn.Module], shapes: dict[fx.Node, torch.Size]) -> dict[fx.Node, _Chain]:
    """Find the convolutions and what goes with them; each stands under its last node, where it will run."""
    chains: dict[fx.Node, _Chain] = {}
    taken: set[fx.Node] = set()
    for node in graph.nodes:
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        chain = _Chain(conv, [node])
        _take_norm(chain, modules)
        _take_sum(chain, shapes, taken)
        _take_activation(chain, modules)
        taken.update(chain.nodes)
        chains[chain.nodes[-1]] = chain
    return chains


def _take_norm(chain: _Chain, modules: dict[str, nn.Module]) -> None:
    node = _only_user(chain.nodes[-1])
    norm = modules.get(str(node.target)) if node is not None and node.op == "call_module" else None
    if node is None or not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
        return
    inside = getattr(norm, "act", None)  # timm's
    activation = named_activation(inside)
    if inside is None or isinstance(inside, nn.Identity) or activation is not None:
        chain.norm = norm
        chain.nodes.append(node)
        chain.activation = activation or (None, ())


def _take_sum(chain: _Chain, shapes: dict[fx.Node, torch.Size], taken: set[fx.Node]) -> None:
    last = chain.nodes[-1]
    node = _only_user(last)
    if node is None or node in taken or node.target not in _ADDS or node.kwargs or chain.activation[0]:
        return
    other = node.args[1] if node.args[0] is last else node.args[0]
    if isinstance(other, fx.Node) and shapes.get(other) == shapes[last] and other is not last:
        chain.added = other
        chain.nodes.append(node)


def _take_activation(chain: _Chain, modules: dict[str, nn.Module]) -> None:
    node = _only_user(chain.nodes[-1])
    if node is None or chain.activation[0]:
        return
    if node.op == "call_module":
        activation = named_activation(modules[str(node.target)])
    else:
        activation = ("relu", ()) if node.target in _RELUS else None
    if activation is not None:
        chain.activation = activation
        chain.nodes.append(node)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def named_activation(module: Any) -> _Activation | None:
    """Give oneDNN's word for an activation."""
    if isinstance(module, nn.Hardtanh):  # ReLU6 too
        return "hardtanh", (module.min_val, module.max_val)
    if isinstance(module, nn.LeakyReLU):
        return "leaky_relu", (module.negative_slope,)
    words = {nn.ReLU: "relu", nn.SiLU: "swish", nn.Sigmoid: "sigmoid", nn.Hardswish: "hardswish"}
    word = words.get(type(module))
    return None if word is None else (word, ())


def _note_last_uses(steps: list[_Step]) -> None:
    """Let every step forget the values that no later one asks for."""
    seen: set[fx.Node] = set()
    for step in reversed(steps):
        used: list[fx.Node] = []
        fx.node.map_arg((step.args, step.kwargs), used.append)
        step.used_up = tuple(node for node in dict.fromkeys(used) if node not in seen)
        seen.update(used)
