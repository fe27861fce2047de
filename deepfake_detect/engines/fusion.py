"""Trace a network, and find the operations that are computed together with a convolution."""

from __future__ import annotations

import copy
import functools
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
    """A convolution, and what is computed with it: batch norm, sum, activation.

    Attributes:
        conv: The convolution.
        nodes: Of the graph, the convolution first.
        norm: Folded into the weights.
        added: The node that is added to the result.
        activation: oneDNN's name, and its numbers.
    """

    conv: nn.Conv2d
    nodes: list[fx.Node]
    norm: nn.BatchNorm2d | None = None
    added: fx.Node | None = None
    activation: _Activation = (None, ())

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The maps, and what is added to the result."""
        return (self.nodes[0].args[0], *([] if self.added is None else [self.added]))

    def weights(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of the convolution, the batch norm folded in."""
        conv, norm = self.conv, self.norm
        if norm is None:
            return conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        statistics = (mean, variance, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        return weight.detach(), bias.detach()


def trace_network(model: nn.Module) -> fx.Graph:
    """Find what a network computes, with layers as single operations; batch norms have theirs inside.

    ``torch.fx.Tracer.trace`` replaces methods of ``torch.nn.Module`` for the whole process while it runs, so that every
    model that another thread runs meanwhile ends up in its graph, or fails. Here the layers of a copy are replaced
    instead, which shares the weights of the network; the network and the process stay as they are.

    Args:
        model: Its graph is that of evaluation mode.

    Returns:
        The graph, without identities and dropout; its nodes name the layers of ``model``.

    Raises:
        Exception: Of torch.fx, of many kinds: the network cannot be traced.
    """
    graph = _Tracer().trace_copy(copy_structure(model).eval())
    modules = dict(model.named_modules())
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], nn.Identity | nn.Dropout):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    return graph


def copy_structure(model: nn.Module) -> nn.Module:
    """Copy the modules of a network, which share its weights and buffers."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def find_chains(
    graph: fx.Graph, modules: dict[str, nn.Module], shapes: dict[fx.Node, torch.Size]
) -> dict[fx.Node, Chain]:
    """Find the convolutions and what is computed with them, by the last node of each, where it will run."""
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
    inner = getattr(norm, "act", None)  # of timm
    activation = named_activation(inner)
    if inner is None or isinstance(inner, nn.Identity) or activation is not None:
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
    """Return oneDNN's name for an activation, and its numbers; None for any other module."""
    if isinstance(module, nn.Hardtanh):  # ReLU6 too
        return "hardtanh", (module.min_val, module.max_val)
    if isinstance(module, nn.LeakyReLU):
        return "leaky_relu", (module.negative_slope,)
    names = {nn.ReLU: "relu", nn.SiLU: "swish", nn.Sigmoid: "sigmoid", nn.Hardswish: "hardswish"}
    name = names.get(type(module))
    return None if name is None else (name, ())


class _Tracer(fx.Tracer):
    """Records the calls of layers; batch norms are layers, with the activation that those of timm have inside."""

    def trace_copy(self, root: nn.Module) -> fx.Graph:
        """Trace a network whose modules may be changed."""
        self.root, self.graph = root, fx.Graph(tracer_cls=type(self))
        self.tensor_attrs = {}
        pictures = self.create_proxy("placeholder", "batch", (), {})
        for name, module in list(root.named_modules()):
            if name and self.is_leaf_module(module, name):
                module.forward = functools.partial(self.create_layer, name)
            else:
                self._replace_weights(name, module)
        logits = root.forward(pictures)
        self.create_node("output", "output", (self.create_arg(logits),), {})
        for node in list(self.graph.nodes):
            if node.op == "get_attr" and not node.users:
                self.graph.erase_node(node)
        return self.graph

    def create_layer(self, name: str, *args: Any, **kwargs: Any) -> fx.Proxy:
        """Record the call of a layer."""
        layer: fx.Proxy = self.create_proxy("call_module", name, args, kwargs)
        return layer

    def _replace_weights(self, name: str, module: nn.Module) -> None:
        """Let a module that computes with weights of its own read what stands for them."""
        for attribute in [*module._parameters, *module._buffers]:
            if getattr(module, attribute) is not None:
                target = f"{name}.{attribute}".removeprefix(".")
                module.__dict__[attribute] = self.create_proxy("get_attr", target, (), {})

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)
