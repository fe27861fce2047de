"""Take the graph of a network that has no list of operations from torch's own ONNX exporter."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from deepfake_detect.errors import BackendUnavailable, MissingExtra
from deepfake_detect.export.onnx_graph import OPSET, Nodes


def add_traced(graph: Nodes, model: torch.nn.Module, *, pixels: str, size_px: int, dtype: torch.dtype) -> str:
    """Add a network to a graph as ``torch.onnx`` translates it: vision transformers, and whatever asks for sizes.

    Args:
        graph: It is added to this.
        model: Maps [N, 3, size_px, size_px] to logits; in evaluation mode. It stays as it is.
        pixels: Name of the value that holds the pictures, of ``dtype``.
        size_px: Side of the pictures.
        dtype: float32 or float16.

    Returns:
        Name of the value that holds the logits.

    Raises:
        MissingExtra: onnxscript, which torch translates with, is not installed.
        BackendUnavailable: torch cannot translate the network.
    """
    try:
        import onnxscript  # noqa: F401 # torch.onnx imports it, with a less helpful error
    except ImportError as error:
        raise MissingExtra(
            f"to export a {type(model).__name__} needs the package onnxscript ({error}); "
            "run: pip install 'deepfake-detect[onnx]'"
        ) from error
    network = copy.deepcopy(model).to("cpu", dtype).eval()
    example = torch.zeros(2, 3, size_px, size_px, dtype=dtype)
    logits = f"{graph.prefix}network_logits"
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[pixels],
                output_names=[logits],
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # of the translator, in as many ways as networks differ
        lines = str(error).splitlines() or [""]
        raise BackendUnavailable(
            f"torch.onnx cannot translate {type(model).__name__} ({type(error).__name__}: {lines[0]})"
        ) from error
    proto: Any = program.model_proto  # type: ignore[union-attr]
    if proto.functions or any(node.domain for node in proto.graph.node):
        raise BackendUnavailable(f"torch.onnx translates {type(model).__name__} with operators that are not of ONNX")
    graph.nodes += proto.graph.node
    graph.constants += proto.graph.initializer
    return logits


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its warnings of its own parts from the host's output."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)
