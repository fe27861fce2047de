"""Turn face crops into the input of a model: scaled to 0..1, normalised, in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepfake_detect.errors import InvalidOption
from deepfake_detect.weights.card import Preprocessing

if TYPE_CHECKING:
    import torch


def to_batch(crops: Sequence[np.ndarray] | np.ndarray, *, preprocessing: Preprocessing) -> torch.Tensor:
    """Turn face crops into a model's input, exactly as the card says.

    Args:
        crops: N crops [size_px, size_px, 3] uint8 RGB, or one array [N, size_px, size_px, 3].
        preprocessing: From the card.

    Returns:
        [N, 3, size_px, size_px] float32, channels last in memory: (value / 255 - mean) / std.

    Raises:
        InvalidOption: As for `normalise`.

    Example:
        >>> white = np.full((1, 8, 8, 3), 255, np.uint8)
        >>> float(to_batch(white, preprocessing=Preprocessing(size_px=8)).mean())
        1.0
    """
    import torch

    return torch.from_numpy(normalise(crops, preprocessing=preprocessing)).permute(0, 3, 1, 2)


def normalise(crops: Sequence[np.ndarray] | np.ndarray, *, preprocessing: Preprocessing) -> np.ndarray:
    """Turn face crops into the input of a model, as `to_batch` does, without torch.

    Args:
        crops: N crops [size_px, size_px, 3] uint8 RGB, or one array [N, size_px, size_px, 3].
        preprocessing: From the card.

    Returns:
        [N, size_px, size_px, 3] float32: (value / 255 - mean) / std.

    Raises:
        InvalidOption: A crop of another size or type.
    """
    pixels = np.stack([np.asarray(crop) for crop in crops])
    expected = (preprocessing.size_px, preprocessing.size_px, 3)
    if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
        raise InvalidOption(f"crops are {pixels.dtype} {pixels.shape[1:]}, expected uint8 {expected}; use crop_face")
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    rows = pixels.reshape(len(pixels), preprocessing.size_px, -1).astype(np.float32)  # long rows are computed faster
    rows *= np.tile(1 / (255 * std), preprocessing.size_px)
    rows -= np.tile(mean / std, preprocessing.size_px)
    return rows.reshape(pixels.shape)
