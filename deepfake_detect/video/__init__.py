"""From a video to a verdict over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfake_detect._lazy import lazy_exports

if TYPE_CHECKING:
    from deepfake_detect.video.predict import predict_video

__all__ = ["predict_video"]

__getattr__, __dir__ = lazy_exports(__name__, {"predict": ("predict_video",)})
