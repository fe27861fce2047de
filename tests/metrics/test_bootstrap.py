import functools

import numpy as np
import pytest

from deepfake_detect.metrics import bootstrap, classification
from deepfake_detect.metrics.bootstrap import FIGURES, draw_figures, interval

STATISTICS = {
    "accuracy": classification.accuracy,
    "balanced_accuracy": classification.balanced_accuracy,
    "precision": classification.precision,
    "recall": classification.recall,
    "f1": classification.f1,
    "auc": classification.roc_auc,
    "ap": classification.average_precision,
    "eer": classification.equal_error_rate,
    "ece": classification.expected_calibration_error,
    "log_loss": classification.log_loss,
}


def pictures(count: int = 60, *, digits: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    y = random.integers(2, size=count)
    score = np.round(1 / (1 + np.exp(-(random.normal(size=count) + y))), digits)
    return y, score, random.integers(count // 3, size=count)


def test_every_figure_is_drawn() -> None:
    assert set(FIGURES) == set(STATISTICS)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("digits", [1, 9])  # with many ties, and with none
@pytest.mark.parametrize("at_once", [60, 700, 10**6])
def test_draws_are_those_of_the_plain_bootstrap(
    name: str, digits: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, score, groups = pictures(digits=digits)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", at_once)
    statistic, threshold = STATISTICS[name], {}
    if name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1"):
        threshold = {"threshold": 0.6}
        statistic = functools.partial(statistic, threshold=0.6)  # type: ignore[assignment, call-arg]
    expected = classification.bootstrap_interval(statistic, y, score, groups=groups, rounds=80, seed=7)  # type: ignore[arg-type]
    draws = draw_figures(y, score, groups=groups, names=[name], rounds=80, seed=7, **threshold)
    assert list(draws) == [name] and draws[name].shape == (80,)
    assert interval(draws[name]) == pytest.approx(expected, abs=1e-12)


def test_without_groups_each_picture_is_its_own() -> None:
    y, score, _ = pictures()
    expected = classification.bootstrap_interval(classification.roc_auc, y, score, rounds=50)
    assert interval(draw_figures(y, score, rounds=50)["auc"]) == pytest.approx(expected, abs=1e-12)


def test_groups_widen_the_interval() -> None:
    y, score, _ = pictures()
    alone = interval(draw_figures(y, score, names=["accuracy"])["accuracy"])
    often = interval(
        draw_figures(np.tile(y, 9), np.tile(score, 9), groups=np.tile(np.arange(60), 9), names=["accuracy"])["accuracy"]
    )
    naive = interval(draw_figures(np.tile(y, 9), np.tile(score, 9), names=["accuracy"])["accuracy"])
    assert often == pytest.approx(alone) and naive[1] - naive[0] < 0.5 * (alone[1] - alone[0])


def test_draws_of_one_class_are_undefined_and_left_out() -> None:
    draws = draw_figures([0, 1, 1], [0.2, 0.8, 0.9], rounds=200)
    undefined = {name for name, values in draws.items() if np.isnan(values).any()}
    assert undefined == {"balanced_accuracy", "precision", "recall", "f1", "auc", "ap", "eer"}
    for name in ("ap", "eer", "balanced_accuracy"):
        assert np.array_equal(np.isnan(draws[name]), np.isnan(draws["auc"])), name
    assert interval(draws["auc"]) == (1.0, 1.0)
    assert 0.2 < np.isnan(draws["auc"]).mean() < 0.5  # (2/3)^3 + (1/3)^3 = 1/3
    assert np.isnan(interval(draw_figures([1, 1], [0.2, 0.8])["auc"])).all()


def test_no_pictures_have_no_figures() -> None:
    draws = draw_figures([], [], rounds=5)
    assert set(draws) == set(FIGURES) and all(np.isnan(values).all() for values in draws.values())


def test_same_seed_and_groups_give_the_same_draws() -> None:
    y, score, groups = pictures()
    one, two = (draw_figures(y, score, groups=groups, seed=1, rounds=30)["auc"] for _ in range(2))
    other = draw_figures(y, score, groups=groups, seed=2, rounds=30)["auc"]
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    alone = draw_figures(y, 1 - score, groups=groups, seed=1, rounds=30, names=["auc"])["auc"]
    assert alone == pytest.approx(1 - one)
