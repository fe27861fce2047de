"""A summary counts every parameter once, and those that are trained."""

from __future__ import annotations

import pytest
import torch

from deepfake_detect.models.registry import create_model
from deepfake_detect.training.model_summary import summarize


@pytest.mark.parametrize("architecture", ["meso4", "cnn4/16", "xception"])
@pytest.mark.parametrize("freeze", [None, "backbone"])
def test_parameters_are_counted_once(architecture: str, freeze: str | None) -> None:
    model = create_model(architecture, seed=0).train()
    summary = summarize(model, name="mine@0", architecture=architecture, size_px=96, freeze=freeze)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert (summary.total, summary.trainable + summary.frozen) == (total, total)
    head = sum(p.numel() for name, p in model.named_parameters() if name.startswith(f"{summary.blocks[-1].name}."))
    assert summary.trainable == (total if freeze is None else head)
    assert model.training
    assert str(summary).endswith(f"{summary.trainable:,} trainable, {summary.frozen:,} frozen")
    assert any(block.output is not None and len(block.output) == 3 for block in summary.blocks)


def test_what_needs_no_gradient_is_frozen() -> None:
    model = create_model("meso4", seed=0)
    first = next(model.parameters()).requires_grad_(False)
    assert summarize(model, name="m", architecture="meso4", size_px=64).frozen == first.numel()


def test_it_counts_as_keras_does() -> None:
    model = torch.nn.Sequential()
    model.add_module("features", torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1)))
    model.add_module("flat", torch.nn.Flatten())
    model.add_module("head", torch.nn.Linear(8, 1))
    blocks = summarize(model, name="m", architecture="x", size_px=16).blocks
    assert [(block.name, block.parameters) for block in blocks] == [("features.0", 8 * 27 + 8), ("head", 9)]
    assert blocks[0].output == (8, 14, 14)
