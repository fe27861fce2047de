"""How does a model learn, stop and go on where it stopped?"""

from __future__ import annotations

import copy
import functools
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from deepfake_detect.errors import TrainingDiverged, WeightsMismatch
from deepfake_detect.models.head import head_of
from deepfake_detect.system.device import count_processors, find_device
from deepfake_detect.system.torch_defaults import usual_defaults
from deepfake_detect.training.autotune import choose_batch_size, choose_dtype
from deepfake_detect.training.batches import CropFeed, draw, steps_in
from deepfake_detect.training.checkpoint import (
    STATE,
    Progress,
    describe_training,
    load_state,
    save_state,
    under,
    write_history,
)
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.distributed import World, join, own_device
from deepfake_detect.training.feature_cache import FeatureFeed, cache_features
from deepfake_detect.training.optimizer import set_frozen
from deepfake_detect.training.schedule import Epoch, Schedule
from deepfake_detect.training.step import Diverged, Student, measure
from deepfake_detect.training.tensorboard import Board
from deepfake_detect.weights.card import Card
from deepfake_detect.weights.head_bundle import HeadBundle
from deepfake_detect.weights.load import save_bundle

logger = logging.getLogger("deepfake_detect")

Callback = Callable[[Epoch], Any]
"""Called after each epoch; returning False ends the training there."""

_SLOWER_TRIES = 2  # so often the rate is halved
_EXPLODED = 4.0  # a mean loss so many times the best is a divergence


@usual_defaults()
def fit(
    model: torch.nn.Module,
    train: CropDataset,
    *,
    card: Card,
    schedule: Schedule,
    out: str | os.PathLike[str],
    valid: CropDataset | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    workers: int | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> list[Epoch]:
    """Teach a model; leave a bundle of its best epoch and the state to go on from after every epoch.

    The weights that are kept are averaged ones (`Schedule.ema`), of the epoch with the best AUC on the validation
    pictures, or of the last one without any. Where memory is short a batch is computed in parts, with the same
    gradients. Where the loss becomes no number, or explodes, the training goes back to its last state with half the
    rate, twice at the most. Several processes started by ``torchrun`` train one model together.

    Args:
        model: One logit for an input [N, 3, H, W]; ends with the weights of the best epoch, on the device.
        train: Crops of both classes, augmented.
        card: Of the bundle; preprocessing included.
        schedule: How long and how fast.
        out: Folder of the bundle, of ``state.safetensors`` and of ``history.csv``.
        valid: Crops as in use; scored after each epoch.
        device: As for `find_device`.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``, the last two as automatic mixed precision; ``"auto"``
            is what is faster here.
        workers: Processes that make crops; 0 makes them in threads, as None does where there is no accelerator.
        resume: Go on from the state in ``out`` where there is one. The end is the same, on a CPU with the same number
            of threads to the bit, as without the pause.
        callbacks: See `Callback`.

    Returns:
        One entry for each epoch.

    Raises:
        DatasetError: One class only, where the draw is balanced.
        TrainingDiverged: For the third time; ``history`` holds the epochs so far.
        WeightsMismatch: The state in ``out`` is of another training.
        ValueError: ``out`` holds a training, and ``resume`` is False.
    """
    where = own_device(find_device(device))
    run = _Run(model.to(where), train, valid, card=card, schedule=schedule, out=Path(out), device=where)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        run.begin(resume=resume, dtype=dtype, workers=workers)
        run.go_on(callbacks)
    run.finish()
    return run.progress.history


class _Run:
    """One training: its parts, and how far it has come."""

    def __init__(
        self,
        model: torch.nn.Module,
        train: CropDataset,
        valid: CropDataset | None,
        *,
        card: Card,
        schedule: Schedule,
        out: Path,
        device: torch.device,
    ) -> None:
        self.model, self.card, self.schedule, self.out, self.device = model, card, schedule, out, device
        self.crops = (train, valid)
        self.world: World = join(device)
        self.progress = Progress()
        self.best: dict[str, torch.Tensor] = {}  # weights of the best epoch
        self.bundle = HeadBundle(model, card, out)  # where the head alone learns
        self.training = describe_training(
            schedule,
            {"pictures": train.samples, "validation": valid.samples if valid else []},
            augmentation=train.augmentation,
            preprocessing=card.preprocessing,
            processes=self.world.size,
        )

    def begin(self, *, resume: bool, dtype: str | torch.dtype, workers: int | None) -> None:
        """Find the state to go on from, or what fits this machine; and make ready what is learned from."""
        self.out.mkdir(parents=True, exist_ok=True)
        if not resume and (self.out / STATE).exists():
            raise ValueError(f"{self.out} holds a training; pass resume=True to go on, or choose another folder")
        found = load_state(self.out, training=self.training) if resume else None
        if found:
            self.progress = found[1]
        else:
            self._choose(dtype)
        self.dtype = getattr(torch, self.progress.dtype)
        self.feed, self.valid = self._feeds(workers)
        weights = self.schedule.weights_of([sample.label for sample in self.feed.samples])
        self.student = Student(
            self._learner(self.model),
            self.schedule,
            device=self.device,
            dtype=self.dtype,
            world=self.world,
            class_weights=weights,
        )
        self.start = copy.deepcopy(self.student.tensors())
        if found:
            self._restore(found[0])
            self._publish()

    def go_on(self, callbacks: Sequence[Callback]) -> None:
        """Run the epochs that are missing."""
        with Board(self.out if self.world.leads else None) as board:
            while len(self.progress.history) < self.schedule.epochs and not self._out_of_patience():
                try:
                    epoch = self._epoch(len(self.progress.history))
                except Diverged as error:
                    self._go_back(str(error))
                    continue
                self._keep(epoch)
                board.show(epoch)
                wanted = [callback(epoch) for callback in callbacks] if self.world.leads else []
                if self.world.agree(any(answer is False for answer in wanted)):
                    logger.info("ended after epoch %d, as a callback asked for", epoch.epoch)
                    return

    def finish(self) -> None:
        """Give the model the weights that were kept."""
        self.world.agree(None)  # the leading process has written the bundle
        if self.best:
            self._learner(self.model).load_state_dict(self.best)
        self.model.requires_grad_(True)
        self.model.eval()

    @property
    def _head_only(self) -> bool:
        return self.schedule.freeze == "backbone"

    def _learner(self, model: torch.nn.Module) -> torch.nn.Module:
        """Give the part of a model that learns."""
        return head_of(model)[1] if self._head_only else model

    @property
    def _size(self) -> int:
        """Pictures in a step, of all processes."""
        each = self.progress.batch_size * self.schedule.accumulate
        return each * self.world.size

    def _choose(self, dtype: str | torch.dtype) -> None:
        shape = (3, self.card.preprocessing.size_px, self.card.preprocessing.size_px)
        chosen = choose_dtype(self.model, dtype, device=self.device, shape=shape)
        size = choose_batch_size(
            self.model, self.schedule.batch_size, device=self.device, dtype=chosen, shape=shape,
            pictures=len(self.crops[0].samples),
        )  # fmt: skip
        told = (str(chosen).removeprefix("torch."), size)
        self.progress.dtype, self.progress.batch_size = self.world.agree(told)
        self.progress.parts = self.schedule.accumulate

    def _feeds(self, workers: int | None) -> tuple[CropFeed | FeatureFeed, CropFeed | FeatureFeed | None]:
        count = workers if workers is not None else 0 if self.device.type == "cpu" else min(8, os.cpu_count() or 1)
        wanted = self.card.preprocessing
        train, valid = self.crops
        ahead = self.device.type != "cpu" or torch.get_num_threads() < count_processors()
        make = functools.partial(CropFeed, preprocessing=wanted, workers=count, ahead=ahead)
        feed, check = make(train), make(valid) if valid else None
        if not self._head_only:
            return feed, check
        if not self.world.leads:
            self.world.agree(None)  # the leading process has computed the features
        kept = functools.partial(cache_features, self.model, device=self.device, dtype=self.dtype, folder=self.out)
        views, seed = self.schedule.feature_views, self.schedule.seed
        features = kept(feed, views=views, seed=seed), kept(check) if check else None
        if self.world.leads:
            self.world.agree(None)
        return features

    def _epoch(self, number: int) -> Epoch:
        began, schedule, size = time.monotonic(), self.schedule, self._size
        torch.manual_seed(schedule.seed * 1000 + number)
        set_frozen(self.student.model, frozen=schedule.frozen_in(number) and not self._head_only)
        keys = draw(self.feed.samples, schedule, epoch=number, size=size)
        loss = self._learn(keys, number, size)
        seconds = time.monotonic() - began
        valid: dict[str, Any] = dict.fromkeys(("valid_loss", "valid_auc", "valid_accuracy"), math.nan)
        valid["collapsed"] = ""
        if self.valid is not None and self.world.leads:
            valid = measure(self.student, self.valid, size=max(32, self.progress.batch_size))
        valid, loss = self.world.agree((valid, loss))
        self._watch(loss, valid, number)
        return Epoch(
            epoch=number + 1,
            loss=loss,
            rate=self.student.rate,
            batch_size=size,
            samples_per_s=len(keys) / seconds,
            seconds=time.monotonic() - began,
            **valid,
        )

    def _learn(self, keys: list[tuple[int, int]], number: int, size: int) -> float:
        steps = self.schedule.epochs * steps_in(self.feed.samples, self.schedule, size=size)
        own, each = keys[self.world.rank :: self.world.size], size // self.world.size
        batches = self.feed.batches(own, size=each)
        losses = []
        hidden = None if self.world.leads else True  # None: where stderr is no terminal
        bar = tqdm(batches, total=len(own) // each, desc=f"epoch {number + 1}", disable=hidden)
        for batch, label in bar:
            share = self.schedule.rate_at(self.progress.step, steps) / 2**self.progress.slowed
            losses.append(self.student.learn(batch, label, rate=self.schedule.lr * share, progress=self.progress))
            self.progress.step += 1
            if not bar.disable:
                bar.set_postfix_str(self.student.told(losses), refresh=False)
        return math.fsum(losses) / len(losses)

    def _watch(self, loss: float, valid: dict[str, Any], number: int) -> None:
        if math.isinf(valid["valid_loss"]):
            raise Diverged(f"the averaged weights give logits that are no numbers in epoch {number + 1}")
        before = [epoch.loss for epoch in self.progress.history]
        if before and loss > _EXPLODED * max(min(before), 0.5):
            raise Diverged(f"the loss rose from {min(before):.3g} to {loss:.3g} in epoch {number + 1}")
        if valid["collapsed"] and self.world.leads:
            logger.warning(
                "collapsed to one class in epoch %d: every validation picture is called %s (AUC %.3f); "
                "use a lower rate, more pictures, or a pretrained start",
                number + 1, valid["collapsed"], valid["valid_auc"],
            )  # fmt: skip

    def _keep(self, epoch: Epoch) -> None:
        history = self.progress.history
        history.append(epoch)
        logger.log(
            logging.INFO if self.world.leads else logging.DEBUG,
            "epoch %d of %d: loss %.4f, validation loss %.4f, AUC %.4f, balanced accuracy %.3f, %.1f pictures/s",
            epoch.epoch, self.schedule.epochs, epoch.loss, epoch.valid_loss, epoch.valid_auc, epoch.valid_accuracy,
            epoch.samples_per_s,
        )  # fmt: skip
        if not self.progress.best or epoch.merit > history[self.progress.best - 1].merit:
            self.progress.best = epoch.epoch
            self.best = copy.deepcopy(self.student.average.model.state_dict())
        if self.world.leads:
            tensors = self.student.tensors()
            if self.progress.best != epoch.epoch:
                tensors |= {f"best.{name}": value for name, value in self.best.items()}
            save_state(self.out, tensors, self.progress, training=self.training)
        self._publish(anew=self.progress.best == epoch.epoch)

    def _publish(self, *, anew: bool = True) -> None:
        """Write the log and the bundle, which follow from the state: a kill before they are there loses nothing."""
        if not self.world.leads:
            return
        if anew and self._head_only:
            self.bundle.write(self.best)
        elif anew:
            whole = copy.deepcopy(self.model)
            whole.load_state_dict(self.best)
            save_bundle(whole, self.card, self.out, half=False)
        write_history(self.out, self.progress.history)

    def _out_of_patience(self) -> bool:
        waited = len(self.progress.history) - self.progress.best
        if self.schedule.patience is None or waited < self.schedule.patience:
            return False
        logger.info(
            "stopped early: no better validation in %d epochs; the best is epoch %d", waited, self.progress.best
        )
        return True

    def _go_back(self, reason: str) -> None:
        """Return to the last good state with half the rate."""
        slowed = self.progress.slowed + 1
        if slowed > _SLOWER_TRIES:
            error = TrainingDiverged(
                f"{reason}, with rate {self.student.rate:.2g}, halved {_SLOWER_TRIES} times, after "
                f"{len(self.progress.history)} good epochs; use a lower rate, or look for damaged pictures"
            )
            error.history = tuple(self.progress.history)
            raise error
        logger.warning("diverged: %s; going back to epoch %d with half the rate", reason, len(self.progress.history))
        found = load_state(self.out, training=self.training)
        if found:
            self.progress = found[1]
        self.progress.step = found[1].step if found else 0
        self.progress.slowed = slowed
        self._restore(found[0] if found else self.start)

    def _restore(self, tensors: dict[str, torch.Tensor]) -> None:
        try:
            self.student.restore(tensors)
        except (RuntimeError, IndexError) as error:
            path = self.out / STATE
            raise WeightsMismatch(f"{path} is of another model; train into another folder: {error}") from None
        self.best = under("best.", tensors) or under("average.", tensors)
