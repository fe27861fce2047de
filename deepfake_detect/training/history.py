"""Write, read, print and draw the figures of every epoch of a training."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from deepfake_detect._options import check_type
from deepfake_detect.drawing import charts
from deepfake_detect.errors import InvalidOption
from deepfake_detect.system.atomic import whole_file
from deepfake_detect.training.schedule import Epoch

if TYPE_CHECKING:  # `evaluate` reads the history of a detector that OpenVINO runs without torch
    import torch

    from deepfake_detect.weights.card import Card

HISTORY = "history.csv"
"""File beside a bundle with a line for each epoch."""

FEW = 10
"""With fewer validation pictures of a class, figures measured on them are rough."""


def write_history(folder: Path, history: Sequence[Epoch]) -> None:
    """Write ``history.csv`` to a folder; a crash leaves the old file or the new one."""
    with whole_file(folder / HISTORY) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [column.name for column in fields(Epoch)])
        table.writeheader()
        table.writerows(asdict(epoch) for epoch in history)


def save_with_history(
    model: torch.nn.Module,
    card: Card,
    folder: str | os.PathLike[str],
    *,
    history: Sequence[Epoch],
    texture: torch.nn.Module | None = None,
) -> Card:
    """Write a bundle, and the history of its training beside it where there is one.

    Args:
        model: The trained model.
        card: How it is used.
        folder: Created if missing; ``~`` is expanded.
        history: Figures of each epoch.
        texture: As for `save_bundle`.

    Returns:
        The card as written.

    Raises:
        InvalidOption: ``folder`` is no path.
        OSError: The folder cannot be written, or the disk is full.
    """
    from deepfake_detect.weights.load import save_bundle

    check_type("folder", folder, (str, os.PathLike), expected="the path of a folder")
    saved = save_bundle(model, card, folder, texture=texture, half=None)
    if history:
        write_history(Path(folder).expanduser(), history)
    return saved


def read_history(folder: Path) -> tuple[Epoch, ...]:
    """Return the epochs in the ``history.csv`` of a folder; none where there is no such file, or another's."""
    try:
        with (folder / HISTORY).open(newline="", encoding="utf-8") as file:
            return tuple(_epoch(row) for row in csv.DictReader(file))
    except (OSError, ValueError, TypeError):
        return ()


def best_epoch(history: Sequence[Epoch]) -> Epoch | None:
    """Return the epoch whose weights are kept: the first one with the highest `Epoch.merit`."""
    return max(history, key=lambda epoch: epoch.merit, default=None)


def epoch_table(history: Sequence[Epoch]) -> str:
    """Return a table with a line for each epoch; a star marks the one whose weights are kept.

    Example:
        >>> one = Epoch(epoch=1, loss=0.6, valid_loss=0.5, valid_auc=0.9, valid_accuracy=0.8, collapsed="", rate=1e-3,
        ...             batch_size=8, samples_per_s=20.0, seconds=5.0)
        >>> print(epoch_table([one]))
        epoch     loss  accuracy   valid loss  valid AUC  valid accuracy  seconds
            1*  0.6000         -       0.5000     0.9000           0.800      5.0
    """
    best = best_epoch(history)
    lines = ["epoch     loss  accuracy   valid loss  valid AUC  valid accuracy  seconds"]
    for epoch in history:
        star = "*" if epoch is best else " "
        lines.append(
            f"{epoch.epoch:>5}{star} {_figure(epoch.loss, 4):>7}  {_figure(epoch.train_accuracy, 3):>8}   "
            f"{_figure(epoch.valid_loss, 4):>10}  {_figure(epoch.valid_auc, 4):>9}  "
            f"{_figure(epoch.valid_accuracy, 3):>14}  {epoch.seconds:>7.1f}"
        )
    return "\n".join(lines)


def epoch_line(epoch: Epoch, *, epochs: int) -> str:
    """Return the figures of an epoch as one line of a log.

    Args:
        epoch: The epoch.
        epochs: How many there are to be.
    """
    parts = [f"loss {epoch.loss:.4f}"]
    if not math.isnan(epoch.train_accuracy):
        parts.append(f"accuracy {epoch.train_accuracy:.3f}")
    if math.isnan(epoch.valid_loss):
        parts.append("no validation")
    else:
        auc = "not defined (one class)" if math.isnan(epoch.valid_auc) else f"{epoch.valid_auc:.4f}"
        parts += [f"validation loss {epoch.valid_loss:.4f}", f"AUC {auc}"]
        parts.append(f"balanced accuracy {epoch.valid_accuracy:.3f}")
    return f"epoch {epoch.epoch} of {epochs}: {', '.join(parts)}, {epoch.samples_per_s:.1f} pictures/s"


def plot_history(history: Sequence[Epoch], *, title: str = "") -> Image.Image:
    """Draw losses, validation figures and the learning rate over the epochs.

    Raises:
        InvalidOption: There is no epoch to draw.
        MissingExtra: matplotlib is not installed.
    """
    if not history:
        raise InvalidOption(
            "there is no history to draw: it is kept by fine_tune and train, and in history.csv beside a saved bundle"
        )
    return charts.training_curves([asdict(epoch) for epoch in history], title=title)


def _epoch(row: dict[str, str]) -> Epoch:
    values: dict[str, Any] = {name: _value(name, text) for name, text in row.items()}
    return Epoch(**values)


def _value(name: str, text: str) -> int | float | str:
    if name == "collapsed":
        return text
    return int(text) if name in ("epoch", "batch_size") else float(text)


def _figure(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
