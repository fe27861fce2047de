"""What a training minimizes and is measured by: real or fake by one logit, or several classes by a logit each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from deepfake_detect.metrics.classes import class_recall, mean_auc
from deepfake_detect.metrics.classification import balanced_accuracy, roc_auc
from deepfake_detect.weights.card import DETECTS


@dataclass(frozen=True, slots=True)
class RealOrFake:
    """Binary cross-entropy of one logit; labels are 0 for real and 1 for fake, or between for those of a teacher."""

    def shaped(self, output: torch.Tensor) -> torch.Tensor:
        """Return the output of a model as logits [N]."""
        return output.reshape(-1)

    def target(self, label: torch.Tensor, *, smoothing: float) -> torch.Tensor:
        """Return what the logits are compared with: the label, moved away from 0 and 1 by half the smoothing."""
        return label * (1 - smoothing) + smoothing / 2

    def loss(
        self, logit: torch.Tensor, target: torch.Tensor, *, smoothing: float, weights: Sequence[float]
    ) -> torch.Tensor:
        """Return the mean loss, each picture weighted by its class; targets lie between where two are mixed."""
        real, fake = weights
        fake_share = (target - smoothing / 2) / (1 - smoothing)
        weight = None if real == fake == 1 else real + (fake - real) * fake_share
        return functional.binary_cross_entropy_with_logits(logit, target, weight=weight)

    def auc(self, label: np.ndarray, logit: np.ndarray) -> float:
        """Return the AUC; nan where a class is missing."""
        return roc_auc(label, logit)

    def figures(self, label: np.ndarray, logit: np.ndarray) -> dict[str, Any]:
        """Return ``loss``, ``auc``, ``accuracy`` (balanced) and ``collapsed`` of an `Epoch`."""
        loss = functional.binary_cross_entropy_with_logits(torch.from_numpy(logit), torch.from_numpy(label))
        one_sided = len(set(label)) == 2 and (logit > 0).any() == (logit > 0).all()
        return {
            "loss": float(loss),
            "auc": roc_auc(label, logit),
            "accuracy": balanced_accuracy(label, logit, threshold=0.0),
            "collapsed": DETECTS[int(logit[0] > 0)] if one_sided else "",
        }


@dataclass(frozen=True, slots=True)
class OneOfClasses:
    """Cross-entropy of a logit for each class; labels are the numbers of the classes.

    Attributes:
        classes: Names of the classes.
    """

    classes: tuple[str, ...]

    def shaped(self, output: torch.Tensor) -> torch.Tensor:
        """Return the output of a model as logits [N, K]."""
        return output.reshape(-1, len(self.classes))

    def target(self, label: torch.Tensor, *, smoothing: float) -> torch.Tensor:
        """Return a probability for each class [N, K], the smoothing shared by all of them."""
        one_hot = functional.one_hot(label.long(), len(self.classes)).to(torch.float32)
        return one_hot * (1 - smoothing) + smoothing / len(self.classes)

    def loss(
        self, logit: torch.Tensor, target: torch.Tensor, *, smoothing: float, weights: Sequence[float]
    ) -> torch.Tensor:
        """Return the mean loss, each picture weighted by its class."""
        losses = -(target * functional.log_softmax(logit, dim=1)).sum(1)  # [N]
        share = (target - smoothing / len(self.classes)) / (1 - smoothing)  # of each class, [N, K]
        return (losses * (share @ torch.tensor(weights, dtype=share.dtype, device=share.device))).mean()

    def auc(self, label: np.ndarray, logit: np.ndarray) -> float:
        """Return the mean AUC of each class against the others; nan where there is only one class."""
        return mean_auc(label, logit)

    def figures(self, label: np.ndarray, logit: np.ndarray) -> dict[str, Any]:
        """Return ``loss``, ``auc``, ``accuracy`` (balanced) and ``collapsed`` of an `Epoch`."""
        loss = functional.cross_entropy(torch.from_numpy(logit), torch.from_numpy(label).long())
        predicted = logit.argmax(1)
        recalls = [recall for recall in class_recall(label, predicted, len(self.classes)) if not math.isnan(recall)]
        one_sided = len(set(label)) > 1 and len(set(predicted)) == 1
        return {
            "loss": float(loss),
            "auc": mean_auc(label, logit),
            "accuracy": math.fsum(recalls) / max(1, len(recalls)),
            "collapsed": self.classes[predicted[0]] if one_sided else "",
        }


Objective = RealOrFake | OneOfClasses
"""See the two."""

REAL_OR_FAKE = RealOrFake()
"""The objective of a detector."""


def objective_of(classes: tuple[str, ...]) -> Objective:
    """Return the objective for the classes of a card.

    Example:
        >>> objective_of(("real", "fake"))
        RealOrFake()
    """
    return REAL_OR_FAKE if classes == DETECTS else OneOfClasses(classes)
