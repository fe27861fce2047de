"""Settings of a training, the learning rate at each step, and the figures of each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from deepfake_detect._options import check_choice, real_number, whole_number
from deepfake_detect.errors import InvalidOption, nearest

Optimizer = Literal["adamw", "adam", "nadam", "sgd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Settings of a training: length, learning rate, optimizer, regularisation and sampling.

    Attributes:
        epochs: Number of epochs; each ends with a validation and a checkpoint.
        epoch_samples: Pictures drawn in an epoch; None draws as many as there are.
        batch_size: Pictures in a batch; ``"auto"`` finds what fits into memory. Never more than an epoch has.
        accumulate: Batches whose gradients are summed for one step.
        lr: Highest learning rate.
        optimizer: ``"adamw"`` (Loshchilov and Hutter 2019), ``"adam"``, ``"nadam"``, or ``"sgd"`` with Nesterov
            momentum.
        momentum: Momentum of SGD.
        weight_decay: Weight decay; biases and norms have none.
        warmup: Share of all steps in which the rate rises; then it falls along a cosine.
        layer_decay: Factor on the learning rate from each block to the one before it; 1 is the same rate for all.
        freeze: ``"backbone"`` trains the head alone, on features that are computed once; an integer N freezes the
            backbone, batch norms included, for the first N epochs.
        feature_views: For ``freeze="backbone"``: augmented views of each picture whose features are computed, beside
            the plain one.
        smoothing: Label smoothing: targets are half of this away from 0 and 1.
        mixup: Parameter of the Beta distribution of mixup (Zhang et al. 2018); 0 turns it off.
        clip: Largest norm of the gradient.
        ema: Decay of the moving average of the weights, which is what is kept; 0 keeps the last weights.
        balance: Draw both classes alike, and sources by this power of their size (True is 0.5); False draws each
            picture once.
        favour: Factors on how often some sources are drawn, where balanced.
        pairs: Share of the fakes that are followed, in the same step as a rule, by a real picture of their group: the
            frame that was forged, the photograph that was blended. It replaces another real one of its source.
        class_weights: Weights of real and fake pictures, or of each class, in the loss; ``"balanced"`` gives all
            classes the same sum, for a draw that is not balanced.
        patience: Stop after so many epochs without a better validation (see `Epoch.merit`); None never stops early.
        seed: Random seed of the draw, the augmentation and the dropout.

    Raises:
        InvalidOption: A field of the wrong type, or out of range.
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
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("accumulate", 1), ("feature_views", 0), ("seed", 0)):
            self._set(name, whole_number(name, getattr(self, name), least=least))
        for name in ("epoch_samples", "patience"):
            if getattr(self, name) is not None:
                self._set(name, whole_number(name, getattr(self, name), least=1, also=", or None"))
        if self.batch_size != "auto":
            self._set("batch_size", whole_number("batch_size", self.batch_size, least=1, also=", or 'auto'"))
        for name, low, high, ends in _RANGES:
            self._set(name, real_number(name, getattr(self, name), low=low, high=high, ends=ends))
        check_choice("optimizer", self.optimizer, get_args(Optimizer))
        if self.freeze is not None and self.freeze != "backbone":
            self._set("freeze", whole_number("freeze", self.freeze, also=" epochs, or 'backbone', or None"))
        if not isinstance(self.balance, bool):
            self._set("balance", real_number("balance", self.balance, low=0))
        self._check_weights()

    def _check_weights(self) -> None:
        if not isinstance(self.favour, Mapping):
            raise InvalidOption(f"favour is {self.favour!r}, expected a dict of source to factor")
        for source, factor in self.favour.items():
            real_number(f"favour[{source!r}]", factor, low=0)
        if self.class_weights is None or self.class_weights == "balanced":
            return
        if not isinstance(self.class_weights, tuple | list) or len(self.class_weights) < 2:
            expected = "'balanced', a number for each class, or None"
            raise InvalidOption(f"class_weights is {self.class_weights!r}, expected {expected}")
        weights = tuple(real_number("class_weights", weight, low=0, ends="(]") for weight in self.class_weights)
        self._set("class_weights", weights)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # while it is being built: it is frozen afterwards

    @property
    def power(self) -> float | None:
        """Power of the size of a source in a balanced draw; None draws each picture once."""
        return 0.5 if self.balance is True else None if self.balance is False else float(self.balance)

    def weights_of(self, labels: Sequence[int], *, classes: int = 2) -> tuple[float, ...]:
        """Return the weights of the classes, such as real and fake, in the loss.

        Args:
            labels: Labels of the training pictures: 1 is fake, or the number of the class.
            classes: Number of classes.

        Raises:
            InvalidOption: ``class_weights`` are not as many as there are classes.

        Example:
            >>> Schedule(epochs=1, class_weights="balanced").weights_of([0, 1, 1, 1])
            (2.0, 0.6666666666666666)
        """
        if self.class_weights != "balanced":
            weights = self.class_weights or (1.0,) * classes
            if len(weights) != classes:
                raise InvalidOption(f"class_weights is {weights}, expected a weight for each of {classes} classes")
            return weights
        counts = [labels.count(place) for place in range(classes)]
        return tuple(len(labels) / (classes * max(1, count)) for count in counts)

    def frozen_in(self, epoch: int) -> bool:
        """Return whether the backbone is frozen in an epoch, counted from 0."""
        return self.freeze == "backbone" or (isinstance(self.freeze, int) and epoch < self.freeze)

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate as a share of `lr`: a linear warm-up, then half a cosine down to a hundredth.

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
    """Figures of an epoch. Those of the validation are nan where there are no validation pictures.

    Attributes:
        epoch: Number, counted from 1.
        loss: Mean training loss, with smoothed labels, mixup and class weights.
        valid_loss: Log loss of the averaged weights on the validation pictures, with plain labels.
        valid_auc: Validation AUC of the averaged weights.
        valid_accuracy: Balanced accuracy on the validation pictures, at logit 0.
        collapsed: The class that every validation picture was called, where that is one; else empty.
        rate: Learning rate at the end.
        batch_size: Pictures in a step.
        samples_per_s: Training pictures per second.
        seconds: Time of training and validation.
        train_loss: Log loss on the training pictures, augmented and as the weights were at each step, with plain
            labels; nan with mixup.
        train_auc: AUC on them.
        train_accuracy: Balanced accuracy on them, at logit 0.
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
    train_loss: float = math.nan
    train_auc: float = math.nan
    train_accuracy: float = math.nan

    @property
    def merit(self) -> tuple[float, float]:
        """What the best epoch is the maximum of: the validation AUC, and on a tie or without one a low validation loss.

        The last epoch is the best one without validation pictures.
        """
        if math.isnan(self.valid_loss):
            return 0.0, float(self.epoch)
        return 0.0 if math.isnan(self.valid_auc) else self.valid_auc, -self.valid_loss


def make_schedule(**values: Any) -> Schedule:
    """Build a `Schedule`; a name that does not exist is refused, and the nearest one offered.

    Raises:
        InvalidOption: An option that does not exist, or as for `Schedule`.
    """
    known = [item.name for item in fields(Schedule)]
    for name in values:
        if name not in known:
            raise InvalidOption(f"there is no option {name!r}{nearest(name, known)}")
    return Schedule(**values)


_RANGES = (
    *((name, 0.0, 1.0, "[)") for name in ("warmup", "smoothing", "ema", "momentum")),
    ("pairs", 0.0, 1.0, "[]"),
    ("mixup", 0.0, math.inf, "[)"),
    ("weight_decay", 0.0, math.inf, "[)"),
    ("layer_decay", 0.0, 1.0, "(]"),
    ("lr", 0.0, math.inf, "()"),
    ("clip", 0.0, math.inf, "()"),
)
