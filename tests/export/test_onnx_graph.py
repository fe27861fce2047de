"""Test that the graph of every network gives the network's logits."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from torch import nn

from deepfake_detect import BackendUnavailable, MissingExtra, Preprocessing
from deepfake_detect.engines.trace import record
from deepfake_detect.export.onnx_export import network_of
from deepfake_detect.export.onnx_model import compose_model
from deepfake_detect.models.registry import create_skeleton
from deepfake_detect.weights.onnx_file import Precision
from tests.engines.test_openvino_engine import OUTLINED
from tests.engines.test_packed import pictures, settled
from tests.small_world import CARD, Texture

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


def test_float16_halves_the_weights_and_keeps_the_logits() -> None:
    model, batch = settled("meso4", size_px=64), pictures(3, size_px=64)
    with torch.inference_mode():
        expected = model(batch).numpy()
    np.testing.assert_allclose(run(model, batch, dtype="float16"), expected, rtol=0, atol=0.02)
    card = replace(CARD, preprocessing=Preprocessing(size_px=64))
    half = compose_model(network_of(model, 64, "float16"), card=card, dtype="float16")
    kinds = {constant.data_type for constant in half.graph.initializer if constant.dims}
    assert kinds == {TensorProto.FLOAT16, TensorProto.INT64}


@pytest.mark.parametrize(("size", "wanted"), [(2, 8), (10, 4), (7, 7), (5, 1)])
def test_adaptive_pooling_cuts_areas_as_torch_does(size: int, wanted: int) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.head = nn.AdaptiveAvgPool2d((wanted, 1)), nn.Linear(3 * wanted, 1)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return self.head(self.pool(batch).flatten(1)).squeeze(1)  # type: ignore[no-any-return]

    model, batch = Pooled().eval(), pictures(3, size_px=size)
    assert record(model) is not None
    with torch.inference_mode():
        expected = model(batch).numpy()
    np.testing.assert_allclose(run(model, batch), expected, atol=1e-6)


def test_a_batch_norm_is_folded_into_a_convolution_with_bias() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.1)
    model, batch = model.eval(), pictures(3, size_px=8)
    with torch.inference_mode():
        expected = model(batch).flatten().numpy()
    np.testing.assert_allclose(run(model, batch), expected, rtol=1e-5)
    card = replace(CARD, preprocessing=Preprocessing(size_px=8))
    nodes = compose_model(network_of(model, 8, "float32"), card=card).graph.node
    assert "BatchNormalization" not in {node.op_type for node in nodes}


def test_pictures_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="smaller than the window"):
        run(settled("xception", size_px=32), pictures(1, size_px=2))


def test_a_network_without_a_list_of_operations_is_traced_by_torch() -> None:
    """VGG16 asks for the size of a map; its last layers, nearly all of its weights, are narrower here."""
    model, batch = create_skeleton("vgg16"), pictures(3, size_px=32)
    model.net.pre_logits.fc1, model.net.pre_logits.fc2 = nn.Conv2d(512, 16, 7), nn.Conv2d(16, 16, 1)
    model.net.head.fc = nn.Linear(16, 1)
    model.to_empty(device="cpu").eval()
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.kaiming_normal_(weight) if weight.ndim > 1 else nn.init.normal_(weight)
    assert record(model) is None
    with torch.inference_mode():
        expected = model(batch).numpy()
    np.testing.assert_allclose(run(model, batch), expected, rtol=0, atol=1e-4)
    assert not logging.getLogger("torch.onnx").level


def test_what_torch_cannot_trace_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    with pytest.raises(BackendUnavailable, match=r"cannot translate Texture \(ZeroDivisionError"):
        run(Texture().eval(), pictures(1, size_px=64))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r"to export a Texture needs the package onnxscript"):
        run(Texture().eval(), pictures(1, size_px=64))
