"""Find a learning rate by raising it from step to step until the loss explodes (Smith 2017, arXiv:1506.01186)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from deepfake_detect._options import real_number, whole_number
from deepfake_detect.drawing.canvas import draw_chart
from deepfake_detect.errors import InvalidOption
from deepfake_detect.system.device import find_device
from deepfake_detect.system.torch_defaults import usual_defaults
from deepfake_detect.training.autotune import choose_batch_size
from deepfake_detect.training.batches import CropFeed, draw, steps_in
from deepfake_detect.training.checkpoint import Progress
from deepfake_detect.training.distributed import World
from deepfake_detect.training.optimizer import set_frozen
from deepfake_detect.training.prepare import prepare_data
from deepfake_detect.training.schedule import make_schedule
from deepfake_detect.training.step import Diverged, Learner
from deepfake_detect.weights.card import Card

_SMOOTHING = 0.8  # of the loss from step to step
_EXPLODED = 3.0  # times the lowest loss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RateSweep:
    """The loss over the learning rate.

    Attributes:
        rates: Learning rate of each step.
        losses: Loss of each step, smoothed.
        suggestion: The rate at which the loss fell most steeply.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float

    def __str__(self) -> str:
        return (
            f"learning rate {self.suggestion:.1e}: there the loss fell most steeply; {len(self.rates)} steps "
            f"from {self.rates[0]:.0e} to {self.rates[-1]:.0e}"
        )

    def plot(self) -> Image.Image:
        """Draw the loss over the learning rate.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        with draw_chart(5.0, 3.4, columns=1, title="Learning rate finder") as (axes, finish):
            axes[0].plot(self.rates, self.losses)
            axes[0].axvline(self.suggestion, linestyle="--", label=f"{self.suggestion:.1e}")
            axes[0].set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
            axes[0].legend(loc="best")
        return finish()


def find_rate(
    model: torch.nn.Module,
    dataset: Any,
    *,
    card: Card,
    device: str | torch.device = "auto",
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 60,
    **options: Any,
) -> RateSweep:
    """Train a copy of a model for a few steps, with a learning rate that rises exponentially.

    Args:
        model: Stays as it is.
        dataset: As for `train_model`.
        card: Card of the model.
        device: As for `Predictor`.
        low: First learning rate.
        high: Last one; the sweep ends earlier where the loss explodes.
        steps: Number of steps.
        **options: ``valid``, ``labels``, ``faces``, ``augment`` and ``self_blend`` as for `train_model`; fields of
            `Schedule`.

    Raises:
        DatasetError: The data cannot be read, or hold one class only.
        InvalidOption: An option of the wrong type, or ``low`` is not below ``high``.
    """
    steps = whole_number("steps", steps, least=10)
    low, high = real_number("low", low, low=0, ends="()"), real_number("high", high, low=0, ends="()")
    if low >= high:
        raise InvalidOption(f"low is {low} and high {high}, expected low below high")
    data_options = {
        name: options.pop(name) for name in ("valid", "labels", "faces", "augment", "self_blend") if name in options
    }
    schedule = make_schedule(**{"epochs": 1, "ema": 0.0, **options})
    where = find_device(device)
    random = torch.random.fork_rng(devices=[where] if where.type == "cuda" else [])
    with usual_defaults(), random:
        data = prepare_data(dataset, preprocessing=card.preprocessing, seed=schedule.seed, check="off", **data_options)
        pictures = len(data.train.samples)
        size_px = card.preprocessing.size_px
        copied = copy.deepcopy(model).to(where)
        size = choose_batch_size(
            copied, schedule.batch_size, device=where, dtype=torch.float32, shape=(3, size_px, size_px),
            pictures=pictures,
        )  # fmt: skip
        learner = Learner(copied, schedule, device=where, dtype=torch.float32, world=World())
        set_frozen(learner.model, frozen=schedule.frozen_in(0))
        feed = CropFeed(data.train, preprocessing=card.preprocessing)
        epochs = -(-steps // steps_in(feed.samples, schedule, size=size))
        keys = [key for epoch in range(epochs) for key in draw(feed.samples, schedule, epoch=epoch, size=size)]
        return _sweep(learner, feed, keys[: steps * size], size=size, rates=np.geomspace(low, high, steps))


def _sweep(learner: Learner, feed: CropFeed, keys: list[tuple[int, int]], *, size: int, rates: np.ndarray) -> RateSweep:
    losses: list[float] = []
    mean, progress = 0.0, Progress()
    torch.manual_seed(learner.schedule.seed)
    for rate, (batch, label) in zip(rates.tolist(), feed.batches(keys, size=size), strict=True):
        try:
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * learner.learn(batch, label, rate=rate, progress=progress)
        except Diverged:
            break
        progress.step += 1
        losses.append(mean / (1 - _SMOOTHING ** (len(losses) + 1)))
        if losses[-1] > _EXPLODED * min(losses):
            break
    used = rates[: len(losses)]
    return RateSweep(rates=tuple(used.tolist()), losses=tuple(losses), suggestion=suggest_rate(used, np.array(losses)))


def suggest_rate(rates: np.ndarray, losses: np.ndarray) -> float:
    """Return the rate at which the loss falls most steeply over the logarithm of the rate, before its minimum.

    Args:
        rates: Rising rates [N].
        losses: Smoothed losses [N].

    Raises:
        InvalidOption: Fewer than three steps before the loss exploded.

    Example:
        >>> rates = np.geomspace(1e-6, 1, 61)
        >>> losses = 1 / (1 + (rates / 1e-3)) + rates ** 2  # falls most steeply at 1e-3
        >>> bool(5e-4 < suggest_rate(rates, losses) < 2e-3)
        True
    """
    end = int(np.argmin(losses)) + 1 if len(losses) else 0
    if len(losses) < 3:
        raise InvalidOption(f"the loss exploded after {len(losses)} steps; begin with a lower rate than {rates[:1]}")
    if end < 3:
        return float(rates[end - 1] / 10)
    slope = np.gradient(losses[:end], np.log(rates[:end]))
    return float(rates[int(np.argmin(slope))])
