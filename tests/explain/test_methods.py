"""Test heat maps against closed forms, brute force and pytorch-grad-cam.

Closed forms where there are any, brute force for occlusion, and pytorch-grad-cam as a second opinion for every
architecture.
"""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM
from torch import Tensor, nn

from deepfake_detect import create_model, list_models
from deepfake_detect.explain.layers import as_map, find_layer
from deepfake_detect.explain.methods import (
    METHODS,
    ODD,
    eigen_cam,
    enlarge,
    grad_cam,
    grad_cam_plus_plus,
    hirescam,
    integrated_gradients,
    occlusion,
)

EVERY = [*list_models(), "timm:vit_tiny_patch16_224"]
LARGE = {"timm:vit_tiny_patch16_224": 224}


class MeanThenLinear(nn.Module):
    """Two convolutions, the mean over the picture, one dense layer: Grad-CAM has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4))
        self.head = nn.Linear(8, 1)

    def forward(self, batch: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.features(batch).mean((2, 3)))[:, 0])


class Square(nn.Module):
    """The logit is the mean brightness of a square, less that of another."""

    def forward(self, batch: Tensor) -> Tensor:
        return batch[:, :, 8:16, 4:12].mean((1, 2, 3)) - batch[:, :, 24:32, 24:32].mean((1, 2, 3))


def some(size_px: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))


def prepared(name: str) -> tuple[nn.Module, Tensor, nn.Module]:
    """Give a model whose norms have seen something, a batch, and the layer that is looked at."""
    size_px = LARGE.get(name, 96)
    model, batch = create_model(name, seed=3, dropout=0.0), some(size_px)
    with torch.no_grad():
        model.train()(batch)
    model.requires_grad_(requires_grad=False)  # gradients of the weights cost much, and nobody needs them
    return model.eval(), batch, find_layer(model, size_px=size_px)[1]


def scaled(maps: Tensor, size_px: int) -> np.ndarray:
    """Cut below zero, spread to 0..1 and enlarge, as the other library does."""
    found = []
    for one in maps.clamp(min=0):
        first = (one - one.min()) / (1e-7 + (one - one.min()).max())
        large = enlarge(first[None], size_px=size_px)[0]
        found.append(((large - large.min()) / (1e-7 + (large - large.min()).max())).numpy())
    return np.stack(found)


@pytest.mark.parametrize("name", EVERY)
def test_the_second_opinion_agrees_for_every_architecture(name: str) -> None:
    model, batch, layer = prepared(name)
    size_px, times = batch.shape[-1], 100.0
    reshape = (lambda output: as_map(output)) if "vit" in name else None
    for ours, theirs in ((grad_cam, GradCAM), (hirescam, HiResCAM), (grad_cam_plus_plus, GradCAMPlusPlus)):
        raw, logit = ours(model, batch, layer, sign=times)  # large gradients: theirs adds 1e-6 to a denominator
        with theirs(model=model, target_layers=[layer], reshape_transform=reshape) as other:
            expected = other(input_tensor=batch.clone().requires_grad_(), targets=[lambda output: times * output] * 2)
        assert scaled(raw, size_px) == pytest.approx(expected, abs=1e-4 if ours is grad_cam else 2e-3), ours.__name__
        with torch.no_grad():
            assert logit == pytest.approx(model(batch), abs=1e-5)


@pytest.mark.parametrize("name", ["meso4", "xception"])
def test_the_second_opinion_has_the_same_principal_component(name: str) -> None:
    model, batch, layer = prepared(name)
    raw, _ = eigen_cam(model, batch, layer)
    with EigenCAM(model=model, target_layers=[layer]) as other:
        other.compute_input_gradient = False
        other.activations_and_grads(batch)
        theirs = other.get_cam_image(
            batch, layer, [], other.activations_and_grads.activations[0].numpy(), None, eigen_smooth=False
        )
    for one, wanted in zip(raw, theirs, strict=True):
        assert abs(np.corrcoef(one.ravel(), np.ravel(wanted))[0, 1]) > 0.9999


def test_of_a_mean_and_a_dense_layer_it_is_the_class_activation_map() -> None:
    torch.manual_seed(0)
    model, batch = MeanThenLinear().eval(), some(32)
    layer = find_layer(model, size_px=32)[1]
    with torch.no_grad():
        activation = model.features(batch)
        wanted = (model.head.weight[0][:, None, None] * activation).sum(1)
    cells = activation.shape[2] * activation.shape[3]
    assert grad_cam(model, batch, layer)[0] * cells == pytest.approx(wanted, abs=1e-5)
    assert hirescam(model, batch, layer)[0].sum((1, 2)) + model.head.bias.item() == pytest.approx(
        model(batch).detach(), abs=1e-5
    )


def test_the_principal_component_follows_the_mean_activation() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Flatten(1), nn.Linear(4 * 64, 1), nn.Flatten(0))
    nn.init.constant_(model[0].weight, 0.5)
    batch = torch.zeros(1, 3, 8, 8)
    batch[:, :, 2:4, 5:7] = 1.0
    raw, _ = eigen_cam(model, batch, model[0])
    assert raw[0].flatten().argmax() in (2 * 8 + 5, 2 * 8 + 6, 3 * 8 + 5, 3 * 8 + 6)


def test_integrated_gradients_add_up_to_what_the_picture_changed() -> None:
    model, batch = create_model("meso4", seed=0).eval(), some(64)
    raw, logit = integrated_gradients(model, batch, steps=256)
    with torch.no_grad():
        even = model(batch.mean((2, 3), keepdim=True).expand_as(batch))
    assert raw.sum((1, 2)) == pytest.approx(logit - even, abs=2e-3)


def test_occlusion_is_the_fall_counted_by_hand() -> None:
    model, batch = Square(), some(32)
    raw, logit = occlusion(model, batch, cells=4)
    wanted = torch.zeros(2, 4, 4)
    count = torch.zeros(4, 4)
    for row in range(3):
        for column in range(3):
            copy = batch.clone()
            copy[:, :, 8 * row : 8 * row + 16, 8 * column : 8 * column + 16] = batch.mean((2, 3), keepdim=True)
            wanted[:, row : row + 2, column : column + 2] += (logit - model(copy))[:, None, None]
            count[row : row + 2, column : column + 2] += 1
    assert raw == pytest.approx(wanted / count, abs=1e-6)


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion"])
def test_pixels_that_matter_are_hot_and_those_against_it_cold(method: str) -> None:
    batch = some(32, 1) * 0.1
    batch[:, :, 8:16, 4:12] += 0.8
    batch[:, :, 24:32, 24:32] += 0.6
    raw, _ = METHODS[method](Square(), batch, None)
    hot = enlarge(raw, size_px=32)[0]
    assert hot[8:16, 4:12].mean() > 5 * hot[:8, 16:].abs().mean()
    assert hot[24:32, 24:32].mean() < 0


@pytest.mark.parametrize("method", sorted(ODD))
def test_what_speaks_for_real_is_the_map_for_fake_turned_round(method: str) -> None:
    model, batch = create_model("meso4", seed=0).eval(), some(64)
    layer = find_layer(model, size_px=64)[1]
    fake, real = (METHODS[method](model, batch, layer, sign=sign)[0] for sign in (1.0, -1.0))
    assert real == pytest.approx(-fake, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_has_the_same_map_alone_and_among_others(method: str) -> None:
    model, batch = create_model("cnn-simple", seed=0).eval(), some(64, 3)
    layer = find_layer(model, size_px=64)[1]
    together, _ = METHODS[method](model, batch, layer)
    alone, _ = METHODS[method](model, batch[1:2], layer)
    assert alone[0] == pytest.approx(together[1], abs=1e-5)


def test_a_layer_is_needed() -> None:
    with pytest.raises(ValueError, match="layer is None"):
        grad_cam(create_model("meso4"), some(64), None)


def test_single_pixels_are_averaged() -> None:
    raw = torch.zeros(1, 64, 64)
    raw[0, 10, 10] = 1.0
    assert float(enlarge(raw, size_px=64).max()) < 0.3
    assert enlarge(torch.ones(1, 64, 64), size_px=64) == pytest.approx(torch.ones(1, 64, 64))
