"""Test that a model gets the numbers that its card promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.weights.card import Preprocessing


def test_values_by_hand() -> None:
    crop = np.zeros((2, 2, 3), np.uint8)
    crop[0, 1] = [255, 51, 102]
    preprocessing = Preprocessing(size_px=2, mean=(0.5, 0.2, 0.0), std=(0.5, 0.1, 2.0))
    batch = to_batch([crop], preprocessing=preprocessing)
    assert batch.shape == (1, 3, 2, 2) and batch.dtype == torch.float32
    torch.testing.assert_close(batch[0, :, 0, 1], torch.tensor([1.0, 0.0, 0.2]))
    torch.testing.assert_close(batch[0, :, 1, 0], torch.tensor([-1.0, -2.0, 0.0]))


def test_batch_of_one_is_a_row_of_many() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    preprocessing = Preprocessing(size_px=8)
    many = to_batch(crops, preprocessing=preprocessing)
    for crop, row in zip(crops, many, strict=True):
        assert torch.equal(to_batch([crop], preprocessing=preprocessing)[0], row)


@pytest.mark.parametrize("bad", [np.zeros((9, 8, 3), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_other_sizes_and_types_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        to_batch([bad], preprocessing=Preprocessing(size_px=8))
