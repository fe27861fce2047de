"""Train a model epoch by epoch: validate, keep the best weights, recover from divergence, stop early, resume."""

from __future__ import annotations

import copy
import functools
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from deepfake_detect._options import output_folder, whole_number
from deepfake_detect.errors import InvalidOption, TrainingDiverged, WeightsMismatch
from deepfake_detect.system.device import count_processors, find_device
from deepfake_detect.system.progress import progress_bar
from deepfake_detect.system.torch_defaults import usual_defaults
from deepfake_detect.training.autotune import choose_batch_size, choose_dtype
from deepfake_detect.training.batches import CropFeed, draw, steps_in
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.distributed import World, join, local_device
from deepfake_detect.training.feature_cache import FeatureFeed, cache_features
from deepfake_detect.training.history import epoch_line, epoch_table
from deepfake_detect.training.objective import objective_of
from deepfake_detect.training.run_folder import RunFolder
from deepfake_detect.training.schedule import Epoch, Schedule
from deepfake_detect.training.step import Diverged, Learner, measure, trained_part
from deepfake_detect.weights.card import Card

logger = logging.getLogger("deepfake_detect")

Callback = Callable[[Epoch], Any]
"""Called after each epoch; returning False ends the training."""

_MAX_HALVINGS = 2  # of the learning rate after a divergence
_EXPLODED = 4.0  # a mean loss so many times the lowest one is a divergence


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
    callbacks: Sequence[Callback] | Callback = (),
) -> list[Epoch]:
    """Train a model; after every epoch the folder holds the bundle of the best one, and a state to resume from.

    The weights that are kept are averaged ones (`Schedule.ema`), of the epoch with the best validation AUC, or of the
    last one without validation pictures. Out of memory, a batch is computed in parts, with the same gradients. Where
    the loss is not finite, or explodes, the training goes back to its last state with half the learning rate, twice at
    the most. Several processes started by ``torchrun`` train one model together. Global settings of torch, such as
    ``set_default_dtype`` or ``inference_mode``, have no effect.

    Args:
        model: Returns one logit for each picture of an input [N, 3, H, W], or one for each class of the card; ends with
            the weights of the best epoch, on the device.
        train: Training crops of all classes, augmented.
        card: Card of the bundle, classes and preprocessing included.
        schedule: Settings of the training.
        out: Folder of the bundle, ``state.safetensors`` and ``history.csv``.
        valid: Validation crops, not augmented; scored after each epoch.
        device: As for `find_device`.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``, the last two as automatic mixed precision; ``"auto"``
            is what is faster here.
        workers: Processes that prepare crops; 0 prepares them in threads, as None does without an accelerator.
        resume: Go on from the state in ``out``, if there is one. The result is the same as without the interruption,
            to the bit on a CPU with the same number of threads.
        callbacks: One or several; see `Callback`.

    Returns:
        The figures of each epoch.

    Raises:
        DatasetError: Only one class, where the draw is balanced.
        TrainingDiverged: Diverged for the third time; ``history`` holds the epochs so far.
        WeightsMismatch: The state in ``out`` is of another training.
        InvalidOption: An option of the wrong type; or ``out`` holds a training and ``resume`` is False, or it holds
            the weights of a detector.
    """
    folder = output_folder(out)
    if folder is None:
        raise InvalidOption("out is None, expected the path of a folder")
    if workers is not None:
        workers = whole_number("workers", workers, also=", or None")
    run_device = local_device(find_device(device))
    random = torch.random.fork_rng(devices=[run_device] if run_device.type == "cuda" else [])
    with random:
        world = join(run_device)
        model = model.to(run_device)
        files = RunFolder(folder, model=model, card=card, schedule=schedule, train=train, valid=valid, world=world)
        run = _Run(model, train, valid, card=card, schedule=schedule, files=files, device=run_device, world=world)
        run.begin(resume=resume, dtype=dtype, workers=workers)
        run.go_on([callbacks] if callable(callbacks) else list(callbacks))
        run.finish()
    return run.progress.history


class _Run:
    """A training: its parts and its progress."""

    def __init__(
        self,
        model: torch.nn.Module,
        train: CropDataset,
        valid: CropDataset | None,
        *,
        card: Card,
        schedule: Schedule,
        files: RunFolder,
        device: torch.device,
        world: World,
    ) -> None:
        self.model, self.card, self.schedule, self.device = model, card, schedule, device
        self.files, self.world, self.crops = files, world, (train, valid)
        self.best: dict[str, torch.Tensor] = {}  # weights of the best epoch

    def begin(self, *, resume: bool, dtype: str | torch.dtype, workers: int | None) -> None:
        """Load the state to resume from, or choose precision and batch size; and prepare the data."""
        state, self.progress = self.files.open(resume=resume)
        if not state:
            self._choose(dtype)
        self.dtype = getattr(torch, self.progress.dtype)
        self.feed, self.valid = self._feeds(workers)
        labels = [sample.label for sample in self.feed.samples]
        self.learner = Learner(
            trained_part(self.model, self.schedule),
            self.schedule,
            device=self.device,
            dtype=self.dtype,
            world=self.world,
            class_weights=self.schedule.weights_of(labels, classes=len(self.card.classes)),
            objective=objective_of(self.card.classes),
        )
        self.initial = copy.deepcopy(self.learner.tensors())
        if state:
            self._restore(state)
            self.files.publish(self.best, self.progress.history, new_best=True)

    def go_on(self, callbacks: Sequence[Callback]) -> None:
        """Run the remaining epochs."""
        with self.files.board() as board, self._bar() as bar:
            while len(self.progress.history) < self.schedule.epochs and not self._out_of_patience():
                try:
                    epoch = self._epoch(len(self.progress.history), bar)
                except Diverged as error:
                    self._go_back(str(error))
                    continue
                self._keep(epoch)
                board.add(epoch)
                answers = [callback(epoch) for callback in callbacks] if self.world.leads else []
                if self.world.agree(any(answer is False for answer in answers)):
                    logger.info("ended by a callback after epoch %d", epoch.epoch)
                    break
        if self.world.leads:
            logger.info(
                "training is done; the star marks the epoch that is kept\n%s", epoch_table(self.progress.history)
            )

    def finish(self) -> None:
        """Load the weights of the best epoch into the model."""
        self.world.agree(None)  # wait until rank 0 has written the bundle
        if self.best:
            trained_part(self.model, self.schedule).load_state_dict(self.best)
        self.model.requires_grad_(True)
        self.model.eval()

    @property
    def _head_only(self) -> bool:
        return self.schedule.freeze == "backbone"

    @property
    def _size(self) -> int:
        """Pictures in a step, of all processes."""
        return self.progress.batch_size * self.progress.accumulate * self.world.size

    def _choose(self, dtype: str | torch.dtype) -> None:
        shape = (3, self.card.preprocessing.size_px, self.card.preprocessing.size_px)
        precision = choose_dtype(self.model, dtype, device=self.device, shape=shape)
        pictures = self.schedule.epoch_samples or len(self.crops[0].samples)
        size = choose_batch_size(
            self.model, self.schedule.batch_size, device=self.device, dtype=precision, shape=shape, pictures=pictures
        )
        accumulate = min(self.schedule.accumulate, max(1, pictures // (size * self.world.size)))
        choice = (str(precision).removeprefix("torch."), size, accumulate)
        self.progress.dtype, self.progress.batch_size, self.progress.accumulate = self.world.agree(choice)
        self.progress.parts = self.progress.accumulate

    def _feeds(self, workers: int | None) -> tuple[CropFeed | FeatureFeed, CropFeed | FeatureFeed | None]:
        count = workers if workers is not None else 0 if self.device.type == "cpu" else min(8, os.cpu_count() or 1)
        train, valid = self.crops
        ahead = self.device.type != "cpu" or torch.get_num_threads() < count_processors()
        make_feed = functools.partial(CropFeed, preprocessing=self.card.preprocessing, workers=count, ahead=ahead)
        feed, valid_feed = make_feed(train), make_feed(valid) if valid else None
        if not self._head_only:
            return feed, valid_feed
        if not self.world.leads:
            self.world.agree(None)  # wait until rank 0 has computed the features
        cache = functools.partial(
            cache_features, self.model, device=self.device, dtype=self.dtype, folder=self.files.folder
        )
        views, seed = self.schedule.feature_views, self.schedule.seed
        features = cache(feed, views=views, seed=seed), cache(valid_feed) if valid_feed else None
        if self.world.leads:
            self.world.agree(None)
        return features

    def _bar(self) -> Any:
        """Return a progress bar over all steps, which shows the time left; hidden where stderr is no terminal."""
        steps = self.schedule.epochs * steps_in(self.feed.samples, self.schedule, size=self._size)
        shown = None if self.world.leads else False
        return progress_bar(total=steps, initial=self.progress.step, title="training", unit="step", show=shown)

    def _epoch(self, number: int, bar: Any) -> Epoch:
        began, schedule, size = time.monotonic(), self.schedule, self._size
        torch.manual_seed(schedule.seed * 1000 + number)
        keys = draw(self.feed.samples, schedule, epoch=number, size=size)
        loss = self._learn(keys, number, size, bar)
        seconds = time.monotonic() - began
        valid: dict[str, Any] = dict.fromkeys(("valid_loss", "valid_auc", "valid_accuracy"), math.nan)
        valid["collapsed"] = ""
        if self.valid is not None and self.world.leads:
            valid = measure(self.learner, self.valid, size=max(32, self.progress.batch_size))
        valid, loss, train = self.world.agree((valid, loss, self.learner.train_figures()))
        self._check(loss, valid, number)
        return Epoch(
            epoch=number + 1,
            loss=loss,
            rate=self.learner.rate,
            batch_size=size,
            samples_per_s=len(keys) / seconds,
            seconds=time.monotonic() - began,
            **valid,
            **train,
        )

    def _learn(self, keys: list[tuple[int, int]], number: int, size: int, bar: Any) -> float:
        steps = self.schedule.epochs * steps_in(self.feed.samples, self.schedule, size=size)
        bar.set_description_str(f"epoch {number + 1}/{self.schedule.epochs}", refresh=False)
        bar.n = self.progress.step
        self.learner.begin_epoch(frozen=self.schedule.frozen_in(number) and not self._head_only)
        losses: list[float] = []
        for batch, label in self.feed.batches(keys[self.world.rank :: self.world.size], size=size // self.world.size):
            share = self.schedule.rate_at(self.progress.step, steps) / 2**self.progress.slowed
            losses.append(self.learner.learn(batch, label, rate=self.schedule.lr * share, progress=self.progress))
            self.progress.step += 1
            if not bar.disable:
                bar.set_postfix_str(self.learner.progress_text(losses), refresh=False)
                bar.update()
        return math.fsum(losses) / len(losses)

    def _check(self, loss: float, valid: dict[str, Any], number: int) -> None:
        """Raise where the epoch diverged, and warn where the model collapsed."""
        if math.isinf(valid["valid_loss"]):
            raise Diverged(f"the averaged weights give logits that are not finite in epoch {number + 1}")
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
        level = logging.INFO if self.world.leads else logging.DEBUG
        logger.log(level, "%s", epoch_line(epoch, epochs=self.schedule.epochs))
        if not self.progress.best or epoch.merit > history[self.progress.best - 1].merit:
            self.progress.best = epoch.epoch
            self.best = copy.deepcopy(self.learner.average.model.state_dict())
        tensors = self.learner.tensors()
        new_best = self.progress.best == epoch.epoch
        if not new_best:
            tensors |= {f"best.{name}": value for name, value in self.best.items()}
        self.files.save(tensors, self.progress)
        self.files.publish(self.best, history, new_best=new_best)

    def _out_of_patience(self) -> bool:
        waited = len(self.progress.history) - self.progress.best
        if self.schedule.patience is None or waited < self.schedule.patience:
            return False
        logger.info(
            "stopped early: no better validation in %d epochs; the best is epoch %d", waited, self.progress.best
        )
        return True

    def _go_back(self, reason: str) -> None:
        """Return to the last good state with half the learning rate."""
        slowed = self.progress.slowed + 1
        if slowed > _MAX_HALVINGS:
            error = TrainingDiverged(
                f"{reason}, with rate {self.learner.rate:.2g}, halved {_MAX_HALVINGS} times, after "
                f"{len(self.progress.history)} good epochs; use a lower rate, or look for damaged pictures"
            )
            error.history = tuple(self.progress.history)
            raise error
        logger.warning("diverged: %s; going back to epoch %d with half the rate", reason, len(self.progress.history))
        state, progress = self.files.load()
        if state:
            self.progress = progress
        self.progress.step, self.progress.slowed = progress.step, slowed
        self._restore(state or self.initial)

    def _restore(self, tensors: dict[str, torch.Tensor]) -> None:
        try:
            self.learner.restore(tensors)
        except (RuntimeError, IndexError) as error:
            raise WeightsMismatch(
                f"{self.files.state_file} is of another model; train into another folder: {error}"
            ) from None
        self.best = self.files.best_in(tensors)
