"""Detect deepfakes in pictures and videos, with calibrated scores.

    >>> from deepfake_detect import Detector
    >>> Detector.from_pretrained("xception-fakefaces").predict("examples/portrait.jpg").label
    'real'

Modules, and torch with them, are imported when one of the names below is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfake_detect._lazy import lazy_exports
from deepfake_detect._version import __version__

if TYPE_CHECKING:
    from deepfake_detect.auditing.checks import audit
    from deepfake_detect.auditing.report import AuditReport, Finding
    from deepfake_detect.classifier import Classifier
    from deepfake_detect.detector import Detector
    from deepfake_detect.errors import (
        BackendUnavailable,
        DatasetError,
        DeepfakeDetectError,
        HubUnavailable,
        ImageTooLarge,
        ImageUnreadable,
        InvalidOption,
        LayerNotFound,
        MissingExtra,
        ServerUnavailable,
        TrainingDiverged,
        UnknownModel,
        UnknownWeights,
        WeightsCorrupted,
        WeightsMismatch,
    )
    from deepfake_detect.evaluation.class_report import ClassReport
    from deepfake_detect.evaluation.report import Report
    from deepfake_detect.evaluation.stability import Stability
    from deepfake_detect.evaluation.verification import Verification, verify
    from deepfake_detect.explain.explanation import Explanation
    from deepfake_detect.faces.face import Face
    from deepfake_detect.faces.finder import find_faces
    from deepfake_detect.health import DoctorReport, doctor
    from deepfake_detect.models.registry import create_model, list_models
    from deepfake_detect.predict.content import Content, classify_content
    from deepfake_detect.predict.prediction import Prediction
    from deepfake_detect.predict.router import ContentRouter
    from deepfake_detect.provenance.findings import MetadataFinding, MetadataFindings
    from deepfake_detect.provenance.inspector import inspect_metadata
    from deepfake_detect.reporting.case_report import CaseReport
    from deepfake_detect.scale.ray_scoring import ScoredDataset, score_dataset
    from deepfake_detect.scale.rows import score_rows
    from deepfake_detect.serve.client import AsyncClient, Client
    from deepfake_detect.training.augment import Augmentation
    from deepfake_detect.training.schedule import Epoch, Schedule
    from deepfake_detect.training.search import Trial, tune
    from deepfake_detect.video.predict import VideoPrediction
    from deepfake_detect.weights.bundle import list_pretrained
    from deepfake_detect.weights.card import Card, Preprocessing
    from deepfake_detect.weights.texture import TextureLook

__all__ = [
    "AsyncClient",
    "AuditReport",
    "Augmentation",
    "BackendUnavailable",
    "Card",
    "CaseReport",
    "ClassReport",
    "Classifier",
    "Client",
    "Content",
    "ContentRouter",
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
    "InvalidOption",
    "LayerNotFound",
    "MetadataFinding",
    "MetadataFindings",
    "MissingExtra",
    "Prediction",
    "Preprocessing",
    "Report",
    "Schedule",
    "ScoredDataset",
    "ServerUnavailable",
    "Stability",
    "TextureLook",
    "TrainingDiverged",
    "Trial",
    "UnknownModel",
    "UnknownWeights",
    "Verification",
    "VideoPrediction",
    "WeightsCorrupted",
    "WeightsMismatch",
    "__version__",
    "audit",
    "classify_content",
    "create_model",
    "doctor",
    "find_faces",
    "inspect_metadata",
    "list_models",
    "list_pretrained",
    "score_dataset",
    "score_rows",
    "tune",
    "verify",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "auditing.checks": ("audit",),
        "auditing.report": ("AuditReport", "Finding"),
        "classifier": ("Classifier",),
        "detector": ("Detector",),
        "errors": (
            "BackendUnavailable",
            "DatasetError",
            "DeepfakeDetectError",
            "HubUnavailable",
            "ImageTooLarge",
            "ImageUnreadable",
            "InvalidOption",
            "LayerNotFound",
            "MissingExtra",
            "ServerUnavailable",
            "TrainingDiverged",
            "UnknownModel",
            "UnknownWeights",
            "WeightsCorrupted",
            "WeightsMismatch",
        ),
        "evaluation.class_report": ("ClassReport",),
        "evaluation.report": ("Report",),
        "evaluation.stability": ("Stability",),
        "explain.explanation": ("Explanation",),
        "faces.face": ("Face",),
        "faces.finder": ("find_faces",),
        "health": ("DoctorReport", "doctor"),
        "models.registry": ("create_model", "list_models"),
        "predict.content": ("Content", "classify_content"),
        "evaluation.verification": ("Verification", "verify"),
        "predict.router": ("ContentRouter",),
        "predict.prediction": ("Prediction",),
        "provenance.findings": ("MetadataFinding", "MetadataFindings"),
        "provenance.inspector": ("inspect_metadata",),
        "reporting.case_report": ("CaseReport",),
        "scale.ray_scoring": ("ScoredDataset", "score_dataset"),
        "scale.rows": ("score_rows",),
        "serve.client": ("AsyncClient", "Client"),
        "training.augment": ("Augmentation",),
        "training.schedule": ("Epoch", "Schedule"),
        "training.search": ("Trial", "tune"),
        "video.predict": ("VideoPrediction",),
        "weights.bundle": ("list_pretrained",),
        "weights.card": ("Card", "Preprocessing"),
        "weights.texture": ("TextureLook",),
    },
)
