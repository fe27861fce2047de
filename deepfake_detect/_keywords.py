"""Types of the keyword arguments that methods of a detector pass on to training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    import os

    import torch

    from deepfake_detect.datasets.crops import FacePolicy
    from deepfake_detect.inputs.delivery import Delivery
    from deepfake_detect.predict.look import FaceChoice
    from deepfake_detect.training.augment import Augmentation
    from deepfake_detect.training.prepare import Check
    from deepfake_detect.training.schedule import Epoch, Optimizer


class _TrainingOptions(TypedDict, total=False):
    """Options of `train_model` and `Schedule` that neither method names itself."""

    faces: FacePolicy | None
    labels: Mapping[Any, str] | None
    self_blend: float
    check: Check
    workers: int | None
    epoch_samples: int | None
    accumulate: int
    optimizer: Optimizer
    momentum: float
    weight_decay: float
    warmup: float
    layer_decay: float
    feature_views: int
    smoothing: float
    mixup: float
    clip: float
    ema: float
    favour: Mapping[str, float]
    pairs: float
    class_weights: tuple[float, ...] | Literal["balanced"] | None
    patience: int | None


class FineTuneOptions(_TrainingOptions, total=False):
    """Further options of `Detector.fine_tune`."""

    dtype: str | torch.dtype


class TrainOptions(_TrainingOptions, total=False):
    """Further options of `Detector.train`: those of `Detector.fine_tune`."""

    valid: Any
    lr: float | None
    batch_size: int | Literal["auto"]
    freeze: Literal["backbone"] | int | None
    augment: str | Augmentation | None
    balance: bool | float
    seed: int
    out: str | os.PathLike[str] | None
    resume: bool
    callbacks: Sequence[Callable[[Epoch], Any]] | Callable[[Epoch], Any]


class ClassifierOptions(TypedDict, total=False):
    """Options of `Classifier.fine_tune` and `Classifier.train` that they pass on to `train_model` and `Schedule`."""

    valid: Any
    lr: float | None
    batch_size: int | Literal["auto"]
    freeze: Literal["backbone"] | int | None
    augment: str | Augmentation | None
    balance: bool | float
    seed: int
    out: str | os.PathLike[str] | None
    resume: bool
    callbacks: Sequence[Callable[[Epoch], Any]] | Callable[[Epoch], Any]
    check: Check
    workers: int | None
    dtype: str | torch.dtype
    epoch_samples: int | None
    accumulate: int
    optimizer: Optimizer
    momentum: float
    weight_decay: float
    warmup: float
    layer_decay: float
    feature_views: int
    smoothing: float
    mixup: float
    clip: float
    ema: float
    favour: Mapping[str, float]
    class_weights: tuple[float, ...] | Literal["balanced"] | None
    patience: int | None


class HubOptions(TypedDict, total=False):
    """Options of `find_bundle`."""

    revision: str | None
    cache_dir: str | os.PathLike[str] | None
    force_download: bool
    token: str | bool | None
    local_files_only: bool


class RateOptions(_TrainingOptions, total=False):
    """Options of `Detector.find_rate`: of the sweep, and those of `Detector.fine_tune` that shape a step."""

    low: float
    high: float
    steps: int
    batch_size: int | Literal["auto"]
    freeze: Literal["backbone"] | int | None
    augment: str | Augmentation | None
    balance: bool | float
    seed: int


class EvaluationOptions(TypedDict, total=False):
    """Options of `evaluate`."""

    split: str | None
    labels: Mapping[Any, str] | None
    frames: int
    threshold: float | None
    faces: FaceChoice
    batch_size: int | None
    workers: int | None
    robustness: str | Sequence[str] | Mapping[str, Delivery]
    rounds: int
    seed: int
    progress: bool | None
