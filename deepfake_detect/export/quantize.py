"""Quantise an ONNX model to int8, with the ranges that its values take on face crops."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepfake_detect.engines.onnx_engine import require_onnxruntime


def quantize_model(model: Any, batches: Sequence[np.ndarray], *, input_name: str, keep: tuple[str, ...]) -> Any:
    """Let the convolutions and dense layers of a model compute with whole numbers of 8 bits.

    Weights have a scale for each channel and, as processors without VNNI add pairs of products in 16 bits, 7 bits: so
    the file gives the same everywhere. Values between layers have one scale each, from their range on the crops.

    Args:
        model: An ``onnx.ModelProto`` in float32. It stays as it is.
        batches: Inputs of the model, [N, ...] each.
        input_name: Of the model's input.
        keep: Nodes whose names begin with one of these stay in float32.

    Returns:
        An ``onnx.ModelProto``.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    require_onnxruntime()
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {input_name: batch}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        onnx.save(model, source)  # the quantiser would move the constants of a model in memory to a file
        quantization.quantize_static(
            source,
            target,
            Reader(),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=[node.name for node in model.graph.node if node.name.startswith(keep)],
        )
        return onnx.load(target)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the quantiser logs from the host, and from adding a handler to the root logger, which has none yet."""
    root, handler = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
