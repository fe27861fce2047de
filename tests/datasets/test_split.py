"""Test that groups stay in one split, splits have their share, and classes and sources are balanced."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from deepfake_detect.datasets.read import Sample
from deepfake_detect.datasets.split import balanced_weights, folds, split_samples
from deepfake_detect.errors import DatasetError


def sample(source: str, label: int, group: str = "", split: str = "") -> Sample:
    return Sample(image="x.png", label=label, source=source, group=group, split=split)


@pytest.fixture
def people() -> list[Sample]:
    """Groups of one to nine pictures, in two sources, one of them of fakes alone."""
    random = np.random.default_rng(5)
    sizes = random.integers(1, 10, 120)
    return [
        sample("web" if number % 3 else "gan", int(random.random() < 0.4) if number % 3 else 1, group=f"p{number}")
        for number, size in enumerate(sizes)
        for _ in range(size)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_together_and_each_side_gets_its_share(people: list[Sample], seed: int) -> None:
    sides = split_samples(people, valid=0.2, test=0.1, seed=seed)
    of_group = defaultdict(set)
    for one in sides:
        of_group[one.group].add(one.split)
    assert all(len(found) == 1 for found in of_group.values())
    assert [replace(one, split="") for one in sides] == people
    whole = Counter((one.source, one.label) for one in people)
    for side, share in (("val", 0.2), ("test", 0.1), ("train", 0.7)):
        part = Counter((one.source, one.label) for one in sides if one.split == side)
        for cell, count in whole.items():
            assert part[cell] / count == pytest.approx(share, abs=0.06), (side, cell)


@pytest.mark.parametrize("seed", range(10))
def test_small_groups_make_up_for_a_large_one(seed: int) -> None:
    crowd = [sample("a", 0, f"p{max(number, 49)}") for number in range(100)]  # one of 50 pictures, and 50 of one
    assert sum(one.split == "val" for one in split_samples(crowd, valid=0.2, seed=seed)) == 20


def test_the_seed_decides(people: list[Sample]) -> None:
    assert split_samples(people, seed=1) == split_samples(people, seed=1) != split_samples(people, seed=2)


def test_a_named_split_is_kept_and_not_taken_again() -> None:
    named = [sample("a", n % 2, split="val" if n < 4 else "") for n in range(20)]
    sides = [one.split for one in split_samples(named, valid=0.5)]
    assert sides == ["val"] * 4 + ["train"] * 16
    half = [sample("a", 0, "p"), sample("a", 1, "p", "val"), *[sample("a", n % 2) for n in range(9)]]
    assert [one.split for one in split_samples(half)] == ["val", "val", *["train"] * 9]  # the group stays together
    assert {one.split for one in split_samples([sample("a", n % 2) for n in range(20)], valid=0.0)} == {"train"}


def test_shares_out_of_range() -> None:
    for valid, test in ((1.0, 0.0), (-0.1, 0.0), (0.6, 0.5)):
        with pytest.raises(ValueError, match="expected shares whose sum is below 1"):
            split_samples([], valid=valid, test=test)


def test_folds_hold_whole_groups_and_every_sample_once(people: list[Sample]) -> None:
    fold = folds(people, 5, seed=3)
    assert set(fold) == set(range(5))
    assert all(
        len({f for f, one in zip(fold, people, strict=True) if one.group == g}) == 1 for g in {p.group for p in people}
    )
    size = Counter(fold)
    assert max(size.values()) - min(size.values()) < 0.2 * len(people) / 5
    with pytest.raises(DatasetError, match="1 groups cannot be dealt into 2 folds"):
        folds([sample("a", 0, "p"), sample("a", 1, "p")], 2)


def test_weights_halve_between_classes_and_within_paired_sources() -> None:
    samples = [sample("a", 0)] * 6 + [sample("a", 1)] * 2 + [sample("b", 1)] * 4 + [sample("c", 0)]
    weight = balanced_weights(samples, power=1.0)
    label = np.array([s.label for s in samples])
    assert weight[label == 0].sum() == pytest.approx(0.5)
    assert weight[label == 1].sum() == pytest.approx(0.5)
    # fakes: source a counts 8 / 2 classes = 4, source b counts 4; reals: a 4, c 1
    assert weight[6:8].sum() == pytest.approx(0.25)
    assert weight[:6].sum() == pytest.approx(0.4)
    even = balanced_weights(samples, power=0.0)
    assert even[8:12].sum() == pytest.approx(2 * even[6:8].sum())


def test_favoured_source_counts_more() -> None:
    samples = [sample("a", 0), sample("a", 1), sample("b", 0), sample("b", 1)]
    weight = balanced_weights(samples, favour={"b": 3.0})
    np.testing.assert_allclose(weight, [0.125, 0.125, 0.375, 0.375])


def test_one_class_cannot_be_balanced() -> None:
    with pytest.raises(DatasetError, match="two classes or more, found only"):
        balanced_weights([sample("a", 1)])
