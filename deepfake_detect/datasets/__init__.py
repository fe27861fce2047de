"""Data sets of pictures: reading, labels, splits and face crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfake_detect._lazy import lazy_exports

if TYPE_CHECKING:
    from deepfake_detect.datasets.read import read_dataset

__all__ = ["read_dataset"]

__getattr__, __dir__ = lazy_exports(__name__, {"read": ("read_dataset",)})
