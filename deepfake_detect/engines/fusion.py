"""Which operations of a network are computed together?"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_Activation = tuple[str | None, tuple[float, ...]]
_ADDS = (operator.add, operator.iadd, torch.add)
_RELUS = (torch.relu, nn.functional.relu)


@dataclass(slots=True, eq=False)
class Chain:
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


def traced(model: nn.Module) -> fx.Graph:
    """Find what a network in evaluation mode computes; batch norms are taken whole."""
    graph = _Tracer().trace(model)
    modules = dict(model.named_modules())
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], nn.Identity | nn.Dropout):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    return graph


def find_chains(
    graph: fx.Graph, modules: dict[str, nn.Module], shapes: dict[fx.Node, torch.Size]
) -> dict[fx.Node, Chain]:
    """Find the convolutions and what goes with them; each stands under its last node, where it will run."""
    chains: dict[fx.Node, Chain] = {}
    taken: set[fx.Node] = set()
    for node in graph.nodes:
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        chain = Chain(conv, [node])
        _take_norm(chain, modules)
        _take_sum(chain, shapes, taken)
        _take_activation(chain, modules)
        taken.update(chain.nodes)
        chains[chain.nodes[-1]] = chain
    return chains


def _take_norm(chain: Chain, modules: dict[str, nn.Module]) -> None:
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


def _take_sum(chain: Chain, shapes: dict[fx.Node, torch.Size], taken: set[fx.Node]) -> None:
    last = chain.nodes[-1]
    node = _only_user(last)
    if node is None or node in taken or node.target not in _ADDS or node.kwargs or chain.activation[0]:
        return
    other = node.args[1] if node.args[0] is last else node.args[0]
    if isinstance(other, fx.Node) and shapes.get(other) == shapes[last] and other is not last:
        chain.added = other
        chain.nodes.append(node)


def _take_activation(chain: Chain, modules: dict[str, nn.Module]) -> None:
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


class _Tracer(fx.Tracer):
    """Takes batch norms whole, with the activation that those of timm have inside."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)
