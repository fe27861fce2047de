"""Test pictures that the flagship still gets wrong.

`recipes/still_wrong.py` made those in `tests/data/still_wrong`: fakes, every one. A flagship that calls one of them
fake is a better one; that picture then belongs into `tests/data/once_wrong`, and its line out of the card's limits.
"""

from pathlib import Path

import pytest

from deepfake_detect import Detector

PICTURES = sorted((Path(__file__).parent / "data" / "still_wrong").glob("*.jpg"))


@pytest.fixture(scope="module")
def flagship() -> Detector:
    return Detector.from_pretrained("xception-fakefaces", device="cpu", dtype="float32")


def test_there_are_some() -> None:
    assert len(PICTURES) == 4


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_a_fake_that_is_not_noticed(flagship: Detector, picture: Path) -> None:
    prediction = flagship.predict(picture)
    assert len(prediction.faces) == 1
    assert prediction.label == "real"
