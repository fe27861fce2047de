"""Test that ambiguous arrays and tensors are refused by name."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
import torch

from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.inputs.image import open_image

GREY = np.arange(30 * 40).reshape(30, 40).astype(np.uint8)


def test_a_matrix_is_a_grey_picture() -> None:
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(GREY)
    np.testing.assert_array_equal(open_image(matrix).pixels, open_image(GREY).pixels)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ma.masked_less(GREY, 9), r"a masked array; pass array.filled\(255\)"),
        (GREY.astype(object), "object pixels, expected uint8"),
        (np.zeros((4, 4), [("red", "u1")]), "pixels, expected uint8"),
        (np.array("a.jpg"), "expected RGB"),
        (np.array(7), r"shape \[\], expected RGB"),
    ],
)
def test_odd_arrays_are_named(array: np.ndarray, words: str) -> None:
    with pytest.raises(ImageUnreadable, match=words):
        open_image(array)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(3, 8, 8, device="meta"), "device 'meta' holds no numbers"),
        (torch.zeros(3, 8, 8).to_sparse(), r"layout torch.sparse_coo; pass tensor.to_dense\(\)"),
        (torch.zeros(3, 8, 8, dtype=torch.complex64), "complex64 pixels, expected uint8"),
        (torch.zeros(3, 8, 8, dtype=torch.bool), "bool pixels"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_odd_tensors_are_named(tensor: Any, words: str) -> None:
    with pytest.raises(ImageUnreadable, match=words):
        open_image(tensor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_short_floats_are_read(dtype: torch.dtype) -> None:
    assert (open_image(torch.ones(3, 8, 8).to(dtype)).pixels == 255).all()


def test_what_is_array_like_is_told_how() -> None:
    class Foreign:
        def __array__(self) -> np.ndarray:
            return GREY

    with pytest.raises(ImageUnreadable, match=r"Foreign is no kind of picture.*pass numpy.asarray\(it\)"):
        open_image(Foreign())  # type: ignore[arg-type]


def test_frames_of_pyav_and_bytes_in_an_array_are_told_how() -> None:
    with pytest.raises(ImageUnreadable, match=r"pass it.to_ndarray\(format='rgb24'\)"):
        open_image(av.VideoFrame(8, 8, "rgb24"))
    with pytest.raises(ImageUnreadable, match=r"of a file's bytes, pass array.tobytes\(\)"):
        open_image(np.frombuffer(b"\xff\xd8", np.uint8))
