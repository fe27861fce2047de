"""How long and how fast does a model learn, and what came of each epoch?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Optimizer = Literal["adamw", "adam", "nadam", "sgd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        epochs: Each ends with a validation and a checkpoint.
        epoch_samples: Pictures drawn in an epoch; None draws as many as there are.
        batch_size: Pictures that the device gets at once; ``"auto"`` finds what fits.
        accumulate: Batches whose gradients make one step.
        lr: Highest rate.
        optimizer: ``"adamw"`` (Loshchilov and Hutter 2019), ``"adam"``, ``"nadam"``, or ``"sgd"`` with Nesterov
            momentum.
        momentum: Of SGD.
        weight_decay: Of weights; biases and norms have none.
        warmup: Share of all steps in which the rate rises; then it falls along a cosine.
        layer_decay: The rate of each block is that of the next one towards the head times this; 1 is the same for all.
        freeze: ``"backbone"`` teaches the head alone, on features that are computed once; a number does without
            teaching the rest for so many epochs, batch norms included.
        feature_views: Augmented views of each picture, beside the plain one, whose features are computed for
            ``freeze="backbone"``.
        smoothing: Labels are this far from 0 and 1.
        mixup: Parameter of the Beta distribution (Zhang et al. 2018); 0 mixes none.
        clip: Largest norm of the gradient.
        ema: Decay of the averaged weights, which are those that are kept; 0 keeps the last.
        balance: Draw both classes alike, and sources by this power of their size (True is 0.5); False draws each
            picture once.
        favour: Sources that are drawn so many times as often, where balanced.
        pairs: Share of the fakes that are followed, in the same step as a rule, by a real picture of their group: the
            frame that was forged, the photograph that was blended. Each takes the place of a real one of its source.
        class_weights: What a real and a fake picture count for in the loss; ``"balanced"`` gives both classes the same
            sum, which is of use where the draw is not balanced.
        patience: Stop after so many epochs without a better validation (see `Epoch.merit`); None never stops early.
        seed: Of the draw, the augmentation and the dropout.

    Raises:
        ValueError: A field out of range.
    """

    epochs: int
    epoch_samples: int | None = None
    batch_size: int | Literal["auto"] = "auto"
    accumulate: int = 1
    lr: float = 5e-4
    optimizer: Optimizer = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.01
    warmup: float = 0.05
    layer_decay: float = 1.0
    freeze: Literal["backbone"] | int | None = None
    feature_views: int = 0
    smoothing: float = 0.05
    mixup: float = 0.0
    clip: float = 1.0
    ema: float = 0.998
    balance: bool | float = True
    favour: Mapping[str, float] = field(default_factory=dict)
    pairs: float = 0.0
    class_weights: tuple[float, float] | Literal["balanced"] | None = None
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "epoch_samples", "batch_size", "accumulate", "patience"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        for name in ("warmup", "smoothing", "ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more and below 1")
        if not 0 <= self.pairs <= 1:
            raise ValueError(f"pairs is {self.pairs}, expected a share from 0 to 1")
        for name in ("mixup", "weight_decay", "feature_views"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if self.optimizer not in get_args(Optimizer):
            raise ValueError(f"optimizer is {self.optimizer!r}, expected one of {', '.join(get_args(Optimizer))}")
        if isinstance(self.freeze, str) and self.freeze != "backbone":
            raise ValueError(f"freeze is {self.freeze!r}, expected 'backbone', a number of epochs, or None")
        if isinstance(self.class_weights, str) and self.class_weights != "balanced":
            raise ValueError(f"class_weights is {self.class_weights!r}, expected 'balanced', two numbers, or None")
        if self.class_weights and not isinstance(self.class_weights, str) and min(self.class_weights) <= 0:
            raise ValueError(f"class_weights is {self.class_weights}, expected two numbers above 0")
        if not (0 < self.lr < math.inf and self.clip > 0 and 0 < self.layer_decay <= 1):
            raise ValueError(
                f"lr {self.lr} and clip {self.clip} must lie above 0, and layer_decay {self.layer_decay} in 0..1"
            )

    @property
    def power(self) -> float | None:
        """Power of a source's size in a balanced draw; None draws each picture once."""
        return 0.5 if self.balance is True else None if self.balance is False else float(self.balance)

    def weights_of(self, labels: Sequence[int]) -> tuple[float, float]:
        """Give what a real and a fake picture count for in the loss.

        Args:
            labels: Of the training pictures, 1 is fake.

        Example:
            >>> Schedule(epochs=1, class_weights="balanced").weights_of([0, 1, 1, 1])
            (2.0, 0.6666666666666666)
        """
        if self.class_weights != "balanced":
            return self.class_weights or (1.0, 1.0)
        fakes = sum(labels)
        return len(labels) / (2 * max(1, len(labels) - fakes)), len(labels) / (2 * max(1, fakes))

    def frozen_in(self, epoch: int) -> bool:
        """Say whether all but the head is frozen in an epoch, counted from 0."""
        return self.freeze == "backbone" or (isinstance(self.freeze, int) and epoch < self.freeze)

    def rate_at(self, step: int, steps: int) -> float:
        """Give the share of the highest rate: a straight rise, then half a cosine down to a hundredth.

        Example:
            >>> [round(Schedule(epochs=1, warmup=0.1).rate_at(step, 20), 3) for step in (0, 1, 2, 19)]
            [0.5, 1.0, 1.0, 0.018]
        """
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return (step + 1) / rising
        progress = (step - rising) / max(1, steps - rising)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch came to. Without validation pictures, what is valid is not a number.

    Attributes:
        epoch: Counted from 1.
        loss: Mean over the epoch, with smoothed labels.
        valid_loss: Of the averaged weights, with plain labels.
        valid_auc: Likewise.
        valid_accuracy: Mean of both classes' accuracies, where a positive logit says fake.
        collapsed: ``"real"`` or ``"fake"`` where every validation picture was called that; else empty.
        rate: At the end.
        batch_size: Pictures in a step.
        samples_per_s: Training alone.
        seconds: Training and validation.
    """

    epoch: int
    loss: float
    valid_loss: float
    valid_auc: float
    valid_accuracy: float
    collapsed: str
    rate: float
    batch_size: int
    samples_per_s: float
    seconds: float

    @property
    def merit(self) -> tuple[float, float]:
        """What the best epoch is highest in: AUC and, where that is equal or undefined, a low validation loss.

        The last epoch is the best one where nothing is validated.
        """
        if math.isnan(self.valid_loss):
            return 0.0, float(self.epoch)
        return 0.0 if math.isnan(self.valid_auc) else self.valid_auc, -self.valid_loss
