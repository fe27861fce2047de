"""From a picture to a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfake_detect._lazy import lazy_exports

if TYPE_CHECKING:
    from deepfake_detect.predict.prediction import Prediction, Predictions
    from deepfake_detect.predict.predictor import Predictor

__all__ = ["Prediction", "Predictions", "Predictor"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "prediction": (
            "Prediction",
            "Predictions",
        ),
        "predictor": ("Predictor",),
    },
)
