"""Test learning rates of layers, frozen layers and averaged weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deepfake_detect.models.head import head_of
from deepfake_detect.models.registry import create_model
from deepfake_detect.training.optimizer import Average, make_optimizer, optimizer_tensors, restore_optimizer, set_frozen
from deepfake_detect.training.schedule import Schedule


def rates(model: nn.Module, schedule: Schedule) -> dict[str, float]:
    """Give each parameter's share of the rate."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = make_optimizer(model, schedule).param_groups
    return {names[id(member)]: group["scale"] for group in groups for member in group["params"]}


@pytest.mark.parametrize(
    "architecture", ["cnn-simple", "cnn4", "meso4", "mesoinception4", "efficientnet-b0", "xception"]
)
def test_each_block_learns_slower_than_the_next(architecture: str) -> None:
    model = create_model(architecture, seed=0)
    rates_of = rates(model, Schedule(epochs=1, layer_decay=0.5))
    assert list(rates_of.keys() ^ dict(model.named_parameters()).keys()) == []
    in_order = [rates_of[name] for name, _ in model.named_parameters()]
    assert in_order == sorted(in_order) and in_order[-1] == 1.0
    assert in_order[0] == 0.5 ** (len(set(in_order)) - 1)  # no block is left out
    assert len(set(in_order)) > 2
    head = head_of(model)[0]
    assert all(value == 1.0 for name, value in rates_of.items() if name.startswith(head + "."))
    assert set(rates(model, Schedule(epochs=1)).values()) == {1.0}


def test_biases_and_norms_do_not_decay() -> None:
    model = create_model("meso4", seed=0)
    decay = {
        id(member): group["weight_decay"]
        for group in make_optimizer(model, Schedule(epochs=1, weight_decay=0.3)).param_groups
        for member in group["params"]
    }
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.3 if name.endswith("weight") and parameter.ndim > 1 else 0.0), name


def test_the_average_starts_fast_and_ends_at_its_decay() -> None:
    model = nn.BatchNorm1d(1)
    average, expected = Average(model, decay=0.9), 1.0
    for step in range(200):
        with torch.no_grad():
            model.weight.fill_(float(step % 7))
            model.running_mean.fill_(float(step))
            model.num_batches_tracked.fill_(step)
        average.update(model, step=step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step % 7)
        assert float(average.model.weight) == pytest.approx(expected, rel=1e-4)
        assert int(average.model.num_batches_tracked) == step
    assert float(average.model.running_mean) == pytest.approx(199 - 9, abs=0.01)  # behind by decay / (1 - decay)
    follows = Average(model, decay=0.0)
    with torch.no_grad():
        model.weight.fill_(5.0)
    follows.update(model, step=0)
    assert float(follows.model.weight) == 5.0


@pytest.mark.parametrize("kind", ["adamw", "adam", "nadam", "sgd"])
def test_a_restored_optimiser_goes_on_to_the_bit(kind: str) -> None:
    schedule = Schedule(epochs=1, optimizer=kind, lr=0.1, layer_decay=0.7)  # type: ignore[arg-type]

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            optimizer.zero_grad()
            (model(torch.full((2, 3), float(number))) ** 2).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    first, second = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(2))
    optimizer = make_optimizer(first, schedule)
    steps(first, optimizer, range(3))
    second.load_state_dict(first.state_dict())
    restored = make_optimizer(second, schedule)
    restore_optimizer(restored, dict(optimizer_tensors(optimizer)))
    steps(first, optimizer, range(3, 6))
    steps(second, restored, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("architecture", ["meso4", "efficientnet-b0"])
def test_a_frozen_backbone_keeps_weights_and_statistics(architecture: str) -> None:
    model = create_model(architecture, seed=0, dropout=0.5)
    set_frozen(model, frozen=True)
    head, _ = head_of(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.rand(4, 3, 64, 64)).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, _ in model.named_parameters() if name.startswith(head + ".")
    }
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert head_of(model)[1].training
    set_frozen(model, frozen=False)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
