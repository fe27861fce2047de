"""What must be kept so that a training goes on as if it had never stopped?"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.training.schedule import Epoch, Schedule

STATE = "state.safetensors"
"""The file beside a bundle that a training goes on from."""

HISTORY = "history.csv"
"""The log beside a bundle: a line for each epoch."""

_LAYOUT = 2


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a training has come, beside the tensors.

    Attributes:
        history: One entry for each finished epoch.
        step: Steps taken.
        slowed: How often the rate was halved after a divergence.
        batch_size: That was found to fit.
        parts: That a batch is computed in, where memory is short.
        dtype: That is computed in.
        best: Number of the epoch in ``history`` whose weights are kept.
    """

    history: list[Epoch] = field(default_factory=list)
    step: int = 0
    slowed: int = 0
    batch_size: int = 0
    parts: int = 1
    dtype: str = ""
    best: int = 0


def describe_training(schedule: Schedule, pictures: Mapping[str, Sequence[Any]], **more: Any) -> dict[str, str]:
    """Tell one training from another.

    Args:
        schedule: Its settings are told by name.
        pictures: What they are for, and their samples: told by a hash of names and labels.
        more: What else must stay the same, by name.
    """
    told = {name: repr(value) for name, value in {**asdict(schedule), **more}.items()}
    return told | {name: hash_samples(samples) for name, samples in pictures.items()}


def hash_samples(samples: Sequence[Any]) -> str:
    """Give 16 hexadecimal digits that tell one list of pictures, by label and name, from another."""
    return hashlib.sha256("\n".join(f"{sample.label} {sample.name}" for sample in samples).encode()).hexdigest()[:16]


def save_state(
    folder: Path, tensors: Mapping[str, torch.Tensor], progress: Progress, *, training: Mapping[str, str]
) -> None:
    """Write everything that the next epoch depends on, whole or not at all.

    Args:
        folder: Of the bundle.
        tensors: Weights, their average, and the optimiser's state.
        progress: The rest.
        training: From `describe_training`.
    """
    told = {**asdict(progress), "history": [asdict(epoch) for epoch in progress.history]}
    metadata = {"layout": str(_LAYOUT), "progress": json.dumps(told), "training": json.dumps(dict(training))}
    partial = folder / f"{STATE}.partial"
    own = {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}
    safetensors.torch.save_file(own, partial, metadata=metadata)
    _flush(partial)
    os.replace(partial, folder / STATE)


def load_state(folder: Path, *, training: Mapping[str, str]) -> tuple[dict[str, torch.Tensor], Progress] | None:
    """Read what `save_state` wrote; None where nothing was.

    Raises:
        WeightsMismatch: The state is of another training; the difference is named.
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
    if metadata.get("layout") != str(_LAYOUT):
        raise WeightsMismatch(f"{path} was written by another version of this library; train into another folder")
    _same_training(json.loads(metadata["training"]), training, path)
    told = json.loads(metadata["progress"])
    return tensors, Progress(**{**told, "history": [Epoch(**epoch) for epoch in told["history"]]})


def write_history(folder: Path, history: Sequence[Epoch]) -> None:
    """Write the log, whole or not at all."""
    path = folder / HISTORY
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [column.name for column in fields(Epoch)])
        table.writeheader()
        table.writerows(asdict(epoch) for epoch in history)
    os.replace(partial, path)


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _same_training(known: Mapping[str, str], asked: Mapping[str, str], path: Path) -> None:
    names = [name for name in asked if known.get(name) != asked[name]]
    if names:
        told = "; ".join(f"{name} was {known.get(name)}, now {asked[name]}" for name in names[:4])
        raise WeightsMismatch(
            f"{path} is of another training: {told}; give the same data and options to go on, or another folder"
        )


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
