"""Are classes and sources balanced?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepfake_detect.data import Sample
from deepfake_detect.errors import DatasetError
from deepfake_detect.split import balanced_weights


def sample(source: str, label: int) -> Sample:
    return Sample(image=Path("x.png"), label=label, source=source)


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
    with pytest.raises(DatasetError, match="real and fake"):
        balanced_weights([sample("a", 1)])
