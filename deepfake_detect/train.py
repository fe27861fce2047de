"""How does a model learn, stop, and go on where it stopped?"""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional
from tqdm.auto import tqdm

from deepfake_detect.card import Card
from deepfake_detect.crops import CropDataset
from deepfake_detect.errors import TrainingDiverged, WeightsMismatch
from deepfake_detect.metrics import roc_auc
from deepfake_detect.preprocess import to_batch
from deepfake_detect.split import balanced_weights
from deepfake_detect.weights import save_bundle

logger = logging.getLogger("deepfake_detect")

STATE = "state.safetensors"
"""The file beside a bundle that a training goes on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        epochs: Each ends with a validation and a checkpoint.
        epoch_samples: Pictures drawn in an epoch, balanced; None draws as many as there are.
        batch_size: Pictures in a step.
        lr: Highest rate of AdamW (Loshchilov and Hutter 2019).
        weight_decay: Of weights; biases and norms have none.
        warmup: Share of all steps in which the rate rises; then it falls along a cosine.
        smoothing: Labels are this far from 0 and 1.
        ema: Decay of the averaged weights, which are those that are kept.
        balance: Power of a source's size in the draw; see `balanced_weights`.
        favour: Sources that are drawn so many times as often.
        bfloat16: Autocast on the CPU; twice as fast where the processor has the instructions.
        seed: Of the draw, the augmentation and the dropout.
    """

    epochs: int
    epoch_samples: int | None = None
    batch_size: int = 32
    lr: float = 5e-4
    weight_decay: float = 0.01
    warmup: float = 0.05
    smoothing: float = 0.05
    ema: float = 0.998
    balance: float = 0.5
    favour: Mapping[str, float] = field(default_factory=dict)
    bfloat16: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        epoch: Counted from 1.
        loss: Mean over the epoch, with smoothed labels.
        valid_auc: Of the averaged weights; not a number without validation data.
        rate: At the end.
        samples_per_s: Training alone.
    """

    epoch: int
    loss: float
    valid_auc: float
    rate: float
    samples_per_s: float


def fit(
    model: torch.nn.Module,
    train: CropDataset,
    *,
    card: Card,
    schedule: Schedule,
    out: str | os.PathLike[str],
    valid: CropDataset | None = None,
    workers: int = 1,
    resume: bool = True,
) -> list[Epoch]:
    """Train a model on the CPU; leave a bundle and the state to go on from after every epoch.

    Args:
        model: One logit for an input [N, 3, H, W]; ends with the averaged weights.
        train: Augmented crops of both classes.
        card: Of the bundle; preprocessing included.
        schedule: How long and how fast.
        out: Folder of the bundle, of ``state.safetensors`` and of ``history.csv``.
        valid: Crops as in use; scored after each epoch.
        workers: Processes that load and augment.
        resume: Go on from ``state.safetensors`` where it is there; the end is the same, to the bit
            with the same number of threads, as without the pause.

    Returns:
        One entry for each epoch.

    Raises:
        DatasetError: One class only.
        TrainingDiverged: The loss is no number.
        WeightsMismatch: The state in ``out`` is of another model.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(model, schedule, steps=schedule.epochs * _steps(train, schedule))
    history = run.load(out) if resume else []
    for epoch in range(len(history), schedule.epochs):
        keys = _draw(train, schedule, epoch)
        loss, speed = _learn(run, train, keys, card, workers, epoch)
        auc = _validate(run.average.module, valid, card, schedule)
        history.append(Epoch(epoch=epoch + 1, loss=loss, valid_auc=auc, rate=run.rate, samples_per_s=speed))
        logger.info("epoch %d: loss %.4f, validation AUC %.4f, %.1f pictures/s", epoch + 1, loss, auc, speed)
        save_bundle(run.average.module, card, out, half=False)
        run.save(out, history)
    model.load_state_dict(run.average.module.state_dict())
    return history


class _Run:
    """A model on its way: weights, their average, the optimiser, and how to stop and go on."""

    def __init__(self, model: torch.nn.Module, schedule: Schedule, *, steps: int) -> None:
        self.schedule, self.steps, self.step, self.rate = schedule, steps, 0, 0.0
        self.model = model.to(memory_format=torch.channels_last)
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(schedule.ema)  # type: ignore[no-untyped-call]
        self.average = torch.optim.swa_utils.AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.lr)
        self.parameters = [*decayed, *plain]

    def update(self, batch: torch.Tensor, label: torch.Tensor) -> float:
        """Take one step; give the loss."""
        self.rate = self.schedule.lr * _share_of_rate(self.step, self.steps, self.schedule.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        with torch.autocast("cpu", torch.bfloat16, enabled=self.schedule.bfloat16):
            logit = self.model(batch.contiguous(memory_format=torch.channels_last))
        target = label * (1 - self.schedule.smoothing) + self.schedule.smoothing / 2
        loss = functional.binary_cross_entropy_with_logits(logit.float(), target)
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"the loss is {loss.item()} at step {self.step} of {self.steps}, rate {self.rate:.2g}; "
                "use a lower rate, or look for damaged pictures"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self.average.update_parameters(self.model)
        return loss.item()

    def save(self, out: Path, history: list[Epoch]) -> None:
        """Write everything that the next epoch depends on, whole or not at all."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, parameter in enumerate(self.parameters):
            for name, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{index}.{name}"] = value
        tensors["step"] = torch.tensor(self.step)
        tensors["history"] = torch.tensor([list(asdict(epoch).values()) for epoch in history], dtype=torch.float64)
        partial = out / f"{STATE}.partial"
        safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, partial)
        os.replace(partial, out / STATE)
        _write_history(out / "history.csv", history)

    def load(self, out: Path) -> list[Epoch]:
        """Go back to what was saved; the epochs so far, none where nothing was."""
        if not (out / STATE).exists():
            return []
        tensors = safetensors.torch.load_file(out / STATE)
        try:
            self.model.load_state_dict(_under("model.", tensors))
            self.average.load_state_dict(_under("average.", tensors))
        except RuntimeError as error:
            raise WeightsMismatch(f"{out / STATE} is of another model; train into another folder: {error}") from None
        for index, parameter in enumerate(self.parameters):
            self.optimizer.state[parameter] = dict(_under(f"optimizer.{index}.", tensors))
        self.step = int(tensors["step"])
        return [_epoch(row) for row in tensors["history"].tolist()]


def _steps(train: CropDataset, schedule: Schedule) -> int:
    return math.ceil((schedule.epoch_samples or len(train)) / schedule.batch_size)


def _draw(train: CropDataset, schedule: Schedule, epoch: int) -> list[tuple[int, int]]:
    """Choose the epoch's pictures, and a seed for each."""
    random = np.random.default_rng([schedule.seed, epoch])
    count = _steps(train, schedule) * schedule.batch_size
    weight = balanced_weights(train.samples, power=schedule.balance, favour=schedule.favour)
    chosen = random.choice(len(train), count, p=weight)
    return list(zip(chosen.tolist(), random.integers(2**62, size=count).tolist(), strict=True))


def _learn(
    run: _Run, train: CropDataset, keys: list[tuple[int, int]], card: Card, workers: int, epoch: int
) -> tuple[float, float]:
    """Run through one epoch: mean loss, pictures a second."""
    torch.manual_seed(run.schedule.seed * 1000 + epoch)
    run.model.train()
    started, losses = time.monotonic(), []
    batches = _batches(train, keys, card, run.schedule.batch_size, workers)
    bar = tqdm(batches, total=len(keys) // run.schedule.batch_size, desc=f"epoch {epoch + 1}", disable=None)
    for batch, label in bar:
        losses.append(run.update(batch, label))
        bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", rate=f"{run.rate:.1e}")
    return float(np.mean(losses)), len(keys) / (time.monotonic() - started)


def _validate(model: torch.nn.Module, valid: CropDataset | None, card: Card, schedule: Schedule) -> float:
    if valid is None:
        return float("nan")
    model.eval()
    logits, labels = [], []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=schedule.bfloat16):
        for batch, label in _batches(valid, list(range(len(valid))), card, schedule.batch_size, 0):
            logits.append(model(batch.contiguous(memory_format=torch.channels_last)).float())
            labels.append(label)
    return roc_auc(torch.cat(labels).numpy(), torch.cat(logits).numpy())


def _batches(
    dataset: CropDataset, keys: list[tuple[int, int]] | list[int], card: Card, size: int, workers: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=size, sampler=keys, num_workers=workers, prefetch_factor=4 if workers else None
    )
    for pixels, label in loader:
        yield to_batch(pixels.numpy(), preprocessing=card.preprocessing), label.float()


def _share_of_rate(step: int, steps: int, warmup: float) -> float:
    """Rise in a straight line, then fall along half a cosine to a hundredth."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _epoch(row: list[float]) -> Epoch:
    number, loss, auc, rate, speed = row
    return Epoch(epoch=int(number), loss=loss, valid_auc=auc, rate=rate, samples_per_s=speed)


def _write_history(path: Path, history: list[Epoch]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [column.name for column in fields(Epoch)])
        table.writeheader()
        table.writerows(asdict(epoch) for epoch in history)
