"""Draw feature maps and convolution kernels of a network.

Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", ECCV, made such pictures common. They
show what a layer responds to, not the reason of a verdict: for that see `explain`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from deepfake_detect._options import check_number
from deepfake_detect.drawing.heatmap import heat_colours
from deepfake_detect.errors import ImageUnreadable, LayerNotFound, nearest
from deepfake_detect.explain.layers import find_layer, tap
from deepfake_detect.inputs.image import ImageInput
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.system.torch_defaults import usual_defaults

_TILE_PX, _GAP_PX, _TEXT_PX, _COLUMNS = 88, 6, 16, 8
_PAPER, _INK = (255, 255, 255), (60, 60, 60)
_GREY: Final = 127.5


@usual_defaults()
def feature_maps(
    predictor: Predictor, image: ImageInput, layer: str | None = None, *, count: int = 31, faces: FaceChoice = "auto"
) -> Image.Image:
    """Draw the output of a layer for the largest face of a picture: a tile for each channel, the strongest first.

    Args:
        predictor: A `Predictor` or a `Detector`.
        image: Anything that `Predictor.predict` takes.
        layer: A name of ``predictor.model.named_modules()``; the last that gives a map where None.
        count: Most channels to draw.
        faces: See `FaceChoice`.

    Returns:
        RGB picture: the crop as the model sees it, then the channels with their numbers. Each tile runs from its own
        lowest to its own highest value, or from 0 where nothing is below.

    Raises:
        LayerNotFound: No such layer, or its output is no map.
        ImageUnreadable: Not a picture, or no face is on it.
    """
    check_number("count", count, low=1, whole=True)
    look = predictor.look(image, faces=faces)
    if not look.crops:
        raise ImageUnreadable(f"{look.name}: no face was found; faces='none' takes the picture as it is")
    card = predictor.card
    batch = to_batch(look.crops[:1], preprocessing=card.preprocessing).to(predictor.device)
    _, module = find_layer(predictor.model, layer, size_px=card.preprocessing.size_px)
    maps = tap(predictor.model, batch, module, gradient=False).activation[0].cpu()
    order = strongest(maps)[:count]
    tiles = [("face", Image.fromarray(look.crops[0]))]
    tiles += [(str(channel), Image.fromarray(heat_colours(_spread(maps[channel].numpy())))) for channel in order]
    return _grid(tiles)


def strongest(maps: Tensor) -> list[int]:
    """Order the channels of a layer by how much they differ from place to place.

    Args:
        maps: [C, h, w].

    Returns:
        Channels, the one with the largest deviation first.

    Example:
        >>> strongest(torch.tensor([[[0.0, 1.0]], [[0.0, 3.0]], [[2.0, 2.0]]]))
        [1, 0, 2]
    """
    return [int(channel) for channel in torch.argsort(maps.flatten(1).std(1), descending=True, stable=True)]


def filters(model: nn.Module | Predictor, layer: str | None = None, *, count: int = 64) -> Image.Image:
    """Draw the kernels of a convolution.

    Args:
        model: A network, or a detector.
        layer: A name of its ``named_modules()``; the first convolution where None.
        count: Most kernels to draw, in their order.

    Returns:
        RGB picture with a tile for each kernel: in colour where it has three input channels, else grey, the mean
        over its input channels. Grey is 0; all tiles have one scale.

    Raises:
        LayerNotFound: There is no such convolution.
        InvalidOption: ``count`` out of range.

    Example:
        >>> from deepfake_detect import create_model
        >>> filters(create_model("meso4", seed=0)).mode
        'RGB'
    """
    check_number("count", count, low=1, whole=True)
    _, convolution = _convolution(model.model if isinstance(model, Predictor) else model, layer)
    kernels = convolution.weight.detach().float().cpu().numpy()[:count]  # [C, channels in, h, w]
    if kernels.shape[1] != 3:
        kernels = kernels.mean(1, keepdims=True).repeat(3, 1)
    scale = float(np.abs(kernels).max()) or 1.0
    shades = np.clip(_GREY + _GREY * kernels / scale, 0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return _grid([(str(number), Image.fromarray(shade)) for number, shade in enumerate(shades)])


def _convolution(model: nn.Module, layer: str | None) -> tuple[str, nn.Conv2d]:
    known = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    if layer is None and known:
        return next(iter(known.items()))
    if layer not in known:
        offer = nearest(str(layer), known)
        raise LayerNotFound(f"{type(model).__name__} has no convolution called {layer!r}{offer}")
    return str(layer), known[str(layer)]


def _spread(values: np.ndarray) -> np.ndarray:
    low = min(0.0, float(values.min()))
    return (values - low) / max(1e-12, float(values.max()) - low)


def _grid(tiles: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    columns, font = min(_COLUMNS, len(tiles)), ImageFont.load_default(12)
    wide, high = _TILE_PX + _GAP_PX, _TILE_PX + _TEXT_PX + _GAP_PX
    picture = Image.new("RGB", (columns * wide + _GAP_PX, math.ceil(len(tiles) / columns) * high + _GAP_PX), _PAPER)
    draw = ImageDraw.Draw(picture)
    for place, (name, tile) in enumerate(tiles):
        left, top = _GAP_PX + place % columns * wide, _GAP_PX + place // columns * high
        smooth = Image.Resampling.BICUBIC if tile.width > _TILE_PX else Image.Resampling.NEAREST
        picture.paste(tile.resize((_TILE_PX, _TILE_PX), smooth), (left, top))
        draw.text((left + _TILE_PX / 2, top + _TILE_PX + _TEXT_PX / 2), name, fill=_INK, font=font, anchor="mm")
    return picture
