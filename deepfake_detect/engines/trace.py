"""Record the list of a network's operations from the network itself."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from deepfake_detect.engines.fusion import named_activation, trace_network
from deepfake_detect.engines.outline import Operation
from deepfake_detect.errors import BackendUnavailable

_Kind = tuple[str, dict[str, Any]]

_FUNCTIONS: dict[Any, str] = {
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    operator.mul: "multiply",
    operator.imul: "multiply",
    torch.mul: "multiply",
    torch.relu: "relu",
    nn.functional.relu: "relu",
    torch.sigmoid: "sigmoid",
    nn.functional.silu: "swish",
}


def record(model: nn.Module) -> tuple[Operation, ...] | None:
    """Record what a network computes in use.

    Args:
        model: Maps [N, 3, H, W] to logits. It stays as it is.

    Returns:
        The operations, the pictures first and the logits last; None where the network cannot be traced, or has
        operations that OpenVINO's graph is not built of here. `try_record` says which.

    Example:
        >>> from deepfake_detect import create_model
        >>> from deepfake_detect.engines.outline import known_outline
        >>> record(create_model("meso4", seed=0)) == known_outline("meso4")
        True
    """
    try:
        return try_record(model)
    except BackendUnavailable:
        return None


def try_record(model: nn.Module) -> tuple[Operation, ...]:
    """Record what a network computes in use, as `record` does.

    Raises:
        BackendUnavailable: It cannot be traced, or has an operation of an unknown kind; the message says which.
    """
    try:
        return _Recorder(model).record(trace_network(model))
    except Exception as error:  # of the tracer, in as many ways as networks differ
        lines = str(error).splitlines() or [""]
        raise BackendUnavailable(
            f"the operations of {type(model).__name__} are not known ({type(error).__name__}: {lines[0]})"
        ) from error


class _Recorder:
    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.outline: list[Operation] = []
        self.places: dict[fx.Node, int] = {}

    def record(self, graph: fx.Graph) -> tuple[Operation, ...]:
        for node in graph.nodes:
            if node.op == "placeholder":
                self._add(node, "pictures", {})
            elif node.op == "call_module":
                self._module(node)
            elif node.op in ("call_function", "call_method"):
                self._call(node)
            elif node.op != "output":
                raise NotImplementedError(node.op)
        return tuple(self.outline)

    def _add(self, node: fx.Node, kind: str, settings: dict[str, Any], *, weights: str = "") -> None:
        inputs = tuple(self.places[other] for other in node.all_input_nodes)
        shapes = _shapes(self.modules[weights]) if weights else {}
        operation = Operation(kind=kind, inputs=inputs, weights=weights, shapes=shapes, settings=settings)
        self.outline.append(operation)
        self.places[node] = len(self.outline) - 1

    def _module(self, node: fx.Node) -> None:
        module, name = self.modules[str(node.target)], str(node.target)
        activation = named_activation(module)
        if activation is not None:
            self._add(node, *_activated(*activation))
        elif isinstance(module, nn.BatchNorm2d):
            self._norm(node, module)
        else:
            known = (recorded(module) for type_, recorded in _MODULES.items() if isinstance(module, type_))
            kind, settings = next(known, ("", {}))
            _require(kind, f"{name}, a {type(module).__name__}")
            self._add(node, kind, settings, weights=name if kind in ("conv", "linear") else "")

    def _norm(self, node: fx.Node, module: nn.BatchNorm2d) -> None:
        """Record a batch norm, and the activation that those of timm have inside."""
        if module.running_mean is None:
            raise NotImplementedError("a batch norm without statistics")
        self._add(node, "norm", {"eps": module.eps}, weights=str(node.target))
        inner = getattr(module, "act", None)
        if inner is not None and not isinstance(inner, nn.Identity):
            activation = named_activation(inner)
            if activation is None:
                raise NotImplementedError(type(inner).__name__)
            kind, settings = _activated(*activation)
            self.outline.append(Operation(kind=kind, inputs=(self.places[node],), settings=settings))
            self.places[node] = len(self.outline) - 1

    def _call(self, node: fx.Node) -> None:
        first, *rest = node.args
        _require(isinstance(first, fx.Node) or node.target is torch.cat, "arguments that are no layers' outputs")
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if node.target in _FUNCTIONS:
            nodes = [value for value in node.args if isinstance(value, fx.Node)]
            others = node.kwargs.keys() - {"inplace"}
            _require(
                len(nodes) == len(node.args) and len(node.all_input_nodes) == len(nodes) and not others,
                "arguments beside the inputs",
            )
            self._add(node, _FUNCTIONS[node.target], {})
        elif node.target is torch.cat:
            _require(node.kwargs.get("dim", rest[0] if rest else 0) == 1, "a concatenation along another dimension")
            self._add(node, "concat", {})
        elif name == "mean":
            dims, keep = node.kwargs.get("dim", rest[0] if rest else None), node.kwargs.get("keepdim", len(rest) > 1)
            _require(tuple(dims) in ((2, 3), (-2, -1)), "a mean over other dimensions")  # type: ignore[arg-type]
            self._add(node, "mean", {"keep": bool(keep)})
        elif name == "flatten":
            _require(node.kwargs.get("start_dim", rest[0] if rest else 0) == 1, "a flattening that keeps dimensions")
            self._add(node, "flatten", {})
        elif name == "sigmoid":
            self._add(node, "sigmoid", {})
        elif name == "squeeze" and tuple(rest) == (1,):
            self.places[node] = self.places[first]  # type: ignore[index]
        else:
            raise NotImplementedError(name)


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in module.state_dict().items() if "." not in name}


def _activated(kind: str | None, numbers: tuple[float, ...]) -> _Kind:
    return str(kind), {"numbers": list(numbers)} if numbers else {}


def _conv(module: Any) -> _Kind:
    _require(module.padding_mode == "zeros" and not isinstance(module.padding, str), "another padding")
    names = ("stride", "padding", "dilation")
    return "conv", {**{name: _pair(getattr(module, name)) for name in names}, "groups": module.groups}


def _max_pool(module: Any) -> _Kind:
    _require(_pair(module.dilation) == [1, 1] and not module.ceil_mode, "a dilated pooling")
    return "max_pool", {name: _pair(getattr(module, name)) for name in ("kernel_size", "stride", "padding")}


def _adaptive(module: Any) -> _Kind:
    size = _pair(module.output_size)
    return ("mean", {"keep": True}) if size == [1, 1] else ("adaptive_pool", {"size": size})


def _flatten(module: Any) -> _Kind:
    _require(module.start_dim == 1, "a flattening that keeps dimensions")
    return "flatten", {}


_MODULES: dict[type[nn.Module], Callable[[Any], _Kind]] = {
    nn.Conv2d: _conv,
    nn.Linear: lambda _: ("linear", {}),
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.Flatten: _flatten,
}


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if isinstance(value, int) else [int(number) for number in value]


def _require(condition: object, otherwise: str) -> None:
    """Give up on a network that does something that an `Operation` cannot express."""
    if not condition:
        raise NotImplementedError(otherwise)
