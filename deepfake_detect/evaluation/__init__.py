"""How good a detector is, and what its score means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfake_detect._lazy import lazy_exports

if TYPE_CHECKING:
    from deepfake_detect.evaluation.calibration import calibrate
    from deepfake_detect.evaluation.evaluator import evaluate

__all__ = ["calibrate", "evaluate"]

__getattr__, __dir__ = lazy_exports(__name__, {"calibration": ("calibrate",), "evaluator": ("evaluate",)})
