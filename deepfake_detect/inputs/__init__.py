"""Pictures and video frames from anything a caller may hand over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfake_detect._lazy import lazy_exports

if TYPE_CHECKING:
    from deepfake_detect.inputs.image import ImageInput, Picture, open_image

__all__ = ["ImageInput", "Picture", "open_image"]

__getattr__, __dir__ = lazy_exports(__name__, {"image": ("ImageInput", "Picture", "open_image")})
