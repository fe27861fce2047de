"""How does a model take one step, and how good is it?"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from deepfake_detect.metrics.classification import balanced_accuracy, roc_auc
from deepfake_detect.system.device import is_out_of_memory
from deepfake_detect.training.batches import CropFeed
from deepfake_detect.training.checkpoint import Progress, under
from deepfake_detect.training.distributed import World
from deepfake_detect.training.feature_cache import FeatureFeed
from deepfake_detect.training.optimizer import Average, make_optimizer, optimizer_tensors, restore_optimizer
from deepfake_detect.training.schedule import Schedule

_SHOWN = 50  # of the last steps, the bar shows the mean
_SHOWN_PICTURES = 1000  # of the last pictures, the bar shows the AUC


class Diverged(Exception):
    """The loss or its gradient is no number, or exploded."""


class Student:
    """A model that learns, the average of its weights, and its optimiser.

    Args:
        model: On the device; gives [N] or [N, 1] logits.
        schedule: How it learns.
        device: Where it computes.
        dtype: float32, or what automatic mixed precision computes in.
        world: The other processes that learn with it.
        class_weights: What a real and a fake picture count for in the loss.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        *,
        device: torch.device,
        dtype: torch.dtype,
        world: World,
        class_weights: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)
        self.schedule, self.device, self.dtype, self.class_weights = schedule, device, dtype, class_weights
        self.average = Average(self.model, decay=schedule.ema)
        self.optimizer = make_optimizer(self.model, schedule)
        self.forward = world.wrap(self.model, partly=isinstance(schedule.freeze, int))
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.rate = 0.0
        self._seen: deque[tuple[float, float]] = deque(maxlen=_SHOWN_PICTURES)

    def learn(self, batch: torch.Tensor, label: torch.Tensor, *, rate: float, progress: Progress) -> float:
        """Take one step; where memory is short, in more parts from here on.

        Args:
            batch: [N, ...].
            label: [N], 1 is fake.
            rate: Of this step.
            progress: Its ``parts`` and ``step`` count.

        Returns:
            The loss.

        Raises:
            Diverged: The loss or its gradient is no number.
        """
        self.rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        batch, label = batch.to(self.device, non_blocking=True), label.to(self.device, non_blocking=True)
        batch, target = self._mixed(batch, label * (1 - self.schedule.smoothing) + self.schedule.smoothing / 2)
        while True:
            try:
                loss = self._gradient(batch, target, label, progress.parts)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error) or progress.parts >= len(batch):
                    raise
            progress.parts = min(2 * progress.parts, len(batch))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        self._step(loss)
        self.average.update(self.model, step=progress.step)
        return loss

    def logits(self, batch: torch.Tensor, *, averaged: bool = True) -> torch.Tensor:
        """Give the logits [N] of a batch, in evaluation mode where averaged."""
        model = self.average.model if averaged else self.forward
        batch = batch.to(self.device)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logit: torch.Tensor = model(batch)
        return logit.float().reshape(-1)

    def told(self, losses: Sequence[float]) -> str:
        """Say for the bar how it goes: loss and AUC of the last pictures, and the rate."""
        if len(losses) % 10 == 0:
            seen = np.array(self._seen) if self._seen else np.zeros((0, 2))
            self._told_auc = roc_auc(seen[:, 0], seen[:, 1])
        recent = losses[-_SHOWN:]
        return f"loss {math.fsum(recent) / len(recent):.3f}, AUC {self._told_auc:.3f}, rate {self.rate:.1e}"

    _told_auc = math.nan

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give everything that the next step depends on."""
        found = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        found |= {f"average.{name}": value for name, value in self.average.model.state_dict().items()}
        found |= {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer)}
        scaler = self.scaler.state_dict()  # empty but for float16
        return found | {f"scaler.{name}": torch.tensor(value, dtype=torch.float64) for name, value in scaler.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `tensors` gave."""
        self.model.load_state_dict(under("model.", tensors))
        self.average.model.load_state_dict(under("average.", tensors))
        restore_optimizer(self.optimizer, under("optimizer.", tensors))
        scaler = under("scaler.", tensors)
        if scaler:
            whole = {name: int for name, value in self.scaler.state_dict().items() if isinstance(value, int)}
            self.scaler.load_state_dict({name: whole.get(name, float)(value) for name, value in scaler.items()})

    def _mixed(self, batch: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix each picture with another one of the batch."""
        if not self.schedule.mixup:
            return batch, target
        share = float(torch.distributions.Beta(self.schedule.mixup, self.schedule.mixup).sample())
        other = torch.randperm(len(batch))
        return share * batch + (1 - share) * batch[other], share * target + (1 - share) * target[other]

    def _gradient(self, batch: torch.Tensor, target: torch.Tensor, label: torch.Tensor, parts: int) -> float:
        self.optimizer.zero_grad()
        total = 0.0
        chunks = list(zip(batch.chunk(parts), target.chunk(parts), label.chunk(parts), strict=True))
        for number, (some, wanted, true) in enumerate(chunks):
            with self._alone(alone=number < len(chunks) - 1):
                logit = self.logits(some, averaged=False)
                loss = self._loss(logit, wanted) * (len(some) / len(batch))
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            self._seen.extend(zip((true > 0.5).tolist(), logit.detach().tolist(), strict=True))  # labels may be soft
        return total

    def _loss(self, logit: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        real, fake = self.class_weights
        smoothing = self.schedule.smoothing
        share = (wanted - smoothing / 2) / (1 - smoothing)  # of a fake, where two are mixed
        weight = None if real == fake == 1 else real + (fake - real) * share
        return functional.binary_cross_entropy_with_logits(logit, wanted, weight=weight)

    def _alone(self, *, alone: bool) -> Any:
        """Keep gradients to this process until the last part of a batch."""
        no_sync = getattr(self.forward, "no_sync", None)
        return no_sync() if alone and no_sync else contextlib.nullcontext()

    def _step(self, loss: float) -> None:
        self.scaler.unscale_(self.optimizer)
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = float(torch.nn.utils.clip_grad_norm_(trained, self.schedule.clip))
        if not math.isfinite(loss) or (not math.isfinite(norm) and not self.scaler.is_enabled()):
            self._seen.clear()
            raise Diverged(f"the loss is {loss:g} and the norm of its gradient {norm:g}")
        self.scaler.step(self.optimizer)
        self.scaler.update()


def measure(student: Student, feed: CropFeed | FeatureFeed, *, size: int) -> dict[str, Any]:
    """Score validation pictures with the averaged weights.

    Returns:
        ``valid_loss``, ``valid_auc``, ``valid_accuracy`` and ``collapsed`` of an `Epoch`; the loss is infinite where
        the model gives no numbers.
    """
    keys = [(index, 0) for index in range(len(feed.samples))]
    found = []
    with torch.inference_mode():
        found = [(student.logits(batch).cpu(), label) for batch, label in feed.batches(keys, size=size)]
    logit, label = (torch.cat(parts) for parts in zip(*found, strict=True))
    y, said = label.numpy(), logit.double().numpy()
    if not np.isfinite(said).all():
        return {"valid_loss": math.inf, "valid_auc": math.nan, "valid_accuracy": math.nan, "collapsed": ""}
    collapsed = "" if len(set(y)) < 2 or (said > 0).any() != (said > 0).all() else "fake" if said[0] > 0 else "real"
    return {
        "valid_loss": float(functional.binary_cross_entropy_with_logits(logit.double(), label.double())),
        "valid_auc": roc_auc(y, said),
        "valid_accuracy": balanced_accuracy(y, said, threshold=0.0),
        "collapsed": collapsed,
    }
