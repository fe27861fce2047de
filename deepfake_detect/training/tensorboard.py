"""Log a training for TensorBoard, where TensorBoard is installed."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from deepfake_detect.training.schedule import Epoch


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
