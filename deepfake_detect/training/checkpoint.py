"""Save the state of a training, and load it to resume with the same result."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from deepfake_detect.errors import InvalidOption, WeightsMismatch
from deepfake_detect.system.atomic import whole_file
from deepfake_detect.training.schedule import Epoch, Schedule
from deepfake_detect.weights.card import CARD_FILE

STATE = "state.safetensors"
"""File beside a bundle from which a training is resumed."""

_LAYOUT = 4
_WITHOUT_CHECKSUM = 3  # an older layout, which differs in that alone


@dataclass(slots=True, kw_only=True)
class Progress:
    """Progress of a training, without its tensors.

    Attributes:
        history: Finished epochs.
        step: Number of steps taken.
        slowed: How often the learning rate was halved after a divergence.
        batch_size: Pictures in a batch.
        accumulate: Batches in a step.
        parts: Parts that a step is computed in.
        dtype: Precision of the computation.
        best: Number of the epoch whose weights are kept.
    """

    history: list[Epoch] = field(default_factory=list)
    step: int = 0
    slowed: int = 0
    batch_size: int = 0
    accumulate: int = 1
    parts: int = 1
    dtype: str = ""
    best: int = 0


def describe_training(schedule: Schedule, pictures: Mapping[str, Sequence[Any]], **more: Any) -> dict[str, str]:
    """Return what identifies a training, by name: a state is resumed only where all of it is the same.

    Args:
        schedule: Its settings.
        pictures: Samples by use; described by a hash of their names and labels.
        more: Other settings.
    """
    settings = {name: repr(value) for name, value in {**asdict(schedule), **more}.items()}
    return settings | {name: hash_samples(samples) for name, samples in pictures.items()}


def check_folder(folder: Path, *, resume: bool) -> None:
    """Refuse an output folder in which a training would destroy something.

    Raises:
        InvalidOption: The folder holds another training and ``resume`` is False, or the bundle of a detector.
    """
    if (folder / STATE).exists():
        if not resume:
            raise InvalidOption(f"{folder} holds a training; pass resume=True to go on, or choose another folder")
    elif (folder / CARD_FILE).exists():
        raise InvalidOption(
            f"{folder} holds the weights of a detector, which the first epoch would overwrite; choose another folder "
            "for out"
        )


def hash_samples(samples: Sequence[Any]) -> str:
    """Return 16 hexadecimal digits that identify a list of pictures by label and name."""
    return hashlib.sha256("\n".join(f"{sample.label} {sample.name}" for sample in samples).encode()).hexdigest()[:16]


def save_state(
    folder: Path, tensors: Mapping[str, torch.Tensor], progress: Progress, *, training: Mapping[str, str]
) -> None:
    """Write everything that the next epoch depends on; a crash leaves the old file or the new one.

    Args:
        folder: Folder of the bundle.
        tensors: Weights, their average, and the state of the optimizer.
        progress: Everything else.
        training: From `describe_training`.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    values = {**asdict(progress), "history": [asdict(epoch) for epoch in progress.history]}
    metadata = {"layout": str(_LAYOUT), "progress": json.dumps(values), "training": json.dumps(dict(training))}
    stored = {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}
    metadata["sha256"] = _digest(stored, metadata)
    path = folder / STATE
    with whole_file(path) as partial:
        try:
            safetensors.torch.save_file(stored, partial, metadata=metadata)
        except safetensors.SafetensorError as error:
            reason = f"training state not written ({error}); free some space, then resume"
            raise OSError(errno.EIO, reason, str(path)) from error


def load_state(folder: Path, *, training: Mapping[str, str]) -> tuple[dict[str, torch.Tensor], Progress] | None:
    """Read what `save_state` wrote; None where there is no state.

    Raises:
        WeightsMismatch: The state is of another training (the difference is named), or damaged.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except safetensors.SafetensorError as error:
        raise WeightsMismatch(f"{path} is damaged ({error}); train into another folder") from error
    if metadata.get("layout") not in (str(_LAYOUT), str(_WITHOUT_CHECKSUM)):
        raise WeightsMismatch(f"{path} was written by another version of this library; train into another folder")
    if metadata["layout"] == str(_LAYOUT) and metadata.pop("sha256", "") != _digest(tensors, metadata):
        raise WeightsMismatch(f"{path} is damaged (its checksum is wrong); train into another folder")
    _check_same(json.loads(metadata["training"]), training, path)
    values = json.loads(metadata["progress"])
    return tensors, Progress(**{**values, "history": [Epoch(**epoch) for epoch in values["history"]]})


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose names start with a prefix, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """Return the sha256 over all numbers and texts of a state: a flipped bit would resume to other weights."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_same(stored: Mapping[str, str], current: Mapping[str, str], path: Path) -> None:
    names = [name for name in current if stored.get(name) != current[name]]
    if names:
        changes = "; ".join(f"{name} was {stored.get(name)}, now {current[name]}" for name in names[:4])
        raise WeightsMismatch(
            f"{path} is of another training: {changes}; give the same data and options to go on, or another folder"
        )
