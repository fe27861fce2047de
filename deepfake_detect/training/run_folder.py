"""Write the files of a training: the bundle of the best epoch, the state, the history and a TensorBoard log."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from deepfake_detect.system.atomic import remove_leftovers
from deepfake_detect.training.checkpoint import (
    STATE,
    Progress,
    check_folder,
    describe_training,
    load_state,
    save_state,
    under,
)
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.distributed import World
from deepfake_detect.training.history import write_history
from deepfake_detect.training.schedule import Epoch, Schedule
from deepfake_detect.weights.card import Card
from deepfake_detect.weights.head_bundle import HeadBundle
from deepfake_detect.weights.load import save_bundle


class RunFolder:
    """The output folder of a training; only the process of rank 0 writes.

    Args:
        folder: Created if missing.
        model: The whole network.
        card: Card of the bundle.
        schedule: Settings of the training.
        train: Training crops.
        valid: Validation crops.
        world: The processes that train together.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: torch.nn.Module,
        card: Card,
        schedule: Schedule,
        train: CropDataset,
        valid: CropDataset | None,
        world: World,
    ) -> None:
        self.folder, self.model, self.card = folder, model, card
        self.writes = world.leads
        self.training = describe_training(
            schedule,
            {"pictures": train.samples, "validation": valid.samples if valid else []},
            augmentation=train.augmentation,
            preprocessing=card.preprocessing,
            processes=world.size,
        )
        self._head_bundle = HeadBundle(model, card, folder) if schedule.freeze == "backbone" else None

    @property
    def state_file(self) -> Path:
        """Path of the state."""
        return self.folder / STATE

    def open(self, *, resume: bool) -> tuple[dict[str, torch.Tensor], Progress]:
        """Create the folder, and return the state to resume from; no tensors where the training begins.

        Raises:
            InvalidOption: A training would destroy what the folder holds.
            WeightsMismatch: The state is of another training.
        """
        check_folder(self.folder, resume=resume)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.writes:
            remove_leftovers(self.state_file)
        return self.load() if resume else ({}, Progress())

    def load(self) -> tuple[dict[str, torch.Tensor], Progress]:
        """Return the last state; no tensors where there is none."""
        return load_state(self.folder, training=self.training) or ({}, Progress())

    @staticmethod
    def best_in(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weights of the best epoch in a state: its own, or the average of its last epoch."""
        return under("best.", tensors) or under("average.", tensors)

    def save(self, tensors: Mapping[str, torch.Tensor], progress: Progress) -> None:
        """Write the state."""
        if self.writes:
            save_state(self.folder, tensors, progress, training=self.training)

    def publish(self, best: Mapping[str, torch.Tensor], history: Sequence[Epoch], *, new_best: bool) -> None:
        """Write the history, and the bundle where there is a new best epoch.

        Both follow from the state, so that a crash before they are written loses nothing.

        Args:
            best: Weights of the best epoch: of the head, where only that is trained.
            history: The epochs so far.
            new_best: Whether those weights are new.
        """
        if not self.writes:
            return
        if new_best and self._head_bundle is not None:
            self._head_bundle.write(best)
        elif new_best:
            whole = copy.deepcopy(self.model)
            whole.load_state_dict(dict(best))
            save_bundle(whole, self.card, self.folder, half=False)
        write_history(self.folder, history)

    def board(self) -> Board:
        """Return the log for TensorBoard."""
        return Board(self.folder if self.writes else None)


class Board:
    """A TensorBoard log beside the bundle; writes nothing where TensorBoard is not installed.

    Args:
        folder: Folder of the bundle; None writes nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer = None if folder is None else _writer(folder / "tensorboard")

    def add(self, epoch: Epoch) -> None:
        """Write the figures of an epoch."""
        if self._writer is not None:
            for name, value in asdict(epoch).items():
                if isinstance(value, float) and math.isfinite(value):
                    self._writer.add_scalar(name, value, epoch.epoch)
            self._writer.flush()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # an optional extra: pip install 'deepfake-detect[tensorboard]'
        return None
    return SummaryWriter(str(folder))
