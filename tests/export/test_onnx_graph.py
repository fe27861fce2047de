"""Test that the graph of every network gives the network's logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from deepfake_detect import Preprocessing
from deepfake_detect.export.onnx_export import network_of
from deepfake_detect.export.onnx_model import compose_model
from deepfake_detect.weights.onnx_file import Precision
from tests.engines.test_openvino_engine import OUTLINED
from tests.engines.test_packed import pictures, settled
from tests.small_world import CARD

SIZES_PX = {"efficientnet-b4": 96}


def run(model: nn.Module, batch: torch.Tensor, *, dtype: Precision = "float32") -> np.ndarray:
    """Run the ONNX graph of a network on the processor."""
    card = replace(CARD, preprocessing=Preprocessing(size_px=batch.shape[-1]))
    proto = compose_model(network_of(model, batch.shape[-1], dtype), card=card, dtype=dtype)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logit"], {"pixels": batch.numpy()})[0])


@pytest.mark.parametrize("name", OUTLINED)
def test_the_logits_are_those_of_the_network(name: str) -> None:
    size_px = SIZES_PX.get(name, 64)
    model, batch = settled(name, size_px=size_px), pictures(3, size_px=size_px)
    with torch.inference_mode():
        expected = model(batch).numpy()
    np.testing.assert_allclose(run(model, batch), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))
