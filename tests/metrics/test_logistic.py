"""Test the logistic regression against scikit-learn, and that it has no negative weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from deepfake_detect.metrics.logistic import RIDGE, fit_logistic


def drawn(seed: int, *, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = (random.random(300) < share).astype(int)
    return np.column_stack([random.normal(y, 1.0), random.normal(2.0 * y - 1.0, 2.0)]), y


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_scikit_learn_finds(seed: int) -> None:
    features, y = drawn(seed)
    weights, bias = fit_logistic(features, y)
    model = LogisticRegression(class_weight="balanced", C=1 / RIDGE, tol=1e-10, max_iter=1000).fit(features, y)
    assert weights == pytest.approx(model.coef_[0], abs=1e-5)
    assert bias == pytest.approx(model.intercept_[0], abs=1e-5)


def test_a_feature_that_speaks_the_wrong_way_is_left_out() -> None:
    features, y = drawn(0)
    weights, bias = fit_logistic(features * [1, -1], y)
    alone, alone_bias = fit_logistic(features[:, :1], y)
    assert weights.tolist() == [alone[0], 0.0] and bias == alone_bias
    none, level = fit_logistic(-features, y)
    assert none.tolist() == [0.0, 0.0] and level == pytest.approx(0.0, abs=1e-9)  # both classes count the same


def test_classes_that_can_be_told_apart_have_finite_weights() -> None:
    weights, bias = fit_logistic([[-1.0], [-2.0], [3.0]], [0, 0, 1])
    assert np.isfinite(weights).all() and np.isfinite(bias) and 1 < weights[0] < 100


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit_logistic([[1.0], [2.0]], [1, 1])
