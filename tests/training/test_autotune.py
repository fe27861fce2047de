"""Test that precision and batch size are chosen by what is fast, and that the model is not changed."""

from __future__ import annotations

import pytest
import torch

from deepfake_detect.models.registry import create_model
from deepfake_detect.training.autotune import best_batch, choose_batch_size, choose_dtype

CPU, SHAPE = torch.device("cpu"), (3, 64, 64)


@pytest.mark.parametrize("most", [7, 8, 9, 63, 64, 200, 5000])
def test_a_batch_grows_until_memory_ends(most: int) -> None:
    tried: list[int] = []

    def attempt(count: int) -> float:
        tried.append(count)
        if count > most:
            raise torch.OutOfMemoryError("out of memory")
        return 1.0

    found = best_batch(attempt, most=512)
    assert found == max(8, max((8 * 2**n for n in range(7) if 8 * 2**n <= most), default=0))
    assert tried == [8 * 2**n for n in range(len(tried))]


def test_a_batch_does_not_grow_where_it_is_no_faster() -> None:
    assert best_batch(lambda count: 0.01 + count / 1000, most=512) == 128  # 64 to 128 gives 7 %, to 256 only 3 %
    assert best_batch(lambda count: count / 1000, most=512) == 8
    assert best_batch(lambda count: 1.0, most=5) == 5


def test_another_error_is_no_lack_of_memory() -> None:
    def broken(count: int) -> float:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        best_batch(broken, most=64)


def test_on_a_cpu_no_batch_is_tried() -> None:
    model = torch.nn.Identity()
    sizes = [
        choose_batch_size(model, "auto", device=CPU, dtype=torch.float32, shape=SHAPE, pictures=pictures)
        for pictures in (3, 40, 100, 1000)
    ]
    assert sizes == [4, 10, 25, 32]
    assert choose_batch_size(model, 7, device=CPU, dtype=torch.float32, shape=SHAPE, pictures=2) == 2
    assert choose_batch_size(model, 7, device=CPU, dtype=torch.float32, shape=SHAPE, pictures=20) == 7


def test_the_faster_numbers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("efficientnet-b0", seed=0)
    for half, found in ((0.5, torch.bfloat16), (0.9, torch.float32), (3.0, torch.float32)):
        monkeypatch.setattr(
            "deepfake_detect.training.autotune._seconds",
            lambda *args, half=half: half if args[2] == torch.bfloat16 else 1.0,
        )
        assert choose_dtype(model, "auto", device=CPU, shape=SHAPE) == found
    assert choose_dtype(model, "bfloat16", device=CPU, shape=SHAPE) == torch.bfloat16
    assert choose_dtype(create_model("meso4", seed=0), "auto", device=CPU, shape=SHAPE) == torch.float32


def test_a_trial_leaves_the_model_alone() -> None:
    model = create_model("efficientnet-b0", seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    choose_dtype(model, "auto", device=CPU, shape=SHAPE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training and torch.equal(state, torch.get_rng_state())
