"""Test that a cross-validation judges every picture once, by a detector that has seen neither it nor its group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from deepfake_detect import DatasetError, InvalidOption, Prediction
from deepfake_detect.datasets.read import Sample
from deepfake_detect.training.cross_validation import cross_validate
from tests.small_world import CARD, small_detector

SAMPLES = [Sample(image=f"{n}.jpg", label=n % 2, group=f"person {n // 4}", source="web") for n in range(40)]
TEST = [Sample(image="test.jpg", label=1, split="test")]


class Remembering:
    """Scores a picture by whether its group was among the training pictures: .9 where it was, else by its label."""

    revision, history, card = None, (), replace(CARD, threshold=0.8)

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.known = {sample.group for sample in samples}
        assert {sample.split for sample in samples} == {"train"}

    def predict_many(self, images: Any, *, threshold: float, **_: Any) -> Iterator[Prediction]:
        groups = {sample.image: sample for sample in SAMPLES}
        for image in images:
            sample = groups[image]
            score = 0.9 if sample.group in self.known else 0.2 + 0.5 * sample.label
            label = "fake" if score >= threshold else "real"
            yield Prediction(name=image, label=label, score=score, logit=0.0, threshold=threshold, faces=(),
                             size_hw=(1, 1), model="x@0", revision=None, seconds=0.0)  # fmt: skip


def test_every_picture_is_judged_by_a_detector_that_has_not_seen_its_group() -> None:
    trained: list[Remembering] = []

    def train(samples: Sequence[Sample]) -> Any:
        trained.append(Remembering(samples))
        return trained[-1]

    report = cross_validate(train, [*SAMPLES, *TEST], name="mine", folds=5, rounds=10)
    assert (report.n, len(trained), report.model) == (40, 5, "mine, 5 folds")
    assert sorted(row.name for row in report.rows) == sorted(sample.name for sample in SAMPLES)
    assert report.accuracy == report.auc == 1.0  # .7 is fake at .5, and no group was known
    assert {len(one.known) for one in trained} == {8}


def test_too_few_groups_and_options_without_meaning_are_refused() -> None:
    with pytest.raises(DatasetError, match="2 groups cannot be dealt into 3 folds"):
        cross_validate(Remembering, SAMPLES[:8], name="mine", folds=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="folds is 1"):
        small_detector().cross_validate(SAMPLES, folds=1)
    with pytest.raises(InvalidOption, match="out has no meaning"):
        small_detector().cross_validate(SAMPLES, out="folder")
