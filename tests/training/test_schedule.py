"""Test that a schedule gives the rates it describes, and refuses settings that make no sense."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from deepfake_detect.errors import InvalidOption
from deepfake_detect.training.schedule import Epoch, Schedule


def epoch(number: int = 1, *, loss: float = math.nan, auc: float = math.nan) -> Epoch:
    rest = {"loss": 1.0, "valid_accuracy": math.nan, "collapsed": "", "rate": 0.1}
    return Epoch(epoch=number, valid_loss=loss, valid_auc=auc, batch_size=4, samples_per_s=1.0, seconds=1.0, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epoch_samples": 0},
        {"batch_size": 0},
        {"accumulate": 0},
        {"patience": 0},
        {"warmup": 1.0},
        {"pairs": 1.5},
        {"smoothing": -0.1},
        {"ema": 1.0},
        {"optimizer": "lion"},
        {"freeze": "head"},
        {"lr": 0.0},
        {"lr": math.inf},
        {"lr": math.nan},
        {"clip": 0.0},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"mixup": -1.0},
        {"weight_decay": -0.1},
        {"momentum": 1.0},
        {"feature_views": -1},
        {"class_weights": (0.0, 1.0)},
        {"class_weights": "fair"},
        {"class_weights": (1.0,)},
        {"class_weights": 2.0},
        {"epochs": 2.5},
        {"epochs": "3"},
        {"epochs": True},
        {"batch_size": 8.0},
        {"batch_size": "large"},
        {"lr": "1e-3"},
        {"lr": True},
        {"freeze": True},
        {"freeze": False},
        {"freeze": -1},
        {"freeze": 1.5},
        {"balance": "yes"},
        {"patience": 1.5},
        {"seed": -1},
        {"seed": None},
        {"favour": ["web"]},
        {"favour": {"web": "twice"}},
        {"optimizer": None},
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        Schedule(**{"epochs": 1, **wrong})


def test_numbers_of_numpy_are_numbers() -> None:
    plain = Schedule(epochs=2, lr=0.5, freeze=1, class_weights=(1.0, 2.0))
    assert Schedule(epochs=np.int64(2), lr=np.float32(0.5), freeze=np.int32(1), class_weights=[1, 2]) == plain  # type: ignore[arg-type]


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    schedule, steps = Schedule(epochs=1, warmup=0.1), 200
    rates = [schedule.rate_at(step, steps) for step in range(steps + 1)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[110] == pytest.approx(0.505)  # half way down
    assert rates[200] == pytest.approx(0.01)
    assert sorted(rates[20:], reverse=True) == rates[20:]
    assert Schedule(epochs=1, warmup=0).rate_at(0, 10) == 1


def test_what_is_frozen_when() -> None:
    assert [Schedule(epochs=4, freeze=2).frozen_in(number) for number in range(4)] == [True, True, False, False]
    assert Schedule(epochs=4, freeze="backbone").frozen_in(3)
    assert not Schedule(epochs=4).frozen_in(0)


def test_balance_is_a_power() -> None:
    assert Schedule(epochs=1).power == 0.5
    assert Schedule(epochs=1, balance=False).power is None
    assert Schedule(epochs=1, balance=1).power == 1.0
    assert Schedule(epochs=1, balance=0.0).power == 0.0


def test_class_weights_give_both_classes_the_same_sum() -> None:
    labels = [0] * 3 + [1] * 12
    real, fake = Schedule(epochs=1, class_weights="balanced").weights_of(labels)
    assert 3 * real == pytest.approx(12 * fake) == pytest.approx(len(labels) / 2)
    assert Schedule(epochs=1).weights_of(labels) == (1.0, 1.0)
    assert Schedule(epochs=1, class_weights=(2, 5)).weights_of(labels) == (2, 5)


def test_merit_is_auc_then_loss_then_the_last() -> None:
    better = [
        (epoch(auc=0.9, loss=0.7), epoch(auc=0.8, loss=0.1)),
        (epoch(auc=1.0, loss=0.1), epoch(auc=1.0, loss=0.2)),
        (epoch(loss=0.1), epoch(loss=0.2)),  # one class only: no AUC
        (epoch(2), epoch(1)),  # nothing to validate on
    ]
    for first, second in better:
        assert first.merit > second.merit
