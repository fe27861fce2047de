"""Tests of the pictures of feature maps and kernels."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepfake_detect import Detector, ImageUnreadable, LayerNotFound, create_model
from deepfake_detect.drawing.heatmap import heat_colours
from deepfake_detect.explain.activations import feature_maps, filters, strongest
from tests.small_world import CARD, PORTRAIT, empty_scene, small_detector

TILE, GAP, TEXT = 88, 6, 16


class Colours(nn.Module):
    """Channels that are known: red, green, blue less red, and nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 1, bias=False)
        self.mix.weight.data[:, :, 0, 0] = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 1.0], [0, 0, 0]])
        self.head = nn.Linear(4, 1)

    def forward(self, batch: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.mix(batch).mean((2, 3)))[:, 0])


def tile(picture: np.ndarray, place: int) -> np.ndarray:
    left, top = GAP + place % 8 * (TILE + GAP), GAP + place // 8 * (TILE + TEXT + GAP)
    return picture[top : top + TILE, left : left + TILE]


def test_channels_of_a_known_layer_are_drawn_strongest_first() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32, :, 1] = 250  # the upper half is green
    picture[:, :32, 0] = 120  # the left half is a weaker red
    detector = Detector(model=Colours(), card=CARD, device="cpu")
    drawn = np.asarray(feature_maps(detector, picture, "mix", faces="none"))
    hot, cold = heat_colours([1.0, 0.0])
    green, red = tile(drawn, 1), tile(drawn, 2)
    assert green[10, 10] == pytest.approx(hot, abs=2) and green[-10, 10] == pytest.approx(cold, abs=40)
    lower = red[-10].astype(int)
    assert lower[10] == pytest.approx(hot, abs=2)
    assert np.abs(lower[10] - lower[-10]).max() > 40
    assert np.asarray(drawn).shape[1] == GAP + 5 * (TILE + GAP)


def test_the_strongest_are_those_that_differ_from_place_to_place() -> None:
    maps = torch.stack([torch.full((4, 4), 9.0), torch.eye(4), 3 * torch.eye(4)])
    assert strongest(maps) == [2, 1, 0]


def test_layers_by_name_and_their_number() -> None:
    detector = small_detector()
    few = feature_maps(detector, PORTRAIT, count=3)
    assert few.size == (GAP + 4 * (TILE + GAP), GAP + TILE + TEXT + GAP)
    with pytest.raises(LayerNotFound, match="did you mean"):
        feature_maps(detector, PORTRAIT, "features.00")
    with pytest.raises(ImageUnreadable, match="no face was found"):
        feature_maps(detector, empty_scene())


def test_filters_are_the_weights() -> None:
    model = create_model("meso4", seed=0)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    weights = first.weight.detach().numpy()
    drawn = np.asarray(filters(model))
    scale = np.abs(weights).max()
    for number in range(len(weights)):
        side = weights.shape[-1]
        middle = ((np.arange(side) + 0.5) * TILE / side).astype(int)
        shown = tile(drawn, number)[np.ix_(middle, middle)].astype(float)
        wanted = 127.5 + 127.5 * weights[number].transpose(1, 2, 0) / scale
        assert shown == pytest.approx(wanted, abs=1)


def test_filters_of_deeper_layers_are_grey_and_of_none_refused() -> None:
    model = create_model("cnn-simple", seed=0)
    drawn = np.asarray(filters(model, "features.1.0", count=4))
    assert np.ptp(tile(drawn, 0), -1).max() == 0
    assert np.asarray(filters(small_detector())).ndim == 3
    with pytest.raises(LayerNotFound, match=r"no convolution called 'features\.1\.1'"):
        filters(model, "features.1.1")
