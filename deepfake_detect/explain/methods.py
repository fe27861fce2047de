"""Methods that compute heat maps: Grad-CAM and its kin, integrated gradients and occlusion, for any architecture.

Maps are returned as computed: above zero lies what speaks for the class to explain, below what speaks against it;
`enlarge` scales them to the size of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepfake_detect.errors import InvalidOption
from deepfake_detect.explain.layers import Tapped, tap, undisturbed
from deepfake_detect.models.timm_backbone import Backbone

STEPS: Final = 32
"""Pictures on the path from a constant one to the real one, in `integrated_gradients`."""

CELLS: Final = 10
"""Rows and columns of the map that `occlusion` gives."""

_SMOOTH_CELLS = 32  # a map with a value for each pixel is first averaged to so many rows and columns
_AT_ONCE, _AT_ONCE_BACK = 16, 4  # pictures in a batch, without and with a backward pass


class Method(Protocol):
    """A method that computes heat maps."""

    def __call__(
        self, model: nn.Module, batch: Tensor, layer: nn.Module | None, *, sign: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Compute maps [N, h, w] and logits [N]."""


def grad_cam(model: nn.Module, batch: Tensor, layer: nn.Module | None, *, sign: float = 1.0) -> tuple[Tensor, Tensor]:
    """Weight every channel of a layer by its mean gradient.

    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV. Of
    a network that ends in a mean over the picture and one dense layer it is the class activation map.

    Args:
        model: [N, 3, S, S] to N logits.
        batch: [N, 3, S, S], on the model's device.
        layer: From `find_layer`.
        sign: 1 explains fake, -1 real.

    Returns:
        [N, h, w] before the ReLU, and the logits [N].

    Example:
        >>> from deepfake_detect import create_model
        >>> from deepfake_detect.explain.layers import find_layer
        >>> model = create_model("cnn-simple", seed=0).eval()
        >>> raw, logit = grad_cam(model, torch.zeros(2, 3, 64, 64), find_layer(model, size_px=64)[1])
        >>> raw.shape, logit.shape
        (torch.Size([2, 8, 8]), torch.Size([2]))
    """
    layer_out, slope = _tapped(model, batch, layer, sign)
    return (slope.mean((2, 3), keepdim=True) * layer_out.activation).sum(1), layer_out.logit


def grad_cam_plus_plus(
    model: nn.Module, batch: Tensor, layer: nn.Module | None, *, sign: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Weight every channel by its positive gradients, so that several small causes count like a large one.

    Chattopadhay et al. 2018, "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional
    Networks", WACV. A gradient g has the share g^2 / (2 g^2 + sum(A) g^3), which is 1 / (2 + sum(A) g).

    Args:
        model: See `grad_cam`; so for the rest.
        batch: Pictures.
        layer: From `find_layer`.
        sign: 1 for fake, -1 for real.

    Returns:
        [N, h, w] before the ReLU, and the logits [N].
    """
    layer_out, slope = _tapped(model, batch, layer, sign)
    below = 2 + layer_out.activation.sum((2, 3), keepdim=True) * slope
    share = torch.where(below == 0, 0.0, 1 / below)
    weights = (share * slope.clamp(min=0)).sum((2, 3), keepdim=True)
    return (weights * layer_out.activation).sum(1), layer_out.logit


def hirescam(model: nn.Module, batch: Tensor, layer: nn.Module | None, *, sign: float = 1.0) -> tuple[Tensor, Tensor]:
    """Multiply activation and gradient place by place, and sum over the channels.

    Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
    networks" (arXiv:2011.08891). Where one dense layer follows, the map adds up to the logit without its bias.

    Args:
        model: See `grad_cam`; so for the rest.
        batch: Pictures.
        layer: From `find_layer`.
        sign: 1 for fake, -1 for real.

    Returns:
        [N, h, w] before the ReLU, and the logits [N].
    """
    layer_out, slope = _tapped(model, batch, layer, sign)
    return (slope * layer_out.activation).sum(1), layer_out.logit


def eigen_cam(model: nn.Module, batch: Tensor, layer: nn.Module | None, *, sign: float = 1.0) -> tuple[Tensor, Tensor]:
    """Show the direction in which the activations of a layer differ most from place to place.

    Muhammad and Yeasin 2020, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN. No gradient, and so
    no class: it shows what the layer responds to, not what the logit depends on.

    Args:
        model: See `grad_cam`; so for the rest.
        batch: Pictures.
        layer: From `find_layer`.
        sign: Not used.

    Returns:
        [N, h, w], turned so that it is high where the mean activation is, and the logits [N].
    """
    layer_out = tap(model, batch, _needed(layer), gradient=False)
    places = layer_out.activation.flatten(2).transpose(1, 2)  # [N, h * w, C]
    places = places - places.mean(1, keepdim=True)
    left, strength, _ = torch.linalg.svd(places, full_matrices=False)
    first = left[:, :, 0] * strength[:, :1]  # [N, h * w]
    turned = torch.where((first * places.mean(2)).sum(1, keepdim=True) < 0, -first, first)
    return turned.view(len(turned), *layer_out.activation.shape[2:]), layer_out.logit


def integrated_gradients(
    model: nn.Module, batch: Tensor, layer: nn.Module | None = None, *, sign: float = 1.0, steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """Sum the gradients of the pixels on the path from a constant picture to the real one.

    Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", ICML. The map adds up to the difference of
    the two logits. The constant picture has the mean colour of the real one.

    Args:
        model: [N, 3, S, S] to N logits.
        batch: [N, 3, S, S], on the model's device.
        layer: Not used.
        sign: 1 for fake, -1 for real.
        steps: Number of steps; the more, the closer is the sum.

    Returns:
        [N, S, S], and the logits [N].
    """
    total, even = torch.zeros_like(batch), _even(batch)
    with undisturbed(model, batch):
        away = batch - even
        for shares in torch.split(_shares(steps).to(batch), max(1, _AT_ONCE_BACK // len(batch))):
            between = even + shares[:, None, None, None, None] * away  # [steps at once, N, 3, S, S]
            total += _input_slope(model, between.flatten(0, 1)).view(between.shape).sum(0)
        logit = model(batch)
    return sign * (total * away).sum(1) / steps, logit.float()


def occlusion(
    model: nn.Module, batch: Tensor, layer: nn.Module | None = None, *, sign: float = 1.0, cells: int = CELLS
) -> tuple[Tensor, Tensor]:
    """Cover one place after the other with a square of the mean colour, and measure how far the logit falls.

    Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", ECCV. The square covers two by two
    cells and moves by one; a cell has the mean fall of all squares that covered it.

    Args:
        model: [N, 3, S, S] to N logits.
        batch: [N, 3, S, S], on the model's device.
        layer: Not used.
        sign: 1 for fake, -1 for real.
        cells: Rows and columns of the map.

    Returns:
        [N, cells, cells], and the logits [N].
    """
    edges = torch.linspace(0, batch.shape[-1], cells + 1).round().int().tolist()
    squares = [(row, column) for row in range(cells - 1) for column in range(cells - 1)]
    fall, count = batch.new_zeros(len(batch), cells, cells), batch.new_zeros(cells, cells)
    with undisturbed(model, batch):
        logit, even = model(batch).float(), _even(batch)
        for some in _portions(squares, max(1, _AT_ONCE // len(batch))):
            covered = batch.repeat(len(some), 1, 1, 1, 1)  # [squares, N, 3, S, S]
            for copy, (row, column) in zip(covered, some, strict=True):
                copy[:, :, edges[row] : edges[row + 2], edges[column] : edges[column + 2]] = even
            fell = logit - model(covered.flatten(0, 1)).float().view(covered.shape[:2])
            for (row, column), value in zip(some, fell, strict=True):
                fall[:, row : row + 2, column : column + 2] += value[:, None, None]
                count[row : row + 2, column : column + 2] += 1
    return sign * fall / count, logit


def localise(model: nn.Module, batch: Tensor, *, sign: float = 1.0) -> tuple[Tensor, Tensor]:
    """Read the map of what is forged that a network has learned beside its verdict; one forward pass.

    Other methods ask where a score comes from; this one answers where the network sees a forgery, which is what it was
    trained to say from masks.

    Args:
        model: Its ``localise`` maps [N, 3, S, S] to N logits, and to logits of each place [N, h, w]; see `has_map`.
        batch: [N, 3, S, S], on the model's device.
        sign: 1 for forged, -1 for not forged.

    Returns:
        The probability of each place [N, h, w], 0..1, and the logits [N].

    Example:
        >>> from deepfake_detect import create_model
        >>> maps, logit = localise(create_model("xception-dense", seed=0).eval(), torch.zeros(1, 3, 64, 64))
        >>> maps.shape, logit.shape
        (torch.Size([1, 4, 4]), torch.Size([1]))
    """
    with undisturbed(model, batch):
        logit, places = cast("Callable[[Tensor], tuple[Tensor, Tensor]]", model.localise)(batch)
    return torch.sigmoid(sign * places.float()), logit.float()


def has_map(model: nn.Module) -> bool:
    """Tell whether a network has learned a map of what is forged.

    Example:
        >>> from deepfake_detect import create_model
        >>> has_map(create_model("meso4")), has_map(create_model("xception-dense"))
        (False, True)
    """
    return hasattr(model.net if isinstance(model, Backbone) else model, LOCALISE)


METHODS: Final[dict[str, Method]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "hirescam": hirescam,
    "eigen-cam": eigen_cam,
    "integrated-gradients": integrated_gradients,
    "occlusion": occlusion,
}
"""The methods that work for every network, by name."""

LOCALISE: Final = "localise"
"""The name of `localise`."""

NAMES: Final = (*METHODS, LOCALISE)
"""Every choice of ``method=``."""

OF_PIXELS: Final = frozenset({"integrated-gradients", "occlusion"})
"""Methods that work on pixels, and need no layer."""

ODD: Final = frozenset({"grad-cam", "hirescam", "integrated-gradients", "occlusion"})
"""Methods whose map for real is the one for fake with its sign changed."""


def enlarge(raw: Tensor, *, size_px: int) -> Tensor:
    """Scale maps to the size of the picture.

    Bilinear, as other libraries do. One with a value for each pixel is averaged to 32 rows and columns first: single
    pixels are noise.

    Args:
        raw: [N, h, w].
        size_px: Side of the picture.

    Returns:
        [N, size_px, size_px].

    Example:
        >>> enlarge(torch.eye(2)[None], size_px=4)[0, 0]
        tensor([1.0000, 0.7500, 0.2500, 0.0000])
    """
    maps = raw[:, None]
    if raw.shape[-1] > _SMOOTH_CELLS and raw.shape[-1] >= size_px:
        maps = functional.adaptive_avg_pool2d(maps, _SMOOTH_CELLS)
    return functional.interpolate(maps, (size_px, size_px), mode="bilinear", align_corners=False)[:, 0]


def _tapped(model: nn.Module, batch: Tensor, layer: nn.Module | None, sign: float) -> tuple[Tapped, Tensor]:
    layer_out = tap(model, batch, _needed(layer))
    gradient = torch.zeros_like(layer_out.activation) if layer_out.gradient is None else layer_out.gradient
    return layer_out, sign * gradient


def _needed(layer: nn.Module | None) -> nn.Module:
    if layer is None:
        raise InvalidOption("layer is None, expected one of the model's layers; find_layer chooses it")
    return layer


def _even(batch: Tensor) -> Tensor:
    """Return the mean colour of each picture, [N, 3, 1, 1]."""
    return batch.mean((2, 3), keepdim=True)


def _shares(steps: int) -> Tensor:
    """Return the position of each step on the path, [steps] in 0..1: the middle of its interval."""
    return (torch.arange(steps) + 0.5) / steps


def _input_slope(model: nn.Module, pictures: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = pictures.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model(leaf.clone()).float().sum(), leaf)
    return torch.as_tensor(slope)


def _portions(places: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    return (places[first : first + size] for first in range(0, len(places), size))
