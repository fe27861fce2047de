"""Which numbers does a model get for a face crop?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from deepfake_detect.card import Preprocessing


def to_batch(crops: Sequence[np.ndarray] | np.ndarray, *, preprocessing: Preprocessing) -> torch.Tensor:
    """Turn face crops into a model's input, exactly as the card says.

    Args:
        crops: N crops [size_px, size_px, 3] uint8 RGB, or one array [N, size_px, size_px, 3].
        preprocessing: From the card.

    Returns:
        [N, 3, size_px, size_px] float32, channels last in memory: (value / 255 - mean) / std.

    Raises:
        ValueError: A crop of another size or type.

    Example:
        >>> white = np.full((1, 8, 8, 3), 255, np.uint8)
        >>> float(to_batch(white, preprocessing=Preprocessing(size_px=8)).mean())
        1.0
    """
    pixels = np.stack([np.asarray(crop) for crop in crops])
    expected = (preprocessing.size_px, preprocessing.size_px, 3)
    if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
        raise ValueError(f"crops are {pixels.dtype} {pixels.shape[1:]}, expected uint8 {expected}; use crop_face")
    scale = 1 / (255 * torch.tensor(preprocessing.std))
    shift = torch.tensor(preprocessing.mean) / torch.tensor(preprocessing.std)
    return (torch.from_numpy(pixels).float() * scale - shift).permute(0, 3, 1, 2)
