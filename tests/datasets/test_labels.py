"""Are labels told by their names, and refused by name where they cannot be?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfake_detect.datasets.labels import SYNONYMS, read_label, read_labels
from deepfake_detect.errors import DatasetError


@pytest.mark.parametrize("name", ["real", " Real ", "0_real", "REAL-images", "original", "Authentic", "bona_fide"])
def test_what_real_pictures_are_called(name: str) -> None:
    assert read_label(name) == 0


@pytest.mark.parametrize("name", ["fake", "1_fake", "FAKE", "ai", "AI-generated", "synthetic", "Deepfakes"])
def test_what_fakes_are_called(name: str) -> None:
    assert read_label(name) == 1


@pytest.mark.parametrize("one", [1, True, "1", 1.0, "1.0", np.int64(1), np.bool_(True), torch.tensor(1.0)])
def test_one_is_fake(one: object) -> None:
    assert read_label(one) == 1


def test_no_name_means_both() -> None:
    assert not SYNONYMS[0] & SYNONYMS[1]


def test_what_cannot_be_told_shows_every_name() -> None:
    with pytest.raises(DatasetError, match=r"faces/ has the labels 'real', 'cat'; cannot tell whether 'cat'.*labels="):
        read_labels(["real", "cat", "real"], where="faces/")
    for strange in (2, -1, 0.5, None, "", "unreal", "10"):
        with pytest.raises(DatasetError, match="cannot tell"):
            read_label(strange)


def test_own_words_go_first() -> None:
    assert read_labels(["mine", "real"], labels={"mine": "fake", "real": "fake"}) == {"mine": 1, "real": 1}
    assert read_labels([0, 1], labels={0: "fake", 1: "real"}) == {0: 1, 1: 0}
    with pytest.raises(DatasetError, match=r"\['forged'\] among the meanings"):
        read_labels(["mine"], labels={"mine": "forged"})
