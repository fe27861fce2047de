"""Take one optimization step, and measure a model on validation pictures."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from deepfake_detect.models.head import head_of
from deepfake_detect.system.device import is_out_of_memory
from deepfake_detect.training.batches import CropFeed
from deepfake_detect.training.checkpoint import Progress, under
from deepfake_detect.training.distributed import World
from deepfake_detect.training.feature_cache import FeatureFeed
from deepfake_detect.training.objective import REAL_OR_FAKE, Objective
from deepfake_detect.training.optimizer import Average, make_optimizer, optimizer_tensors, restore_optimizer, set_frozen
from deepfake_detect.training.schedule import Schedule

_SHOWN_STEPS = 50  # the progress bar shows the mean loss of so many steps
_SHOWN_PICTURES = 1000  # and the AUC of so many pictures


class Diverged(Exception):
    """The loss or its gradient is not finite, or exploded."""


class Learner:
    """A model in training, the moving average of its weights, and its optimizer.

    Args:
        model: On the device; returns [N] or [N, 1] logits, or [N, K] for the classes of the objective.
        schedule: Settings of the training.
        device: Device of the model.
        dtype: float32, or the precision of automatic mixed precision.
        world: The processes that train it together.
        class_weights: Weight of each class in the loss.
        objective: Loss and figures.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        *,
        device: torch.device,
        dtype: torch.dtype,
        world: World,
        class_weights: tuple[float, ...] = (1.0, 1.0),
        objective: Objective = REAL_OR_FAKE,
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)
        self.schedule, self.device, self.dtype = schedule, device, dtype
        self.objective, self.class_weights = objective, class_weights
        self.average = Average(self.model, decay=schedule.ema)
        self.optimizer = make_optimizer(self.model, schedule)
        self.forward = world.wrap(self.model, partly=isinstance(schedule.freeze, int))
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.rate = 0.0
        self._outputs: list[tuple[float, Any]] = []  # label and logits of the pictures of this epoch

    def learn(self, batch: torch.Tensor, label: torch.Tensor, *, rate: float, progress: Progress) -> float:
        """Take one step; out of memory, in twice as many parts from now on.

        Args:
            batch: Input [N, ...].
            label: Labels [N]: 1 is fake, or the numbers of the classes.
            rate: Learning rate of this step.
            progress: Its ``parts`` may grow; its ``step`` sets the decay of the average.

        Returns:
            The loss.

        Raises:
            Diverged: The loss or its gradient is not finite.
        """
        self.rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        batch, label = batch.to(self.device, non_blocking=True), label.to(self.device, non_blocking=True)
        batch, target = self._mixed(batch, self.objective.target(label, smoothing=self.schedule.smoothing))
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
        """Return the logits of a batch: of the averaged weights in evaluation mode, or of the model in training."""
        model = self.average.model if averaged else self.forward
        batch = batch.to(self.device)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logit: torch.Tensor = model(batch)
        return self.objective.shaped(logit.float())

    def begin_epoch(self, *, frozen: bool = False) -> None:
        """Put the model into training mode, or its head alone, and forget the outputs of the last epoch."""
        set_frozen(self.model, frozen=frozen)
        self._outputs.clear()

    def progress_text(self, losses: Sequence[float]) -> str:
        """Return the text of the progress bar: mean loss, AUC where both classes were seen, and the rate."""
        if len(losses) % 10 == 0:
            self._shown_auc = self.objective.auc(*_as_arrays(self._outputs[-_SHOWN_PICTURES:]))
        recent = losses[-_SHOWN_STEPS:]
        auc = "" if math.isnan(self._shown_auc) else f"AUC {self._shown_auc:.3f}, "
        return f"loss {math.fsum(recent) / len(recent):.3f}, {auc}rate {self.rate:.1e}"

    _shown_auc = math.nan

    def train_figures(self) -> dict[str, Any]:
        """Return ``train_loss``, ``train_auc`` and ``train_accuracy`` of an `Epoch`; nan with mixup."""
        if self.schedule.mixup or not self._outputs:
            return dict.fromkeys(("train_loss", "train_auc", "train_accuracy"), math.nan)
        figures = self.objective.figures(*_as_arrays(self._outputs))
        return {f"train_{name}": figures[name] for name in ("loss", "auc", "accuracy")}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return everything that the next step depends on."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer)}
        scaler = self.scaler.state_dict()  # empty except for float16
        return tensors | {f"scaler.{name}": torch.tensor(value, dtype=torch.float64) for name, value in scaler.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Load what `tensors` returned."""
        self.model.load_state_dict(under("model.", tensors))
        self.average.model.load_state_dict(under("average.", tensors))
        restore_optimizer(self.optimizer, under("optimizer.", tensors))
        scaler = under("scaler.", tensors)
        if scaler:
            types = {name: int for name, value in self.scaler.state_dict().items() if isinstance(value, int)}
            self.scaler.load_state_dict({name: types.get(name, float)(value) for name, value in scaler.items()})

    def _mixed(self, batch: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix each picture with another one of the batch (mixup)."""
        if not self.schedule.mixup:
            return batch, target
        share = float(torch.distributions.Beta(self.schedule.mixup, self.schedule.mixup).sample())
        other = torch.randperm(len(batch))
        return share * batch + (1 - share) * batch[other], share * target + (1 - share) * target[other]

    def _gradient(self, batch: torch.Tensor, target: torch.Tensor, label: torch.Tensor, parts: int) -> float:
        self.optimizer.zero_grad()
        total = 0.0
        chunks = list(zip(batch.chunk(parts), target.chunk(parts), label.chunk(parts), strict=True))
        outputs: list[tuple[float, Any]] = []
        for number, (part, part_target, part_label) in enumerate(chunks):
            with self._unsynchronized(last=number == len(chunks) - 1):
                logit = self.logits(part, averaged=False)
                loss = self._loss(logit, part_target) * (len(part) / len(batch))
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            hard = part_label.round().tolist()  # labels of a teacher may be soft
            outputs += zip(map(float, hard), logit.detach().tolist(), strict=True)
        self._outputs += outputs
        return total

    def _loss(self, logit: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.objective.loss(logit, target, smoothing=self.schedule.smoothing, weights=self.class_weights)

    def _unsynchronized(self, *, last: bool) -> Any:
        """Exchange gradients between processes only after the last part of a batch."""
        no_sync = getattr(self.forward, "no_sync", None)
        return contextlib.nullcontext() if last or no_sync is None else no_sync()

    def _step(self, loss: float) -> None:
        self.scaler.unscale_(self.optimizer)
        trained = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = float(torch.nn.utils.clip_grad_norm_(trained, self.schedule.clip))
        if not math.isfinite(loss) or (not math.isfinite(norm) and not self.scaler.is_enabled()):
            raise Diverged(f"the loss is {loss:g} and the norm of its gradient {norm:g}")
        self.scaler.step(self.optimizer)
        self.scaler.update()


def trained_part(model: nn.Module, schedule: Schedule) -> nn.Module:
    """Return what a training changes: the head alone where the backbone stays frozen, else the whole model."""
    return head_of(model)[1] if schedule.freeze == "backbone" else model


def measure(learner: Learner, feed: CropFeed | FeatureFeed, *, size: int) -> dict[str, Any]:
    """Measure the averaged weights on validation pictures.

    Args:
        learner: The model in training.
        feed: The validation pictures.
        size: Pictures in a batch.

    Returns:
        ``valid_loss``, ``valid_auc``, ``valid_accuracy`` and ``collapsed`` of an `Epoch`; the loss is infinite where
        logits are not finite.
    """
    keys = [(index, 0) for index in range(len(feed.samples))]
    with torch.inference_mode():
        outputs = [(learner.logits(batch).cpu(), label) for batch, label in feed.batches(keys, size=size)]
    logit, label = (torch.cat(parts).double() for parts in zip(*outputs, strict=True))
    labels, logits = label.numpy(), logit.numpy()
    if not np.isfinite(logits).all():
        return {"valid_loss": math.inf, "valid_auc": math.nan, "valid_accuracy": math.nan, "collapsed": ""}
    figures = learner.objective.figures(labels, logits)
    valid = {f"valid_{name}": figures[name] for name in ("loss", "auc", "accuracy")}
    return {**valid, "collapsed": figures["collapsed"]}


def _as_arrays(outputs: Sequence[tuple[float, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels [N] and logits [N] or [N, K] of pictures; empty arrays where there are none."""
    labels, logits = zip(*outputs, strict=True) if outputs else ((), ())
    return np.array(labels, np.float64), np.array(logits, np.float64)
