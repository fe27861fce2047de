"""Why a verdict is what it is, and how far to trust the explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfake_detect._lazy import lazy_exports

if TYPE_CHECKING:
    from deepfake_detect.explain.activations import feature_maps, filters
    from deepfake_detect.explain.contact_sheet import explain_many
    from deepfake_detect.explain.embedding import embed
    from deepfake_detect.explain.explainer import explain_image

__all__ = ["embed", "explain_image", "explain_many", "feature_maps", "filters"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "activations": (
            "feature_maps",
            "filters",
        ),
        "contact_sheet": ("explain_many",),
        "embedding": ("embed",),
        "explainer": ("explain_image",),
    },
)
