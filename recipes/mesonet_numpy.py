"""Compute the scores of the published MesoNet in plain NumPy.

A second opinion on `deepfake_detect.models.meso` and on the converter, sharing no code with either: numpy alone, in
Keras' own order of axes (height, width, channel), straight from the h5 files. Slow, in double precision, and written to
be read beside the paper (Afchar et al. 2018, https://arxiv.org/abs/1809.00888) and the authors' program. The program
has a leaky ReLU between the dense layers, which the paper leaves out and the Meso4 files do not list.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Layer = dict[str, Array]


def published_score(weights: str | Path, picture: Array) -> float:
    """Compute the output of a published network.

    Args:
        weights: One of the published h5 files; four or sixteen convolutions tell which network it is.
        picture: RGB in [0, 1], [256, 256, 3].

    Returns:
        Probability of *real*, 0 to 1, as the authors have it.
    """
    with h5py.File(weights, "r") as file:
        convs, norms, denses = (_layers(file, kind) for kind in ("conv2d", "batch_normalization", "dense"))
    maps = np.asarray(picture, dtype=np.float64)
    if len(convs) == 16:
        maps = _pool(_norm(_inception(maps, convs[0:7]), norms[0]), 2)
        maps = _pool(_norm(_inception(maps, convs[7:14]), norms[1]), 2)
        convs, norms = convs[14:], norms[2:]
    for number, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        last = number == len(convs) - 1
        maps = _pool(_norm(_conv(maps, conv), norm), 4 if last else 2)
    hidden = maps.reshape(-1) @ denses[0]["kernel"] + denses[0]["bias"]
    hidden = np.where(hidden < 0, 0.1 * hidden, hidden)
    output = hidden @ denses[1]["kernel"] + denses[1]["bias"]
    return float(1 / (1 + np.exp(-output[0])))


def _layers(file: h5py.File, kind: str) -> list[Layer]:
    """Read all layers of a kind, in the order in which the authors' program made them."""
    numbers = sorted(int(name.rpartition("_")[2]) for name in file if name.rpartition("_")[0] == kind)
    groups = [file[f"{kind}_{number}/{kind}_{number}"] for number in numbers]
    return [{name.removesuffix(":0"): np.asarray(value, np.float64) for name, value in g.items()} for g in groups]


def _inception(maps: Array, convs: list[Layer]) -> Array:
    point, near, near3, wide, wide3, wider, wider3 = convs
    branches = [
        _conv(maps, point),
        _conv(_conv(maps, near), near3),
        _conv(_conv(maps, wide), wide3, spread=2),
        _conv(_conv(maps, wider), wider3, spread=3),
    ]
    return np.concatenate(branches, axis=-1)


def _conv(maps: Array, layer: Layer, spread: int = 1) -> Array:
    """Convolve to the same size, with zeros outside, then cut off below zero."""
    height, width, _ = maps.shape
    rows, columns, _, channels = layer["kernel"].shape
    edge = [(spread * (rows // 2),) * 2, (spread * (columns // 2),) * 2, (0, 0)]
    padded = np.pad(maps, edge)
    total = np.zeros((height, width, channels)) + layer["bias"]
    for row in range(rows):
        for column in range(columns):
            top, left = row * spread, column * spread
            total += padded[top : top + height, left : left + width] @ layer["kernel"][row, column]
    return np.maximum(total, 0)


def _norm(maps: Array, layer: Layer) -> Array:
    deviation = np.sqrt(layer["moving_variance"] + 0.001)
    return (maps - layer["moving_mean"]) / deviation * layer["gamma"] + layer["beta"]


def _pool(maps: Array, size: int) -> Array:
    height, width, channels = maps.shape
    tiles = maps.reshape(height // size, size, width // size, size, channels)
    highest: Array = tiles.max(axis=(1, 3))
    return highest
