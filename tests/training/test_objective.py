"""Are loss and figures of several classes those of torch and of closed forms, and of two classes as before?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from deepfake_detect.training.objective import REAL_OR_FAKE, OneOfClasses, objective_of

PETS = OneOfClasses(("cat", "dog", "hen"))


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, generator=random), torch.arange(12).float() % 3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 2.0, 5.0)])
def test_the_loss_of_classes_is_the_weighted_cross_entropy(
    batch: tuple[torch.Tensor, torch.Tensor], smoothing: float, weights: tuple[float, ...]
) -> None:
    logit, label = batch
    loss = PETS.loss(logit, PETS.target(label, smoothing=smoothing), smoothing=smoothing, weights=weights)
    each = functional.cross_entropy(logit, label.long(), reduction="none", label_smoothing=smoothing)
    assert float(loss) == pytest.approx(float((each * torch.tensor(weights)[label.long()]).mean()), rel=1e-5)


def test_two_classes_with_opposite_logits_are_real_and_fake(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logit, label = batch[0][:, 0], batch[1] % 2
    two, both = OneOfClasses(("male", "female")), torch.stack([-logit / 2, logit / 2], 1)
    settings = {"smoothing": 0.1, "weights": (1.0, 3.0)}
    one_loss = REAL_OR_FAKE.loss(logit, REAL_OR_FAKE.target(label, smoothing=0.1), **settings)  # type: ignore[arg-type]
    two_loss = two.loss(both, two.target(label, smoothing=0.1), **settings)  # type: ignore[arg-type]
    assert float(one_loss) == pytest.approx(float(two_loss), rel=1e-5)
    figures = REAL_OR_FAKE.figures(label.double().numpy(), logit.double().numpy())
    assert two.figures(label.double().numpy(), both.double().numpy()) == pytest.approx(figures)


def test_a_collapse_is_named_by_its_class() -> None:
    label, logit = np.array([0.0, 1.0, 2.0]), np.array([[0.0, 2.0, 1.0]] * 3)
    assert PETS.figures(label, logit)["collapsed"] == "dog"
    assert PETS.figures(label, logit)["accuracy"] == pytest.approx(1 / 3)
    assert PETS.figures(label, np.eye(3))["collapsed"] == ""


def test_the_classes_of_a_card_choose_the_objective() -> None:
    assert objective_of(("real", "fake")) is REAL_OR_FAKE
    assert objective_of(("fake", "hen")) == OneOfClasses(("fake", "hen"))
