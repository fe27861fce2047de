"""Test figures of merit by hand, by brute force and against scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.linear_model import LogisticRegression

from deepfake_detect.metrics import classification
from deepfake_detect.metrics.classification import (
    BIASES,
    TEMPERATURES,
    accuracy,
    average_precision,
    balanced_accuracy,
    best_threshold,
    bootstrap_interval,
    confusion,
    equal_error_rate,
    expected_calibration_error,
    f1,
    fit_platt,
    fit_temperature,
    precision,
    recall,
    reliability,
    roc_auc,
    roc_curve,
)

# Five pictures, worked out on paper; the ranking is real, fake, real, fake, fake.
Y = [0, 1, 0, 1, 1]
SCORE = [0.1, 0.3, 0.6, 0.8, 0.9]

AT_THRESHOLD = [accuracy, balanced_accuracy, precision, recall, f1]
OPINIONS = [getattr(sklearn_metrics, f"{measure.__name__}_score") for measure in AT_THRESHOLD]
RANKING = [roc_auc, average_precision, equal_error_rate]


def made_up(seed: int, *, count: int = 60, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(count) < rng.integers(1, count))
    score = 1 / (1 + np.exp(-rng.normal(1.5 * y - 0.5)))
    return y.astype(int), np.round(score, 1) if ties else score


def log_loss(logit: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(np.logaddexp(0, np.where(y == 1, -logit, logit))))


@pytest.mark.parametrize(
    ("measured", "by_hand"),
    [
        (roc_auc(Y, SCORE), 5 / 6),  # of 3 x 2 pairs only (0.3, 0.6) is the wrong way round
        (average_precision(Y, SCORE), (1 + 1 + 3 / 4) / 3),
        (equal_error_rate(Y, SCORE), 1 / 3),  # from 0.8 to 0.6 the false alarms pass 1/3 of fakes missed
        (accuracy(Y, SCORE), 3 / 5),
        (balanced_accuracy(Y, SCORE), (2 / 3 + 1 / 2) / 2),
        (precision(Y, SCORE), 2 / 3),
        (recall(Y, SCORE), 2 / 3),
        (f1(Y, SCORE), 2 / 3),
        # two bins: (0.1, 0.3 | 1 of 2 fake) and (0.6, 0.8, 0.9 | 2 of 3 fake)
        (expected_calibration_error(Y, SCORE, bins=2), 2 / 5 * (0.5 - 0.2) + 3 / 5 * (2.3 / 3 - 2 / 3)),
        # fifteen bins: each picture its own
        (expected_calibration_error(Y, SCORE), (0.1 + 0.7 + 0.6 + 0.2 + 0.1) / 5),
    ],
)
def test_five_pictures_by_hand(measured: float, by_hand: float) -> None:
    assert measured == pytest.approx(by_hand, abs=1e-12)


def test_equal_error_rate_is_interpolated_where_no_threshold_meets_it() -> None:
    # reals 0.2, 0.5; fakes 0.5, 0.5, 0.9: from (0, 2/3 missed) straight to (1/2, 0 missed): they cross at 2/7
    assert equal_error_rate([0, 0, 1, 1, 1], [0.2, 0.5, 0.5, 0.5, 0.9]) == pytest.approx(2 / 7, abs=1e-12)


def test_confusion_by_hand() -> None:
    assert confusion(Y, SCORE) == (2, 1, 1, 1)
    assert confusion(Y, SCORE)._fields == ("tp", "fp", "tn", "fn")
    assert confusion(Y, SCORE, threshold=0.3) == (3, 1, 1, 0)  # at the threshold is fake
    assert confusion(Y, SCORE, threshold=0.85) == (1, 0, 2, 2)


def test_reliability_by_hand() -> None:
    said, found, count = reliability([0, 1, 1, 0], [0.0, 0.25, 1.0, 0.2], bins=4)
    np.testing.assert_allclose(said, [0.1, 0.25, np.nan, 1.0])
    np.testing.assert_allclose(found, [0, 1, np.nan, 1])
    np.testing.assert_array_equal(count, [2, 1, 0, 1])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_the_share_of_ordered_pairs(seed: int, ties: bool) -> None:
    y, score = made_up(seed, ties=ties)
    pairs = [(fake > real) + (fake == real) / 2 for fake in score[y == 1] for real in score[y == 0]]
    assert roc_auc(y, score) == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [False, True])
def test_scikit_learn_agrees(seed: int, ties: bool) -> None:
    y, score = made_up(seed, ties=ties)
    said = score >= 0.4
    assert roc_auc(y, score) == pytest.approx(sklearn_metrics.roc_auc_score(y, score), abs=1e-12)
    assert average_precision(y, score) == pytest.approx(sklearn_metrics.average_precision_score(y, score), abs=1e-12)
    for measure, opinion in zip(AT_THRESHOLD, OPINIONS, strict=True):
        assert measure(y, score, threshold=0.4) == pytest.approx(opinion(y, said), abs=1e-12)
    fpr, tpr, threshold = roc_curve(y, score)
    for mine, theirs in zip(
        (fpr, tpr, threshold), sklearn_metrics.roc_curve(y, score, drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(mine, theirs)
    miss, alarm = 1 - tpr, fpr  # the crossing by another road: the lines are sampled finely
    fine = np.linspace(0, fpr.size - 1, 200_001)
    apart = np.abs(np.interp(fine, np.arange(fpr.size), miss) - np.interp(fine, np.arange(fpr.size), alarm))
    crossing = np.interp(fine[np.argmin(apart)], np.arange(fpr.size), alarm)
    assert equal_error_rate(y, score) == pytest.approx(crossing, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_by_brute_force(seed: int) -> None:
    y, score = made_up(seed, ties=True)
    total = 0.0
    for low, high in [(0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01)]:
        inside = (score * 5 >= low * 5) & (score * 5 < high * 5)
        if inside.any():
            total += inside.sum() * abs(score[inside].mean() - y[inside].mean())
    assert expected_calibration_error(y, score, bins=5) == pytest.approx(total / y.size, abs=1e-12)


@pytest.mark.parametrize("measure", [*RANKING, balanced_accuracy])
@pytest.mark.parametrize("y", [[1, 1, 1], [0, 0, 0], []])
def test_one_class_has_no_figure(measure: Callable[..., float], y: list[int]) -> None:
    assert math.isnan(measure(y, [0.2, 0.5, 0.7][: len(y)]))


def test_undefined_shares_are_nan() -> None:
    assert math.isnan(precision([0, 1], [0.1, 0.2]))
    assert math.isnan(recall([0, 0], [0.1, 0.9]))
    assert math.isnan(f1([0, 0], [0.1, 0.2]))
    assert math.isnan(accuracy([], []))
    assert math.isnan(expected_calibration_error([], []))
    assert f1([0, 0], [0.1, 0.9]) == 0.0


@pytest.mark.parametrize("measure", [*RANKING, *AT_THRESHOLD, expected_calibration_error, best_threshold])
@pytest.mark.parametrize(
    ("y", "score", "found"),
    [
        ([0, 1], [0.1, 0.2, 0.3], "shape"),
        ([[0, 1]], [[0.1, 0.2]], "shape"),
        ([0, 2], [0.1, 0.2], "y holds"),
        ([0, 1], [0.1, np.nan], "1 of 2 scores are not finite"),
    ],
)
def test_wrong_inputs(measure: Callable[..., float], y: list[int], score: list[float], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        measure(y, score)


def test_calibration_needs_probabilities() -> None:
    with pytest.raises(ValueError, match=r"-3 to 2.5, expected probabilities"):
        expected_calibration_error([0, 1], [-3.0, 2.5])
    with pytest.raises(ValueError, match="bins is 0"):
        expected_calibration_error([0, 1], [0.3, 0.5], bins=0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [False, True])
def test_no_threshold_is_better_than_the_best(seed: int, ties: bool) -> None:
    y, score = made_up(seed, ties=ties)
    found = best_threshold(y, score)
    rivals = [*score, *(score + 1e-9), -1.0, 2.0]
    best = max(balanced_accuracy(y, score, threshold=rival) for rival in rivals)
    assert balanced_accuracy(y, score, threshold=found) == pytest.approx(best, abs=1e-12)
    order = np.random.default_rng(seed).permutation(y.size)
    assert best_threshold(y[order], score[order]) == found


def test_best_threshold_by_hand() -> None:
    assert best_threshold([0, 1], [0.25, 0.75]) == 0.5
    assert best_threshold([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.7]) == 0.5  # as good as 0.15, in a wider gap
    assert best_threshold([0, 1, 0, 1], [0.0, 0.25, 0.5, 0.75]) == 0.125  # equal gaps: the lowest


def test_best_threshold_where_nothing_lies_between_or_nothing_helps() -> None:
    for low in (0.3, np.nextafter(0.3, 1)):  # the mean of neighbouring numbers is rounded up once, down once
        pair = [low, np.nextafter(low, 1)]
        assert balanced_accuracy([0, 1], pair, threshold=best_threshold([0, 1], pair)) == 1
    assert best_threshold([1, 0], [0.2, 0.8]) == 0.2
    assert best_threshold([1, 0], [0.3, 0.3]) == 0.3


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt, lambda logit, y: best_threshold(y, logit)])
def test_one_class_fits_nothing(fit: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="needs both classes, found 3 fake of 3"):
        fit([0.1, 0.2, 0.3], [1, 1, 1])


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.3), (1, 1.0), (2, 6.0), (3, 15.0)])
def test_temperature_is_the_best_of_a_grid(seed: int, scale: float) -> None:
    y, score = made_up(seed, count=400)
    logit = scale * np.log(score / (1 - score))
    found = fit_temperature(logit, y)
    grid = np.geomspace(*TEMPERATURES, 2001)
    losses = [log_loss(logit / temperature, y) for temperature in grid]
    assert log_loss(logit / found, y) <= min(losses) + 1e-12
    assert found == pytest.approx(grid[np.argmin(losses)], rel=0.01)


@pytest.mark.parametrize(("seed", "shift"), [(0, 0.0), (1, 3.0), (2, -5.0)])
def test_platt_is_the_best_of_a_grid_and_scikit_learn_agrees(seed: int, shift: float) -> None:
    y, score = made_up(seed, count=400)
    logit = 2 * np.log(score / (1 - score)) + shift
    temperature, bias = fit_platt(logit, y)
    loss = log_loss(logit / temperature + bias, y)
    around = [(t, b) for t in temperature * np.linspace(0.7, 1.4, 41) for b in bias + np.linspace(-1, 1, 41)]
    assert loss <= min(log_loss(logit / t + b, y) for t, b in around) + 1e-12
    opinion = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], y)
    assert 1 / temperature == pytest.approx(opinion.coef_[0, 0], rel=1e-3)
    assert bias == pytest.approx(opinion.intercept_[0], rel=1e-3, abs=1e-3)
    assert loss <= log_loss(logit / fit_temperature(logit, y), y)


@pytest.mark.parametrize("seed", [0, 1])
def test_smooth_platt_is_a_regression_with_a_picture_of_either_class_added_to_each(seed: int) -> None:
    y, score = made_up(seed, count=24)
    logit = 2 * np.log(score / (1 - score)) + seed
    target = np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
    opinion = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.r_[logit, logit][:, None], np.r_[np.ones(24), np.zeros(24)], sample_weight=np.r_[target, 1 - target]
    )
    temperature, bias = fit_platt(logit, y, smooth=True)
    assert 1 / temperature == pytest.approx(opinion.coef_[0, 0], rel=1e-3)
    assert bias == pytest.approx(opinion.intercept_[0], rel=1e-3, abs=1e-3)


def test_smooth_fits_of_separated_classes_are_no_step() -> None:
    logit, y = [-3.0, -2.0, -1.0, 1.0, 4.0, 5.0], [0, 0, 0, 1, 1, 1]
    temperature, bias = fit_platt(logit, y, smooth=True)
    assert TEMPERATURES[0] < 10 * TEMPERATURES[0] < temperature and abs(bias) < 2
    assert 10 * TEMPERATURES[0] < fit_temperature(logit, y, smooth=True) < TEMPERATURES[1]


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_fits_stay_within_bounds_where_the_classes_are_parted_or_reversed(scale: float) -> None:
    y = np.array([0, 0, 0, 1, 1])
    logit = scale * np.array([-3.0, -2.0, -1.0, 1.0, 4.0])
    with np.errstate(all="raise", under="ignore"):
        assert fit_temperature(logit, y) == pytest.approx(TEMPERATURES[0])
        assert fit_temperature(-logit, y) == pytest.approx(TEMPERATURES[1])
        for sign in (1, -1):
            temperature, bias = fit_platt(sign * logit, y)
            assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
            assert BIASES[0] <= bias <= BIASES[1]


def test_of_temperatures_that_are_all_perfect_the_mildest_is_taken() -> None:
    assert fit_temperature([-1e5, 1e5], [0, 1]) == pytest.approx(TEMPERATURES[1])


def test_log_loss_by_hand_and_scikit_learn() -> None:
    expected = -(math.log(0.9) + math.log(0.3) + math.log(0.4) + math.log(0.8) + math.log(0.9)) / 5
    assert classification.log_loss(Y, SCORE) == pytest.approx(expected)
    y, score = [0, 1, 1, 0], [0.0, 1.0, 0.0, 0.3]  # one sure mistake
    assert classification.log_loss(y, score) == pytest.approx(sklearn_metrics.log_loss(y, score))
    assert classification.log_loss([1, 1], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert math.isnan(classification.log_loss([], []))


def test_interval_of_an_accuracy_is_the_binomial_one() -> None:
    y = np.ones(400, int)
    score = np.arange(400) < 300  # three in four called fake
    low, high = bootstrap_interval(accuracy, y, score, rounds=4000)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - half, abs=0.006)
    assert high == pytest.approx(0.75 + half, abs=0.006)
    narrow = bootstrap_interval(accuracy, y, score, rounds=4000, level=0.5)
    assert (narrow[1] - narrow[0]) / (high - low) == pytest.approx(0.674 / 1.96, abs=0.04)


def test_groups_are_drawn_whole() -> None:
    y = np.ones(400, int)
    right = np.arange(400) < 300
    alone = bootstrap_interval(accuracy, y, right)
    in_hundreds = bootstrap_interval(accuracy, y, right, groups=[f"video {n // 100}" for n in range(400)])
    assert in_hundreds == (0.25, 1.0)  # of 256 draws of 4 videos 1 has no right one, 12 have one, 81 four
    assert alone[1] - alone[0] < 0.1


def test_scattered_and_uneven_groups_keep_their_members() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    score = np.arange(6.0)
    members = {group: set(score[groups == group]) for group in "abc"}

    def whole(y: np.ndarray, drawn: np.ndarray) -> float:
        counts = {value: int(np.sum(drawn == value)) for value in score}
        assert all(len({counts[value] for value in values}) == 1 for values in members.values())
        return sum(counts[min(values)] for values in members.values())

    assert bootstrap_interval(whole, [0, 1] * 3, score, groups=groups, rounds=50) == (3.0, 3.0)


def test_interval_repeats_and_skips_draws_without_a_figure() -> None:
    y, score = made_up(0)
    first, second = (bootstrap_interval(roc_auc, y, score, rounds=50) for _ in range(2))
    assert first == second
    assert first != bootstrap_interval(roc_auc, y, score, rounds=50, seed=1)
    assert first[0] < roc_auc(y, score) < first[1]
    assert bootstrap_interval(roc_auc, [0, 1], [0.2, 0.8], rounds=50) == (1.0, 1.0)
    assert all(math.isnan(end) for end in bootstrap_interval(roc_auc, [1, 1], [0.2, 0.8], rounds=5))
    assert all(math.isnan(end) for end in bootstrap_interval(roc_auc, [], [], rounds=5))


def test_interval_wrong_inputs() -> None:
    with pytest.raises(ValueError, match=r"groups has shape \(1,\), expected one group for each of 2"):
        bootstrap_interval(roc_auc, [0, 1], [0.1, 0.2], groups=["a"])
    with pytest.raises(ValueError, match="rounds is 0"):
        bootstrap_interval(roc_auc, [0, 1], [0.1, 0.2], rounds=0)
    with pytest.raises(ValueError, match=r"level 1\.0"):
        bootstrap_interval(roc_auc, [0, 1], [0.1, 0.2], level=1.0)
