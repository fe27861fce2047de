"""Build the nodes of an ONNX graph from the list of a network's operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepfake_detect.engines.outline import GraphBuilder, Operation
from deepfake_detect.errors import MissingExtra

OPSET = 18
"""Version of ONNX's operators that exported files use; onnxruntime knows it since 1.14, and so do its web builds."""

_Shape = tuple[int, ...]  # of a value without the batch
_Value = tuple[str, _Shape]  # its name and shape


@dataclass(slots=True)
class Nodes:
    """Nodes and constants of a graph, in the order in which they run.

    Attributes:
        nodes: Of type ``onnx.NodeProto``.
        constants: Of type ``onnx.TensorProto``.
        prefix: What the names of new values begin with.
    """

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    prefix: str = ""

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the name of its output.

        Args:
            kind: Name of the operator.
            inputs: Names of values.
            name: Of the output; made up where empty.
            attributes: Of the operator.
        """
        from onnx import helper

        output = name or f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{output}_node", **attributes))
        return output

    def constant(self, values: np.ndarray, *, name: str = "") -> str:
        """Add a constant, and return its name."""
        from onnx import numpy_helper

        name = name or f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name


def require_onnx() -> Any:
    """Import onnx.

    Raises:
        MissingExtra: It is not installed, or cannot be imported.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra(
            f"to export a detector needs the package onnx ({error}); run: pip install 'deepfake-detect[onnx]'"
        ) from error
    return onnx


def add_network(
    graph: Nodes,
    outline: Sequence[Operation],
    tensors: Mapping[str, np.ndarray],
    *,
    pixels: str,
    size_hw: tuple[int, int],
    dtype: type[np.floating[Any]] = np.float32,
    fold: bool = True,
) -> str:
    """Add a network to a graph.

    Args:
        graph: It is added to this.
        outline: The operations of the network; see `known_outline`.
        tensors: Its weights, as the state dict names them; float16 or float32.
        pixels: Name of the value that holds the pictures [N, 3, H, W], of ``dtype``.
        size_hw: Height and width of the pictures.
        dtype: float32 or float16: of the constants and of all values between.
        fold: Fold batch norms into the convolutions before them; else the weights stay as they are.

    Returns:
        Name of the value that holds the logits [N, outputs], of ``dtype``.

    Raises:
        ValueError: The pictures are too small for the network.
    """
    name, _ = _Builder(graph, tensors, dtype).build(outline, (pixels, (3, *size_hw)), fold=fold)
    return str(name)


class _Builder(GraphBuilder):
    """Takes values with their shapes, and returns the same."""

    def __init__(self, graph: Nodes, tensors: Mapping[str, np.ndarray], dtype: type[np.floating[Any]]) -> None:
        super().__init__(tensors)
        self.graph, self.dtype = graph, dtype

    def conv(self, operation: Operation, maps: _Value, weight: np.ndarray, bias: np.ndarray | None) -> _Value:
        window = {**operation.settings, "kernel_size": list(weight.shape[2:])}
        constants = [self._constant(weight)] + ([] if bias is None else [self._constant(bias)])
        settings = {"group": window.pop("groups"), **_window(window)}
        return self.graph.add("Conv", maps[0], *constants, **settings), (len(weight), *_reduced(maps[1], window))

    def norm(self, operation: Operation, maps: _Value) -> _Value:
        names = ("weight", "bias", "running_mean", "running_var")
        constants = [self._constant(self.weight(operation, name)) for name in names]
        return self.graph.add("BatchNormalization", maps[0], *constants, epsilon=operation.settings["eps"]), maps[1]

    def linear(self, operation: Operation, features: _Value) -> _Value:
        weight, bias = self.weight(operation), self.bias(operation)
        constants = [self._constant(weight)] + ([] if bias is None else [self._constant(bias)])
        return self.graph.add("Gemm", features[0], *constants, transB=1), (len(weight),)

    def max_pool(self, operation: Operation, maps: _Value) -> _Value:
        window = {**operation.settings, "dilation": [1, 1]}
        shape = (maps[1][0], *_reduced(maps[1], window))
        return self.graph.add("MaxPool", maps[0], **_window(window)), shape

    def adaptive_pool(self, operation: Operation, maps: _Value) -> _Value:
        """Average over areas as torch cuts them: by two products with matrices of means, for any two sizes."""
        channels, *size_hw = maps[1]
        height, width = operation.settings["size"]
        if size_hw == [height, width]:
            return maps
        across = self.graph.add("MatMul", maps[0], self._constant(_means(size_hw[1], width).T))
        down = self.graph.add("MatMul", self._constant(_means(size_hw[0], height)), across)
        return down, (channels, height, width)

    def mean(self, operation: Operation, maps: _Value) -> _Value:
        pooled = self.graph.add("GlobalAveragePool", maps[0]), (maps[1][0], 1, 1)
        return pooled if operation.settings["keep"] else self.flatten(operation, pooled)

    def flatten(self, operation: Operation, maps: _Value) -> _Value:
        return self.graph.add("Flatten", maps[0], axis=1), (int(np.prod(maps[1])),)

    def add(self, operation: Operation, left: _Value, right: _Value) -> _Value:
        return self.graph.add("Add", left[0], right[0]), np.broadcast_shapes(left[1], right[1])

    def multiply(self, operation: Operation, left: _Value, right: _Value) -> _Value:
        return self.graph.add("Mul", left[0], right[0]), np.broadcast_shapes(left[1], right[1])

    def concat(self, operation: Operation, *maps: _Value) -> _Value:
        shape = (sum(channels for _, (channels, *_) in maps), *maps[0][1][1:])
        return self.graph.add("Concat", *(name for name, _ in maps), axis=1), shape

    def relu(self, operation: Operation, maps: _Value) -> _Value:
        return self.graph.add("Relu", maps[0]), maps[1]

    def sigmoid(self, operation: Operation, maps: _Value) -> _Value:
        return self.graph.add("Sigmoid", maps[0]), maps[1]

    def swish(self, operation: Operation, maps: _Value) -> _Value:
        return self.graph.add("Mul", maps[0], self.graph.add("Sigmoid", maps[0])), maps[1]

    def hardswish(self, operation: Operation, maps: _Value) -> _Value:
        return self.graph.add("HardSwish", maps[0]), maps[1]

    def hardtanh(self, operation: Operation, maps: _Value) -> _Value:
        limits = [self._constant(np.array(number)) for number in operation.settings["numbers"]]
        return self.graph.add("Clip", maps[0], *limits), maps[1]

    def leaky_relu(self, operation: Operation, maps: _Value) -> _Value:
        return self.graph.add("LeakyRelu", maps[0], alpha=operation.settings["numbers"][0]), maps[1]

    def _constant(self, values: np.ndarray) -> str:
        return self.graph.constant(values.astype(self.dtype))


def _window(window: Mapping[str, Any]) -> dict[str, Any]:
    """Name the settings of a convolution or a pooling as ONNX does."""
    return {
        "kernel_shape": window["kernel_size"],
        "strides": window["stride"],
        "pads": [*window["padding"], *window["padding"]],
        "dilations": window["dilation"],
    }


def _reduced(shape: _Shape, window: Mapping[str, Any]) -> _Shape:
    """Compute height and width behind a convolution or a pooling."""
    names = ("kernel_size", "stride", "padding", "dilation")
    sides = zip(shape[1:], *(window[name] for name in names), strict=True)
    reduced = tuple(
        (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for side, kernel, stride, padding, dilation in sides
    )
    if min(reduced) < 1:
        raise ValueError(f"maps of {shape[1]} x {shape[2]} are smaller than the window of {window['kernel_size']}")
    return reduced


def _means(found: int, wanted: int) -> np.ndarray:
    """Make the matrix [wanted, found] that averages over the areas that torch's adaptive pooling cuts."""
    matrix = np.zeros((wanted, found))
    for place in range(wanted):
        start, end = place * found // wanted, -(-(place + 1) * found // wanted)
        matrix[place, start:end] = 1 / (end - start)
    return matrix
