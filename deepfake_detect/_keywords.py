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


class _StepOptions(TypedDict, total=False):
    """Options that shape a step: of `Schedule`, of the draw and of the augmentation."""

    batch_size: int | Literal["auto"]
    freeze: Literal["backbone"] | int | None
    augment: str | Augmentation | None
    balance: bool | float
    seed: int


class _RunOptions(_StepOptions, total=False):
    """Options of a whole training."""

    valid: Any
    lr: float | None
    out: str | os.PathLike[str] | None
    resume: bool
    callbacks: Sequence[Callable[[Epoch], Any]] | Callable[[Epoch], Any]


class _ScheduleOptions(TypedDict, total=False):
    """Options of `train_model` and `Schedule` that no method names itself."""

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
    class_weights: tuple[float, ...] | Literal["balanced"] | None
    patience: int | None


class _FaceOptions(_ScheduleOptions, total=False):
    """The same for detectors, which may be trained on faces."""

    faces: FacePolicy | None
    labels: Mapping[Any, str] | None
    self_blend: float
    pairs: float


class FineTuneOptions(_FaceOptions, total=False):
    """Further options of `Detector.fine_tune`."""

    dtype: str | torch.dtype


class TrainOptions(_FaceOptions, _RunOptions, total=False):
    """Further options of `Detector.train`: those of `Detector.fine_tune`."""


class ClassifierOptions(_ScheduleOptions, _RunOptions, total=False):
    """Options of `Classifier.fine_tune` and `Classifier.train` that they pass on to `train_model` and `Schedule`."""

    dtype: str | torch.dtype


class HubOptions(TypedDict, total=False):
    """Options of `find_bundle`."""

    revision: str | None
    cache_dir: str | os.PathLike[str] | None
    force_download: bool
    token: str | bool | None
    local_files_only: bool


class RateOptions(_FaceOptions, _StepOptions, total=False):
    """Options of `Detector.find_rate`: of the sweep, and those of `Detector.fine_tune` that shape a step."""

    low: float
    high: float
    steps: int


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
