"""Are the figures of several classes those of scikit-learn and of closed forms?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import log_loss, recall_score, roc_auc_score

from deepfake_detect.metrics.classes import (
    class_log_loss,
    class_recall,
    confusion_matrix,
    fit_class_temperature,
    mean_auc,
)


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    label = random.integers(0, 4, 300)
    return label, random.normal(size=(300, 4)) + 1.5 * np.eye(4)[label]


def softmax(logit: np.ndarray) -> np.ndarray:
    power = np.exp(logit - logit.max(1, keepdims=True))
    return np.asarray(power / power.sum(1, keepdims=True))


def test_figures_are_those_of_scikit_learn(scored: tuple[np.ndarray, np.ndarray]) -> None:
    label, logit = scored
    predicted = logit.argmax(1)
    assert (confusion_matrix(label, predicted, 4) == sklearn_confusion(label, predicted)).all()
    assert class_recall(label, predicted, 4) == pytest.approx(recall_score(label, predicted, average=None))
    assert class_log_loss(label, logit) == pytest.approx(log_loss(label, softmax(logit)))
    assert mean_auc(label, softmax(logit)) == pytest.approx(roc_auc_score(label, softmax(logit), multi_class="ovr"))


def test_a_class_without_pictures_changes_nothing() -> None:
    logit = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 2.0, 1.0]])
    assert mean_auc([0, 1, 1], logit) == mean_auc([0, 1, 1], logit[:, :2]) == 1.0
    assert math.isnan(class_recall([0, 1, 1], [0, 1, 1], 3)[2])
    assert math.isnan(mean_auc([1, 1, 1], logit))


def test_the_temperature_undoes_a_factor_on_the_logits() -> None:
    random = np.random.default_rng(0)
    logit = random.normal(size=(20_000, 3)) * 2
    label = (logit + random.gumbel(size=logit.shape)).argmax(1)  # drawn with the probabilities of the softmax
    assert fit_class_temperature(label, logit) == pytest.approx(1, abs=0.05)
    assert fit_class_temperature(label, 5 * logit) == pytest.approx(5, abs=0.25)


def test_few_separated_pictures_do_not_make_every_score_certain() -> None:
    temperature = fit_class_temperature([0, 1, 2], 10 * np.eye(3))
    assert softmax(10 * np.eye(3) / temperature).max() == pytest.approx(2 / 3, abs=1e-3)  # (n + 1) / (n + 2)
