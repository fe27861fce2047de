"""Find 68 landmarks of a face, for masks and for warping one face onto another.

The network of ``faceapi_landmark68.pth``: four dense blocks of separable convolutions, then a dense layer.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

SIDE_PX = 112
_MEAN = (122.782, 117.001, 104.298)
_WIDTHS = (32, 64, 128, 256)

EYES = {"right eye": range(36, 42), "left eye": range(42, 48)}
BROWS = {"right eye": range(17, 22), "left eye": range(22, 27)}
NOSE, MOUTH, JAW = range(27, 36), range(48, 68), range(17)


class Landmarks(nn.Module):
    """Map pictures of faces [N, 3, 112, 112], 0..255 less the mean and divided by 255, to [N, 68, 2] in shares."""

    def __init__(self) -> None:
        super().__init__()
        self.d = nn.ModuleList(_block(before, after) for before, after in zip((3, *_WIDTHS), _WIDTHS, strict=False))
        self.fc = nn.Linear(_WIDTHS[-1], 136)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """See the class."""
        for block in self.d:
            total = first = functional.relu(_separable(block, 0, functional.pad(maps, (0, 1, 0, 1)), stride=2))
            for number in (1, 2, 3):
                total = total + _separable(block, number, first if number == 1 else functional.relu(total), stride=1)
            maps = functional.relu(total)
        points: torch.Tensor = self.fc(maps.mean((2, 3))).reshape(-1, 68, 2)
        return points


def load_landmarks(folder: Path) -> Landmarks:
    """Load the network from the folder of the starting weights."""
    network = Landmarks()
    network.load_state_dict(torch.load(folder / "faceapi_landmark68.pth", weights_only=True, map_location="cpu"))
    return network.eval()


def find_landmarks(network: Landmarks, pixels: np.ndarray, box_xyxy: tuple[float, ...]) -> np.ndarray:
    """Find the landmarks of a face [H, W, 3] uint8 RGB.

    Returns:
        [68, 2] in pixels.
    """
    left, top, right, bottom = box_xyxy
    side = 1.1 * max(right - left, bottom - top)
    corner = np.array([(left + right - side) / 2, (top + bottom - side) / 2])
    scale = SIDE_PX / side
    matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    crop = cv2.warpAffine(pixels, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    batch = torch.from_numpy((crop.astype(np.float32) - _MEAN) / 255).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        return np.asarray(network(batch)[0].numpy() * side + corner)


def _block(before: int, after: int) -> nn.ModuleDict:
    layers: dict[str, nn.Module] = {"conv0": nn.Conv2d(3, after, 3)} if before == 3 else {}
    for number in range(1 if before == 3 else 0, 4):
        width = before if number == 0 else after
        layers[f"dw{number}"] = nn.Conv2d(width, width, 3, groups=width, bias=False)
        layers[f"pw{number}"] = nn.Conv2d(width, after, 1)
    return nn.ModuleDict(layers)


def _separable(block: nn.Module, number: int, maps: torch.Tensor, *, stride: int) -> torch.Tensor:
    layers = dict(block.named_children())
    padding = 0 if stride == 2 else 1  # the stride of two pads below and to the right, outside
    if number == 0 and "conv0" in layers:
        return functional.conv2d(maps, layers["conv0"].weight, layers["conv0"].bias, stride=stride)
    deep = layers[f"dw{number}"]
    maps = functional.conv2d(maps, deep.weight, stride=stride, padding=padding, groups=maps.shape[1])
    result: torch.Tensor = layers[f"pw{number}"](maps)
    return result
