"""Labels are known by their names, and refused by name where they are not."""

from __future__ import annotations

import enum
from decimal import Decimal

import numpy as np
import pytest
import torch

from deepfake_detect.datasets.labels import SYNONYMS, plain_bools, plain_label, read_label, read_labels
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
    for strange in (2, -1, 0.5, None, "", "unreal", "10", "true", "False"):
        with pytest.raises(DatasetError, match="cannot tell"):
            read_label(strange)


def test_own_words_go_first() -> None:
    assert read_labels(["mine", "real"], labels={"mine": "fake", "real": "fake"}) == {"mine": 1, "real": 1}
    assert read_labels([0, 1], labels={0: "fake", 1: "real"}) == {0: 1, 1: 0}
    with pytest.raises(DatasetError, match=r"\['forged'\] among the meanings"):
        read_labels(["mine"], labels={"mine": "forged"})


@pytest.mark.parametrize("one_hot", [[0, 1], (0.0, 1.0), np.array([0, 1]), torch.tensor([0.0, 1.0]), [[1]][0], [True]])
def test_one_hot_labels_count_by_their_place(one_hot: object) -> None:
    assert plain_label(one_hot) == 1
    assert read_label(one_hot) == 1
    assert read_label([1, 0]) == 0


@pytest.mark.parametrize("vector", [[0.3, 0.7], [1, 1], [0, 0], [], np.zeros((2, 2))])
def test_vectors_that_are_not_one_hot_are_refused(vector: object) -> None:
    with pytest.raises(DatasetError, match="expected a name, 0 or 1, or a one-hot vector"):
        read_label(vector)


@pytest.mark.parametrize("zero", [0, "0", " 0.0", False, "False", "false", 0.0, np.int64(0), np.bool_(False)])
def test_the_meaning_of_a_label_holds_whatever_its_type_and_case(zero: object) -> None:
    for key in (0, "0", False, "FALSE"):
        other = {1: "real"} if key != "FALSE" else {"true": "real"}
        assert read_labels([plain_label(zero), 1], labels={key: "fake", **other}) == {plain_label(zero): 1, 1: 0}
    assert read_labels(["Mine"], labels={" mINE": "Fake"}) == {"Mine": 1}


def test_a_mapping_that_explains_nothing_or_contradicts_itself_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"has the labels 'real', 'fake', and labels= explains 'cat'"):
        read_labels(["real", "fake"], labels={"cat": "fake"})
    with pytest.raises(DatasetError, match="explains '0' twice"):
        read_labels(["0"], labels={0: "fake", "0": "real"})


def test_the_hint_takes_no_side() -> None:
    with pytest.raises(DatasetError) as caught:
        read_labels(["counterfeit", "cgi"])
    assert "with the meaning of each, 'real' or 'fake': 'counterfeit', 'cgi'" in str(caught.value)
    assert "'counterfeit': 'real'" not in str(caught.value)


def test_texts_of_bools_mean_what_bools_mean() -> None:
    assert plain_bools(["True", "false", "", None, True]) == [True, False, "", None, True]
    assert plain_bools(["True", "real"]) == ["True", "real"]


class Inverted(enum.IntEnum):
    FAKE = 0
    REAL = 1


class Numbered(enum.Enum):
    FIRST = 0
    SECOND = 1


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (Inverted.FAKE, Inverted.REAL),  # the name counts, not the number
        (Numbered.SECOND, Numbered.FIRST),
        (b"fake", np.bytes_(b"real")),
        (np.str_("Fake"), np.str_("Real")),
        (Decimal("1.0"), Decimal(0)),
        ("training_fake", "training_real"),  # folders of real-and-fake-face-detection
        ("FAKE.test", "val-real"),
    ],
)
def test_labels_of_unusual_types_and_names(fake: object, real: object) -> None:
    assert (read_label(fake), read_label(real)) == (1, 0)
