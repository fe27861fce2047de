"""Training: from a data set to a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfake_detect._lazy import lazy_exports

if TYPE_CHECKING:
    from deepfake_detect.training.augment import preview

__all__ = ["preview"]

__getattr__, __dir__ = lazy_exports(__name__, {"augment": ("preview",)})
