"""Test one optimization step: targets, loss, gradient and progress text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score
from torch import nn

from deepfake_detect.datasets.read import Sample
from deepfake_detect.training.checkpoint import Progress
from deepfake_detect.training.distributed import World
from deepfake_detect.training.feature_cache import FeatureFeed
from deepfake_detect.training.schedule import Schedule
from deepfake_detect.training.step import Diverged, Learner, measure

CPU = torch.device("cpu")


def make_learner(model: nn.Module | None = None, *, dtype: torch.dtype = torch.float32, **options: Any) -> Learner:
    """Return a learner of a line, or of another model: SGD without decay, clipping or averages."""
    torch.manual_seed(0)
    fields = {"epochs": 1, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip": 1e9, "ema": 0.0}
    weights = options.pop("class_weights", (1.0, 1.0))
    schedule = Schedule(**{**fields, **options})
    return Learner(model or nn.Linear(3, 1), schedule, device=CPU, dtype=dtype, world=World(), class_weights=weights)


def batch_of(count: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=random), (torch.arange(count) % 2).float()


def gradient_by_hand(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Give the gradient of the mean cross entropy of a line: the mean of (sigmoid - target) times the input."""
    wrong = torch.sigmoid(x @ weight[0] + bias) - target
    return (wrong[:, None] * torch.cat([x, torch.ones(len(x), 1)], dim=1)).mean(0)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_step_is_that_of_the_closed_form(parts: int, smoothing: float) -> None:
    some = make_learner(smoothing=smoothing)
    weight, bias = (value.detach().clone() for value in some.model.parameters())
    x, label = batch_of(8)
    target = torch.where(label == 1, 1 - smoothing / 2, smoothing / 2)
    change = gradient_by_hand(weight, bias, x, target)
    loss = some.learn(x, label, rate=0.3, progress=Progress(parts=parts))
    logit = x @ weight[0] + bias
    said = torch.stack([1 - torch.sigmoid(logit), torch.sigmoid(logit)])
    assert loss == pytest.approx(float(-((1 - target) * said[0].log() + target * said[1].log()).mean()), rel=1e-5)
    assert torch.allclose(some.model.weight[0], weight[0] - 0.3 * change[:3], atol=1e-6)  # type: ignore[index]
    assert torch.allclose(some.model.bias, bias - 0.3 * change[3], atol=1e-6)  # type: ignore[arg-type]
    assert some.rate == 0.3


def test_the_average_takes_in_every_step() -> None:
    some, progress = make_learner(ema=0.998), Progress()
    wanted = some.model.weight.detach().clone()  # type: ignore[operator]
    for step in range(3):
        progress.step = step
        some.learn(*batch_of(8, seed=step), rate=0.3, progress=progress)
        decay = (1 + step) / (10 + step)
        wanted = decay * wanted + (1 - decay) * some.model.weight.detach()  # type: ignore[operator]
    assert torch.allclose(some.average.model.weight, wanted, atol=1e-6)  # type: ignore[arg-type]


def test_clipping_leaves_the_direction_and_bounds_the_length() -> None:
    some, free = make_learner(clip=0.01), make_learner()
    x, label = batch_of(8)
    before = torch.cat([p.detach().flatten() for p in some.model.parameters()])
    for learner in (some, free):
        learner.learn(x, label, rate=1.0, progress=Progress())
    moved, wanted = (torch.cat([p.detach().flatten() for p in s.model.parameters()]) - before for s in (some, free))
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)
    assert float(torch.cosine_similarity(moved, wanted, dim=0)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_weights_stay_as_they_are_where_a_step_diverges(broken: float) -> None:
    some = make_learner()
    before = [value.clone() for value in some.model.state_dict().values()]
    x, label = batch_of(4)
    x[1, 2] = broken
    with pytest.raises(Diverged, match=r"is (nan|inf) and the norm of its gradient (nan|inf)"):
        some.learn(x, label, rate=0.1, progress=Progress())
    assert all(torch.equal(a, b) for a, b in zip(before, some.model.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, some.average.model.state_dict().values(), strict=True))


def test_mixup_mixes_pictures_and_targets_by_one_share() -> None:
    some, (x, label) = make_learner(mixup=0.4), batch_of(32)
    shares = []
    for seed in range(40):
        torch.manual_seed(seed)
        mixed, target = some._mixed(x, label)
        assert float(target.mean()) == pytest.approx(float(label.mean()), abs=1e-6)  # nothing is lost, only mixed
        assert torch.allclose(mixed.mean(0), x.mean(0), atol=1e-5)
        share = sorted({round(value, 5) for value in target.tolist()} - {0.0, 1.0})
        assert len(share) == 2 and sum(share) == pytest.approx(1.0, abs=1e-4)
        shares.append(share[0])
    assert np.std(shares) > 0.05
    assert torch.equal(make_learner()._mixed(x, label)[0], x)


def test_a_mixed_picture_has_the_target_of_the_same_mixture() -> None:
    some = make_learner(mixup=1.0)
    label = (torch.arange(64) % 2).float()
    pictures = label[:, None] * torch.ones(64, 3)  # a picture shows its label
    for seed in range(10):
        torch.manual_seed(seed)
        mixed, target = some._mixed(pictures, label)
        assert torch.allclose(mixed, target[:, None].expand(-1, 3), atol=1e-6)


def test_mixup_and_smoothing_keep_targets_within_the_smoothed_labels() -> None:
    seen: list[torch.Tensor] = []
    some = make_learner(mixup=0.4, smoothing=0.2)
    loss = some._loss
    some._loss = lambda logit, wanted: seen.append(wanted) or loss(logit, wanted)  # type: ignore[method-assign, func-returns-value]
    x, label = batch_of(32)
    some.learn(x, label, rate=0.1, progress=Progress())
    target = torch.cat(seen)
    assert float(target.min()) >= 0.1 - 1e-6 and float(target.max()) <= 0.9 + 1e-6
    assert float(target.mean()) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_weigh_mixed_pictures_by_their_share(smoothing: float) -> None:
    some = make_learner(class_weights=(1.0, 3.0), smoothing=smoothing)
    logit, fake = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.0, 1.0, 0.25])
    target = fake * (1 - smoothing) + smoothing / 2
    plain = -(target * torch.sigmoid(logit).log() + (1 - target) * torch.sigmoid(-logit).log())
    assert float(some._loss(logit, target)) == pytest.approx(float((plain * (1 + 2 * fake)).mean()), rel=1e-5)


def test_where_memory_is_short_the_parts_double_and_stay() -> None:
    some, sizes = make_learner(), list[int]()
    logits = some.logits

    def small(batch: torch.Tensor, *, averaged: bool = True) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise RuntimeError("CUDA error: out of memory")
        return logits(batch, averaged=averaged)

    some.logits = small  # type: ignore[method-assign]
    x, label = batch_of(10)
    progress, whole = Progress(), make_learner()
    loss = some.learn(x, label, rate=0.1, progress=progress)
    assert progress.parts == 4 and sizes == [10, 5, 3, 3, 3, 1]
    assert loss == pytest.approx(whole.learn(x, label, rate=0.1, progress=Progress()), rel=1e-5)
    assert torch.allclose(some.model.weight, whole.model.weight, atol=1e-6)  # type: ignore[arg-type]


def test_another_error_is_not_tried_again() -> None:
    calls: list[int] = []

    def broken(batch: torch.Tensor, *, averaged: bool = True) -> torch.Tensor:
        calls.append(len(batch))
        raise RuntimeError("shapes do not fit")

    some = make_learner()
    some.logits = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="shapes"):
        some.learn(*batch_of(8), rate=0.1, progress=Progress())
    assert calls == [8]


def test_the_bar_shows_loss_and_auc_of_the_last_pictures() -> None:
    some = make_learner()
    random = np.random.default_rng(0)
    truth, score = random.integers(0, 2, 1500), random.normal(size=1500)
    some._outputs.extend(zip(truth.tolist(), score.tolist(), strict=True))
    some.rate = 2.5e-4
    losses = [9.0] * 50 + [1.0] * 40 + [2.0] * 10  # of a hundred, fifty count
    auc = roc_auc_score(truth[-1000:], score[-1000:])
    assert some.progress_text(losses) == f"loss 1.200, AUC {auc:.3f}, rate 2.5e-04"
    some.begin_epoch()
    assert f"AUC {auc:.3f}" in some.progress_text(losses[:-1])  # only every tenth step is the AUC computed
    assert some.progress_text(losses) == "loss 1.200, rate 2.5e-04"  # no AUC of nothing
    assert make_learner().progress_text([0.5]) == "loss 0.500, rate 0.0e+00"


def test_figures_of_the_training_pictures_are_those_of_scikit_learn() -> None:
    some, random = make_learner(smoothing=0.2), np.random.default_rng(3)
    label = random.integers(0, 2, 40)
    logits = []
    for step in range(5):
        x, y = torch.from_numpy(random.normal(size=(8, 3)).astype(np.float32)), torch.from_numpy(label[8 * step :][:8])
        logits += some.logits(x, averaged=False).tolist()
        some.learn(x, y.float(), rate=0.0, progress=Progress(parts=3))
    figures = some.train_figures()
    assert figures["train_loss"] == pytest.approx(log_loss(label, 1 / (1 + np.exp(-np.array(logits)))), rel=1e-5)
    assert figures["train_auc"] == pytest.approx(roc_auc_score(label, logits))
    assert figures["train_accuracy"] == pytest.approx(balanced_accuracy_score(label, np.array(logits) >= 0))
    assert all(math.isnan(value) for value in make_learner().train_figures().values())
    assert all(math.isnan(value) for value in make_learner(mixup=0.2).train_figures().values())


def test_what_was_outputs_are_true_labels_and_logits_before_the_step() -> None:
    some = make_learner(mixup=0.4, smoothing=0.2)
    x, label = batch_of(6)
    some.learn(x, label, rate=0.1, progress=Progress(parts=2))
    assert [true for true, _ in some._outputs] == label.tolist()


@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw"}, {"optimizer": "nadam"}])
def test_tensors_hold_all_that_the_next_step_depends_on(options: dict[str, Any]) -> None:
    first, second = make_learner(ema=0.9, **options), make_learner(nn.Linear(3, 1), ema=0.9, **options)
    progress = Progress()
    for step in range(6):
        if step == 3:
            second.restore({name: value.clone() for name, value in first.tensors().items()})
        for learner in (first, second)[: 1 if step < 3 else 2]:
            learner.learn(*batch_of(8, seed=step), rate=0.1, progress=progress)
        progress.step += 1
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name


def test_float16_s_scale_is_kept_too() -> None:
    first, second = make_learner(dtype=torch.float16), make_learner(dtype=torch.float16)
    first.scaler.load_state_dict({**first.scaler.state_dict(), "scale": 64.0, "_growth_tracker": 5})
    second.restore(first.tensors())
    assert second.scaler.state_dict() == first.scaler.state_dict()
    assert second.scaler.get_scale() == 64.0


def test_logits_are_those_of_the_average_without_dropout_and_of_any_shape() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1), nn.Dropout(0.5))
    some = make_learner(model.train())
    some.model.train()
    pictures = torch.rand(5, 3, 2, 2)
    assert torch.equal(some.logits(pictures), some.logits(pictures))
    assert some.logits(pictures).shape == (5,)
    assert torch.allclose(some.logits(pictures), model[1](pictures.flatten(1)).reshape(-1))
    assert some.model.training


def same_line() -> nn.Linear:
    """Give a model whose logit is its input."""
    line = nn.Linear(1, 1)
    nn.init.ones_(line.weight)
    nn.init.zeros_(line.bias)
    return line


def feed(logit: list[float], label: list[int]) -> FeatureFeed:
    samples = [Sample(image=str(number), label=y) for number, y in enumerate(label)]
    return FeatureFeed(samples=samples, features=np.array(logit, np.float32)[:, None, None])


@pytest.mark.parametrize("size", [1, 4, 100])
def test_validation_is_that_of_scikit_learn(size: int) -> None:
    random = np.random.default_rng(1)
    label = random.integers(0, 2, 30).tolist()
    logit = ((4 * random.normal(size=30)).round() / 4 + np.array(label)).tolist()
    figures = measure(make_learner(same_line()), feed(logit, label), size=size)
    share = 1 / (1 + np.exp(-np.array(logit)))
    assert figures["valid_auc"] == pytest.approx(roc_auc_score(label, logit))
    assert figures["valid_loss"] == pytest.approx(log_loss(label, share), rel=1e-5)
    assert figures["valid_accuracy"] == pytest.approx(balanced_accuracy_score(label, np.array(logit) >= 0))
    assert figures["collapsed"] == ""


@pytest.mark.parametrize(
    ("logit", "label", "said"),
    [
        ([1.0, 2.0], [0, 1], "fake"),
        ([-1.0, -2.0], [0, 1], "real"),
        ([-1.0, 2.0], [0, 1], ""),
        ([1.0, 2.0], [1, 1], ""),  # one class only: nothing else to say
    ],
)
def test_a_collapse_is_named(logit: list[float], label: list[int], said: str) -> None:
    figures = measure(make_learner(same_line()), feed(logit, label), size=2)
    assert figures["collapsed"] == said
    assert math.isnan(figures["valid_auc"]) == (len(set(label)) == 1)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_have_an_endless_loss(broken: float) -> None:
    figures = measure(make_learner(same_line()), feed([1.0, broken, -1.0], [1, 0, 0]), size=2)
    assert figures["valid_loss"] == math.inf and math.isnan(figures["valid_auc"]) and figures["collapsed"] == ""
