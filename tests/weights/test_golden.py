"""Test that the golden pictures keep their pixels."""

import hashlib

import numpy as np
import pytest

from deepfake_detect.weights.golden import SIDE_PX, golden_pictures

SHA256 = {  # of pixels.tobytes(); the logits in every card hang on these
    "gradient": "7c7f1a8fff97cfcbd65849453a985b446f0f98e3e22e5b3ba980ef1ebc4cfbeb",
    "checkerboard": "d737694e15eb798a57c6c04e555fa84371d8aec8199dac16e3bc9ddb093e7eb2",
    "noise": "f166db83f9b79a3860126063a7f6356e82d6a5a962cfab9d04e4921700d50a88",
    "face": "b8ca7d677f401ef35e13efa022cb72be83f6bdb4e80c3fd94569b54944147f43",
}


def test_the_names_are_those_of_the_cards() -> None:
    assert list(golden_pictures()) == list(SHA256)


@pytest.mark.parametrize("name", SHA256)
def test_pixels_never_change(name: str) -> None:
    pixels = golden_pictures()[name]
    assert pixels.shape == (SIDE_PX, SIDE_PX, 3)
    assert pixels.dtype == np.uint8
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == SHA256[name]


def test_a_caller_cannot_spoil_the_next() -> None:
    golden_pictures()["face"][:] = 0
    assert golden_pictures()["face"].any()


def test_noise_follows_the_recurrence_in_plain_python() -> None:
    def value(index: int) -> int:
        mixed = index * 2654435761 % 2**32
        for shift, factor in ((15, 2246822519), (13, 3266489917), (16, 668265263)):
            mixed = (mixed ^ (mixed >> shift)) * factor % 2**32
        return mixed >> 24

    flat = golden_pictures()["noise"].reshape(-1)
    assert [int(flat[index]) for index in range(0, flat.size, 4001)] == [
        value(index) for index in range(0, flat.size, 4001)
    ]


def test_gradient_in_plain_python() -> None:
    pixels = golden_pictures()["gradient"]
    assert pixels[0, 0].tolist() == [0, 0, 255]
    assert pixels[10, 200].tolist() == [200, 10, 150]


def test_checkerboard_halves_its_squares_five_times() -> None:
    row = golden_pictures()["checkerboard"][0, :, 0].astype(int)
    ends = np.flatnonzero(np.diff(row)) + 1
    assert set(np.diff(ends)) >= {2, 4, 8, 16}
    assert row[0] == 40
    assert row[32] == 220
