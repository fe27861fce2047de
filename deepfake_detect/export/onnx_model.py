"""Make an ONNX model of a network and a card: preprocessing, logit, score and metadata in one file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from deepfake_detect._version import __version__
from deepfake_detect.export.onnx_graph import OPSET, Nodes, require_onnx
from deepfake_detect.weights.card import LIBRARY, Card
from deepfake_detect.weights.onnx_file import LAYOUT, UNSEALED, Input, Precision, sealed
from deepfake_detect.weights.onnx_file import PREFIX as METADATA_PREFIX

IR_VERSION = 8
"""Layout of the ONNX file; the lowest that has `OPSET`, so that older runtimes read it."""

LOGIT, SCORE = "logit", "score"
"""Names of the outputs."""

_CALIBRATION = ("temperature", "bias")  # constants that have the names of the card's fields

PREFIX = "detector_"
"""What the names of values begin with that do not belong to the network."""


def compose_model(
    network: Callable[[Nodes, str], str], *, card: Card, dtype: Precision = "float32", input_kind: Input = "pixels"
) -> Any:
    """Put a network between the preprocessing and the calibration of a card.

    Args:
        network: Adds its nodes to a graph, given the name of the normalised pictures, and returns that of the logits.
        card: Gives size, mean, std, temperature and bias.
        dtype: What the network computes in; the rest is float32.
        input_kind: ``"pixels"`` or ``"crops"``.

    Returns:
        An ``onnx.ModelProto`` without metadata; its batch is dynamic.
    """
    onnx = require_onnx()
    from onnx import TensorProto, helper

    graph = Nodes(prefix=PREFIX)
    pixels = "pixels" if input_kind == "pixels" else _normalised(graph, card)
    if dtype == "float16":
        pixels = graph.add("Cast", pixels, to=TensorProto.FLOAT16)
    graph.prefix = ""
    logits = network(graph, pixels)
    graph.prefix = PREFIX
    if dtype == "float16":
        logits = graph.add("Cast", logits, to=TensorProto.FLOAT)
    graph.add("Reshape", logits, graph.constant(np.array([-1])), name=LOGIT)
    temperature, bias = (graph.constant(np.array(getattr(card, name), np.float32), name=name) for name in _CALIBRATION)
    graph.add("Sigmoid", graph.add("Add", graph.add("Div", LOGIT, temperature), bias), name=SCORE)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            card.id,
            [_input(card, input_kind)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in (LOGIT, SCORE)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=LIBRARY,
        producer_version=__version__,
    )
    onnx.checker.check_model(model)
    return model


def with_card(model: Any, card: Card) -> Any:
    """Return an exported model with the calibration of another card of the same weights.

    Args:
        model: An ``onnx.ModelProto`` that `compose_model` made; it is changed.
        card: Gives temperature and bias.
    """
    from onnx import numpy_helper

    for constant in model.graph.initializer:
        if constant.name in _CALIBRATION:
            value = np.array(getattr(card, constant.name), np.float32)
            constant.CopyFrom(numpy_helper.from_array(value, constant.name))
    return model


def to_bytes(model: Any, *, card: Card, dtype: Precision, input_kind: Input) -> bytes:
    """Write the metadata into a model, and give the bytes of its file.

    Args:
        model: An ``onnx.ModelProto``.
        card: Of the weights; its sha256 is that of the weights in a bundle.
        dtype: What the network computes in.
        input_kind: ``"pixels"`` or ``"crops"``.
    """
    from onnx import helper

    metadata = {
        "layout": LAYOUT,
        "card": card.to_json(),
        "weights_sha256": card.sha256,
        "labels": json.dumps(card.classes),
        "threshold": json.dumps(card.threshold),
        "uncertain": json.dumps(card.uncertain),
        "licence": card.licence,
        "dtype": dtype,
        "input": input_kind,
        "sha256": UNSEALED,
    }
    helper.set_model_props(model, {f"{METADATA_PREFIX}{name}": value for name, value in metadata.items()})
    content: bytes = model.SerializeToString(deterministic=True)
    return sealed(content)


def _input(card: Card, kind: Input) -> Any:
    from onnx import TensorProto, helper

    size_px = card.preprocessing.size_px
    if kind == "pixels":
        return helper.make_tensor_value_info(kind, TensorProto.FLOAT, ["batch", 3, size_px, size_px])
    return helper.make_tensor_value_info(kind, TensorProto.UINT8, ["batch", size_px, size_px, 3])


def _normalised(graph: Nodes, card: Card) -> str:
    """Add what `normalise` does to crops, step for step."""
    from onnx import TensorProto

    look = card.preprocessing
    mean, std = np.array(look.mean, np.float32), np.array(look.std, np.float32)
    numbers = graph.add("Cast", "crops", to=TensorProto.FLOAT)
    scaled = graph.add("Mul", numbers, graph.constant(1 / (255 * std)))
    shifted = graph.add("Sub", scaled, graph.constant(mean / std))
    return graph.add("Transpose", shifted, perm=[0, 3, 1, 2])
