"""Test that a model takes over the layers of another that fit, and no others."""

from __future__ import annotations

import pytest
import torch

from deepfake_detect import WeightsMismatch, create_model
from deepfake_detect.models.timm_backbone import create_backbone
from deepfake_detect.models.transfer import take_over


def test_all_but_a_head_of_another_shape_is_taken() -> None:
    other = create_model("meso4", seed=0).state_dict()
    tensors = {
        key: value if key.startswith("features.0") else torch.zeros(7, *value.shape) for key, value in other.items()
    }
    model = create_model("meso4", seed=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsMismatch, match="start from weights of the same architecture"):
        take_over(model, tensors)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    tensors = {key: torch.zeros(3) if key == "head.logit.bias" else value for key, value in other.items()}
    taken = take_over(model, tensors)
    assert taken.new == ("head.logit.bias",)
    assert torch.equal(model.state_dict()["head.logit.bias"], before["head.logit.bias"])
    assert all(torch.equal(model.state_dict()[key], other[key]) for key in taken.layers)
    assert 0.99 < taken.share < 1


def test_names_of_timm_count_with_and_without_net() -> None:
    model, other = create_backbone("mobilenetv3_small_050"), create_backbone("mobilenetv3_small_050")
    trunk = {key: value for key, value in other.net.state_dict().items() if not key.startswith("classifier")}
    taken = take_over(model, trunk)
    assert sorted(taken.new) == ["net.classifier.bias", "net.classifier.weight"]
    assert torch.equal(model.net.conv_stem.weight, other.net.conv_stem.weight)
    again = create_backbone("mobilenetv3_small_050")
    assert take_over(again.net, other.state_dict()).share == 1.0


def test_half_precision_becomes_single() -> None:
    model = create_model("cnn4", seed=1)
    take_over(model, {key: value.half() for key, value in create_model("cnn4", seed=0).state_dict().items()})
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_another_network_is_refused_with_numbers() -> None:
    with pytest.raises(WeightsMismatch, match=r"file\.safetensors: 0 of \d+ layers, 0% of the model's weights"):
        take_over(create_model("cnn4", seed=0), create_backbone("mobilenetv3_small_050").state_dict(),
                  where="file.safetensors")  # fmt: skip
