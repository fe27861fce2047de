"""Which pictures are deepfakes, and how sure can one be?

    >>> from deepfake_detect import Detector
    >>> Detector.from_pretrained("xception-fakefaces").predict("examples/portrait.jpg").label
    'real'

The rooms behind this door, and torch with them, are loaded when a name is first asked for.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfake_detect.audit import audit
    from deepfake_detect.augment import Augmentation
    from deepfake_detect.bundle import list_pretrained
    from deepfake_detect.card import Card, Preprocessing
    from deepfake_detect.content import Content, classify_content
    from deepfake_detect.detector import Detector
    from deepfake_detect.doctor import DoctorReport, doctor
    from deepfake_detect.errors import (
        DatasetError,
        DeepfakeDetectError,
        HubUnavailable,
        ImageTooLarge,
        ImageUnreadable,
        LayerNotFound,
        MissingExtra,
        TrainingDiverged,
        UnknownModel,
        UnknownWeights,
        WeightsCorrupted,
        WeightsMismatch,
    )
    from deepfake_detect.explanation import Explanation
    from deepfake_detect.faces import find_faces
    from deepfake_detect.findings import AuditReport, Finding
    from deepfake_detect.footage import VideoPrediction
    from deepfake_detect.models import create_model, list_models
    from deepfake_detect.report import Report
    from deepfake_detect.results import Face, Prediction
    from deepfake_detect.schedule import Epoch, Schedule
    from deepfake_detect.stability import Stability
    from deepfake_detect.tune import Trial, tune

__version__ = "0.2.0"

__all__ = [
    "AuditReport",
    "Augmentation",
    "Card",
    "Content",
    "DatasetError",
    "DeepfakeDetectError",
    "Detector",
    "DoctorReport",
    "Epoch",
    "Explanation",
    "Face",
    "Finding",
    "HubUnavailable",
    "ImageTooLarge",
    "ImageUnreadable",
    "LayerNotFound",
    "MissingExtra",
    "Prediction",
    "Preprocessing",
    "Report",
    "Schedule",
    "Stability",
    "TrainingDiverged",
    "Trial",
    "UnknownModel",
    "UnknownWeights",
    "VideoPrediction",
    "WeightsCorrupted",
    "WeightsMismatch",
    "__version__",
    "audit",
    "classify_content",
    "create_model",
    "doctor",
    "find_faces",
    "list_models",
    "list_pretrained",
    "tune",
]

_ROOMS = {
    "audit": ("audit",),
    "augment": ("Augmentation",),
    "bundle": ("list_pretrained",),
    "card": ("Card", "Preprocessing"),
    "content": ("Content", "classify_content"),
    "detector": ("Detector",),
    "doctor": ("DoctorReport", "doctor"),
    "explanation": ("Explanation",),
    "faces": ("find_faces",),
    "findings": ("AuditReport", "Finding"),
    "footage": ("VideoPrediction",),
    "models": ("create_model", "list_models"),
    "report": ("Report",),
    "results": ("Face", "Prediction"),
    "schedule": ("Epoch", "Schedule"),
    "stability": ("Stability",),
    "tune": ("Trial", "tune"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


class _Door(ModuleType):
    """The package, in which a room never hides the function that is called like it, as `doctor` is."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
