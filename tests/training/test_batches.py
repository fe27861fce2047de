"""Test that batches hold the right pictures in the right order, in threads and in processes."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepfake_detect.datasets.read import Sample
from deepfake_detect.datasets.split import balanced_weights
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.batches import CropFeed, draw, steps_in
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.schedule import Schedule
from tests.toy import toy_crops

PLAIN = Schedule(epochs=2, balance=False)


def samples(**counts: int) -> list[Sample]:
    """Make so many samples of each source; the last letter is the class."""
    return [
        Sample(image=f"{name}{n}", label=int(name[-1] == "f"), source=name[:-1])
        for name, count in counts.items()
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> CropDataset:
    plain = toy_crops(tmp_path_factory.mktemp("toy"), count=10)
    return CropDataset(plain.samples, plain.store, preprocessing=plain.preprocessing, augmentation=Augmentation())


def test_unbalanced_each_picture_comes_once() -> None:
    some = samples(af=5, ar=7)
    assert steps_in(some, PLAIN, size=4) == 3
    assert steps_in(some, PLAIN, size=5) == 3
    assert steps_in(some, replace(PLAIN, epoch_samples=21), size=5) == 5
    keys = draw(some, PLAIN, epoch=0, size=4)
    assert sorted(index for index, _ in keys) == list(range(12))
    assert len({seed for _, seed in keys}) == 12
    filled = Counter(index for index, _ in draw(some, PLAIN, epoch=0, size=5))
    assert sum(filled.values()) == 15 and set(filled.values()) == {1, 2}


def test_a_balanced_draw_has_the_shares_that_the_weights_promise() -> None:
    some = samples(af=20, ar=4, bf=100, br=100)
    schedule = Schedule(epochs=1, epoch_samples=40_000, favour={"a": 2})
    drawn = np.bincount([index for index, _ in draw(some, schedule, epoch=0, size=8)], minlength=len(some)) / 40_000
    weights = balanced_weights(some, power=0.5, favour={"a": 2})
    labels = np.array([sample.label for sample in some])
    assert drawn[labels == 1].sum() == pytest.approx(0.5, abs=0.01)
    assert drawn[:20].sum() == pytest.approx(weights[:20].sum(), abs=0.01)


def test_forged_frames_come_with_the_frames_that_they_were_made_of() -> None:
    videos = [replace(s, group=s.image[2:]) for s in samples(vr=60, vf=60)]
    some = [*videos, *samples(wr=40, gf=40)]
    schedule = Schedule(epochs=1, epoch_samples=8_000)
    plain, paired = (draw(some, replace(schedule, pairs=share), epoch=0, size=8) for share in (0.0, 1.0))
    places = np.array([index for index, _ in paired])
    assert Counter(some[index].source for index in places) == Counter(some[index].source for index, _ in plain)
    assert Counter(some[index].label for index in places) == Counter(some[index].label for index, _ in plain)
    after = [(some[one], some[two]) for one, two in itertools.pairwise(places) if some[one].label]
    mates = [one.group == two.group and two.label == 0 for one, two in after if one.source == "v"]
    assert np.mean(mates) > 0.95
    assert len({seed for _, seed in paired}) == len(paired)


def test_a_blend_comes_with_its_photograph_and_without_a_mate_nothing_is_paired() -> None:
    some = samples(ar=30)
    blends = [replace(sample, label=1, source="self-blend") for sample in some]
    keys = [
        index for index, _ in draw([*some, *blends], Schedule(epochs=1, epoch_samples=600, pairs=1.0), epoch=0, size=4)
    ]
    pairs = [(one, two) for one, two in itertools.pairwise(keys) if one >= 30 > two]
    assert np.mean([one - 30 == two for one, two in pairs]) > 0.9
    alone = Schedule(epochs=1, epoch_samples=600, pairs=1.0)
    drawn = Counter(index for index, _ in draw(samples(ar=3, bf=3), alone, epoch=0, size=4))
    assert sum(drawn.values()) == 600 and set(drawn) == set(range(6))


def test_epochs_and_seeds_differ_and_repeat() -> None:
    some = samples(af=30, ar=30)
    first = draw(some, PLAIN, epoch=0, size=4)
    assert first == draw(some, PLAIN, epoch=0, size=4)
    assert first != draw(some, PLAIN, epoch=1, size=4)
    assert first != draw(some, replace(PLAIN, seed=1), epoch=0, size=4)


@pytest.mark.parametrize("how", [{"workers": 0}, {"workers": 2}, {"ahead": False}], ids=str)
def test_batches_are_those_of_the_data_set(toy: CropDataset, how: dict[str, Any]) -> None:
    feed = CropFeed(toy, preprocessing=toy.preprocessing, **how)
    for epoch in (0, 1):
        keys = draw(toy.samples, PLAIN, epoch=epoch, size=4)
        made = list(feed.batches(keys, size=4))
        items = [toy[key] for key in keys]
        expected = to_batch([pixels.numpy() for pixels, _ in items], preprocessing=toy.preprocessing)
        assert torch.equal(torch.cat([batch for batch, _ in made]), expected)
        assert torch.cat([label for _, label in made]).tolist() == [label for _, label in items]


def test_no_other_thread_holds_numpys_lock_where_workers_are_forked(
    toy: CropDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker seeds NumPy first; it hung where a thread of the parent was drawing numbers when it was forked."""
    lock = np.random.get_bit_generator().lock  # type: ignore[attr-defined]
    got: list[bool] = []

    def start(_: Any) -> Iterator[Any]:
        with ThreadPoolExecutor(1) as pool:
            got.append(pool.submit(lock.acquire, blocking=False).result())
        return iter(())

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", start)
    assert list(CropFeed(toy, preprocessing=toy.preprocessing, workers=1).batches([(0, 0)], size=1)) == []
    assert got == [False]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lock.acquire, blocking=False).result()
        pool.submit(lock.release).result()


@pytest.mark.parametrize("how", [{"workers": 0}, {"workers": 1}, {"ahead": False}], ids=str)
def test_an_epoch_that_was_left_early_does_not_disturb_the_next(toy: CropDataset, how: dict[str, Any]) -> None:
    feed = CropFeed(toy, preprocessing=toy.preprocessing, **how)
    keys = [(index, 3) for index in range(10)]
    next(iter(feed.batches(keys, size=2)))
    seen = torch.cat([label for _, label in feed.batches(keys[::-1], size=4)])
    assert seen.tolist() == [float(toy.samples[index].label) for index, _ in keys[::-1]]


@pytest.mark.parametrize("how", [{"workers": 0}, {"workers": 1}, {"ahead": False}], ids=str)
def test_an_error_in_a_picture_reaches_the_caller(toy: CropDataset, tmp_path: Path, how: dict[str, Any]) -> None:
    missing = [*toy.samples[:3], replace(toy.samples[0], image=tmp_path / "gone.png")]
    broken = CropDataset(missing, toy.store, preprocessing=toy.preprocessing)
    feed = CropFeed(broken, preprocessing=toy.preprocessing, **how)
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        list(feed.batches([(index, 0) for index in range(4)], size=2))


def test_crops_are_made_while_the_model_is_busy_or_when_they_are_asked_for(
    toy: CropDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    whole = CropDataset.__getitem__
    monkeypatch.setattr(CropDataset, "__getitem__", lambda self, key: made.append(key[0]) or whole(self, key))
    keys = [(index % 4, 0) for index in range(8)]
    batches = CropFeed(toy, preprocessing=toy.preprocessing, ahead=False).batches(keys, size=2)
    for count in (1, 2, 3, 4):
        next(batches)
        assert len(made) == 2 * count
    made.clear()
    batches = CropFeed(toy, preprocessing=toy.preprocessing).batches(keys, size=2)
    next(batches)
    for _ in range(200):
        if len(made) == 8:
            break
        time.sleep(0.01)
    assert len(made) == 8
    batches.close()
