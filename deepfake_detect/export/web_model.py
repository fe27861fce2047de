"""Prepare a detector's ONNX model for a web page: weights stored in float16, and a heat map as an output."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import torch

from deepfake_detect.export.onnx_export import network_of
from deepfake_detect.export.onnx_model import compose_model
from deepfake_detect.weights.card import Card

INPUT: Final = "pixels"
"""Name of the input: float32 [N, 3, H, W], normalised."""

LOGIT: Final = "logit"
"""Name of the output that holds the logits [N]."""

HEAT: Final = "heat"
"""Name of the output that holds the heat maps [N, rows, columns]."""

_SMALLEST = 32  # numbers of a tensor from which the node that turns it into float32 is worth its bytes


HeatKind = Literal["grad-cam", "forged"]
"""What the heat maps are: Grad-CAM, above zero what speaks for fake; or how likely each place is forged, 0..1."""


def make_web_model(model: torch.nn.Module, card: Card) -> tuple[bytes, HeatKind | None]:
    """Make the ONNX file of a page.

    It computes in float32, so that the scores stay those of Python; weights that float16 holds without loss, as those
    of the packaged bundles, are stored so. A network with a map of what is forged has that as the output `HEAT`. Where
    a network ends in a mean over the picture and one dense layer, Grad-CAM of the last map has a closed form, which
    becomes that output: the map's channels, weighted by the layer.

    Args:
        model: Maps [N, 3, H, W] to N logits.
        card: Of the model.

    Returns:
        The file, and what its output `HEAT` is; None where it has none.

    Raises:
        MissingExtra: The extra ``[onnx]`` is not installed.
        BackendUnavailable: The network cannot be translated.
    """
    # batch norms stay apart: the weights of a bundle are float16 as they are, folded ones would lose digits
    proto = compose_model(network_of(model, card.preprocessing.size_px, "float32", fold=False), card=card)
    heat = _add_heat(proto.graph)
    _store_in_half(proto.graph)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content, heat


def _add_heat(graph: Any) -> HeatKind | None:
    """Add the output `HEAT`, where the network has a map that it can be made of."""
    from onnx import TensorProto, helper, numpy_helper

    forged, tail = _forged_map(graph), _pooled_linear(graph)
    if forged is None and tail is None:
        return None
    source = forged or "heat_sum"
    if forged is None and tail is not None:  # the sum over the channels is Grad-CAM times the number of places
        maps, weight = tail
        weight = np.ascontiguousarray(weight.reshape(1, -1, 1, 1))
        graph.initializer.append(numpy_helper.from_array(weight, "heat_weight"))
        graph.node.append(helper.make_node("Conv", [maps, "heat_weight"], [source], kernel_shape=[1, 1]))
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "heat_axis"))
    graph.node.append(helper.make_node("Squeeze", [source, "heat_axis"], [HEAT]))
    graph.output.append(helper.make_tensor_value_info(HEAT, TensorProto.FLOAT, ["batch", "rows", "columns"]))
    return "grad-cam" if forged is None else "forged"


def _forged_map(graph: Any) -> str | None:
    """Find a network's own map of what is forged: the sigmoid of a convolution to one channel."""
    channels = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 4}
    singles = {node.output[0] for node in graph.node if node.op_type == "Conv" and channels.get(node.input[1]) == 1}
    return next((n.output[0] for n in graph.node if n.op_type == "Sigmoid" and n.input[0] in singles), None)


def _pooled_linear(graph: Any) -> tuple[str, np.ndarray] | None:
    """Follow the logit back to the map that it is a weighted mean of: the map, and the weights of its channels."""
    from onnx import numpy_helper

    makers = {output: node for node in graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    node = makers[LOGIT]
    weight = None
    while node is not None:
        if node.op_type == "Gemm" and weight is None and node.input[1] in tensors:
            weight = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float32)
        elif node.op_type == "GlobalAveragePool" and weight is not None and weight.size == max(weight.shape):
            return node.input[0], weight
        elif node.op_type not in ("Reshape", "Flatten", "Squeeze", "Identity"):
            return None
        node = makers.get(node.input[0])
    return None


def _store_in_half(graph: Any) -> None:
    """Store what float16 holds without loss in float16, and turn it into float32 as the file is loaded."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _SMALLEST:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
