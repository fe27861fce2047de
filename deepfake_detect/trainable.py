"""What a detector does with data: train a new one, fine-tune a copy, find a rate, and show how the training went."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from deepfake_detect.errors import InvalidOption
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.weights.card import Card

if TYPE_CHECKING:  # what only some callers need is imported when they do
    import torch
    from PIL.Image import Image

    from deepfake_detect._keywords import FineTuneOptions, RateOptions, TrainOptions
    from deepfake_detect.engines.runner import Backend
    from deepfake_detect.evaluation.report import Report
    from deepfake_detect.training.augment import Augmentation
    from deepfake_detect.training.model_summary import ModelSummary
    from deepfake_detect.training.pipeline import TrainingResult
    from deepfake_detect.training.rate_finder import RateSweep
    from deepfake_detect.training.schedule import Epoch


class Trainable(Predictor):
    """A `Predictor` that is trained, and that makes others of its kind; takes the same arguments."""

    training: TrainingResult | None = None
    """Result of the training, where `fine_tune` or `train` made this detector."""

    @classmethod
    def train(
        cls,
        dataset: Any,
        *,
        model: str = "xception",
        start: str | os.PathLike[str] | None = None,
        size_px: int | None = None,
        margin: float = 1.3,
        dropout: float | None = None,
        name: str | None = None,
        epochs: int = 20,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        **options: Unpack[TrainOptions],
    ) -> Self:
        """Train a new detector, from random weights or from those of another network.

        Args:
            dataset: As for `fine_tune`.
            model: A name of `list_models`, or ``timm:NAME``; with ``/64`` behind it, a hidden layer of 64 before the
                logit.
            start: Initial weights: None is random; ``"imagenet"`` downloads those of timm from the Hub; a
                ``.safetensors`` file, or a folder with one; or a bundle as for `from_pretrained`. Layers of the same
                name and shape are copied; the head, as a rule, is new.
            size_px: Side of the input in pixels; None takes the architecture's default.
            margin: Side of the crop as a multiple of the longer side of the face box.
            dropout: Dropout rate before the head; None takes the architecture's default.
            name: Name of the bundle; None takes that of the folder ``out``, or of the model.
            epochs: Passes over the data.
            device: As for `Predictor`.
            dtype: As for `Predictor`, while training and afterwards.
            **options: Any of `fine_tune`.

        Returns:
            The detector; its `history` has an entry for each epoch.

        Raises:
            DatasetError: As for `fine_tune`.
            UnknownModel: No such architecture.
            UnknownWeights: No such weights to start from.
            WeightsMismatch: Those weights are of another architecture.
        """
        from deepfake_detect.training.initial import untrained

        network, card = untrained(
            model,
            name=name,
            out=options.get("out"),
            start=start,
            size_px=size_px,
            margin=margin,
            dropout=dropout,
            seed=options.get("seed", 0),
        )
        detector = cls(model=network, card=card, device=device, dtype=dtype)
        return detector._trained(dataset, fresh=start is None, epochs=epochs, **options)

    def fine_tune(
        self,
        dataset: Any,
        *,
        valid: Any = None,
        epochs: int = 10,
        lr: float | None = None,
        batch_size: int | Literal["auto"] = "auto",
        freeze: Literal["backbone"] | int | None = None,
        augment: str | Augmentation | None = "default",
        balance: bool = True,
        seed: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Sequence[Callable[[Epoch], Any]] | Callable[[Epoch], Any] = (),
        **options: Unpack[FineTuneOptions],
    ) -> Self:
        """Train a copy of this detector on new data; this one stays as it is.

        The data are audited first, and problems are written to the log (see `audit`). Faces are found and
        cut out as in `predict`. The weights of the best epoch are kept and calibrated on the validation pictures.
        Of a detector with two looks the network of the crop is trained; that of the texture stays as it is, and its
        weight is fitted anew on the validation pictures.

        Args:
            dataset: A folder of class folders, a CSV or JSONL table, a list of ``(image, label)``, a torch
                ``Dataset`` or a Hugging Face ``Dataset``; see `read_dataset`. A split ``"test"`` is left alone.
            valid: Another data set, or the share of groups to set aside; None takes the split ``"val"``, or 15 %.
            epochs: Passes over the data; fewer where ``patience`` is given.
            lr: Highest learning rate; None is 1e-3 for a head alone and for new weights, else 2e-4.
            batch_size: Pictures in a batch; ``"auto"`` finds what fits into memory.
            freeze: ``"backbone"`` trains the last layer alone, many times faster; an integer N freezes the backbone
                for the first N epochs.
            augment: ``"none"``, ``"light"``, ``"default"``, ``"strong"``, or an `Augmentation`.
            balance: Draw both classes, and all sources, about as often.
            seed: Random seed of the split, the draw, the augmentation and new weights.
            out: Folder for the bundle, the state of the training and the log, written after each epoch.
            resume: Continue from the state in ``out``; the result is the same as without the pause.
            callbacks: Called with each `Epoch`; one that returns False ends the training.
            **options: ``faces``, ``self_blend``, ``check``, ``workers`` of `train_model`, and any other field of
                `Schedule`, such as ``optimizer="sgd"``, ``mixup=0.2`` or ``patience=3``.

        Returns:
            A new detector; its `history` has an entry for each epoch.

        Raises:
            DatasetError: Labels cannot be interpreted, one class is missing, or a strict audit refuses.
            InvalidOption: An option that does not exist, is out of range, or of a wrong type.
            TrainingDiverged: The loss was not a number, again and again.
        """
        from deepfake_detect.system.torch_defaults import usual_defaults
        from deepfake_detect.training.initial import bundle_name

        card = replace(self.card, name=bundle_name(out, otherwise=f"{self.card.name}-tuned"), version=0)
        with usual_defaults():  # a copy made under inference_mode could not be trained
            detector = self._with(copy.deepcopy(self.model), card)
        steps = {
            "epochs": epochs,
            "lr": lr,
            "batch_size": batch_size,
            "freeze": freeze,
            "balance": balance,
            "seed": seed,
        }
        data = {"valid": valid, "augment": augment, "out": out, "resume": resume, "callbacks": callbacks}
        return detector._trained(dataset, fresh=False, **steps, **data, **options)

    def cross_validate(
        self, dataset: Any, *, folds: int = 5, labels: Mapping[Any, str] | None = None, seed: int = 0, **options: Any
    ) -> Report:
        """Measure what `fine_tune` makes of few pictures, where setting some aside for validation would leave too few.

        The data are dealt into folds, and this detector is fine-tuned once for each, without that fold, which is then
        scored. Each picture is so judged by a detector that has not seen it; no training chooses its best epoch. The
        figures are those of the settings, not of one detector: train it afterwards, on all pictures.

        Args:
            dataset: As for `fine_tune`. Groups stay in one fold.
            folds: Number of trainings, at least 2.
            labels: Meaning of unknown labels, as for `read_dataset`.
            seed: Random seed of the folds and of every training.
            **options: Any of `fine_tune` but ``valid``, ``out``, ``resume`` and ``patience``.

        Returns:
            A report on all pictures.

        Raises:
            DatasetError: As for `fine_tune`, or there are fewer groups than folds.
            InvalidOption: An option that does not exist, is out of range, or of a wrong type.
        """
        from deepfake_detect.training.cross_validation import cross_validate

        for name in ("valid", "out", "resume", "patience"):
            if name in options:
                raise InvalidOption(f"{name} has no meaning for a cross-validation; leave it out")
        options = {"check": "off", **options, "seed": seed, "valid": 0.0}
        return cross_validate(
            lambda samples: self.fine_tune(samples, **options),
            dataset,
            name=self.card.id,
            folds=folds,
            labels=labels,
            seed=seed,
        )

    def find_rate(self, dataset: Any, **options: Unpack[RateOptions]) -> RateSweep:
        """Find a learning rate for `fine_tune` by a short training with a rising rate; this detector stays as it is.

        Args:
            dataset: As for `fine_tune`.
            **options: ``low``, ``high`` and ``steps`` of `rate_finder.find_rate`; ``freeze``, ``augment``,
                ``batch_size`` and others as for `fine_tune`.

        Returns:
            The loss over the rate, a `suggestion`, and `plot()`.
        """
        from deepfake_detect.training.rate_finder import find_rate

        return find_rate(self.model, dataset, card=self.card, device=self.device, **options)

    @property
    def history(self) -> tuple[Epoch, ...]:
        """Figures of each epoch of the training that made this detector; empty where they were not saved."""
        if self.training is not None:
            return self.training.history
        bundle = self._runner.bundle
        if bundle is None:
            return ()
        from deepfake_detect.training.history import read_history

        return read_history(bundle.folder)

    def plot_history(self, *, title: str = "") -> Image:
        """Draw losses, validation figures and the learning rate of the training over its epochs.

        Args:
            title: Title of the drawing; the name of the detector where empty.

        Raises:
            InvalidOption: There is no history.
            MissingExtra: matplotlib is not installed.
        """
        from deepfake_detect.training.history import plot_history

        return plot_history(self.history, title=title or self.card.id)

    def summary(self, *, freeze: Literal["backbone"] | int | None = None) -> ModelSummary:
        """Summarize the model: blocks, output shapes, and parameters (total, trainable, frozen).

        Args:
            freeze: ``"backbone"`` shows what `fine_tune` with it would train; None shows what the training that made
                this detector has trained.
        """
        from deepfake_detect.training.model_summary import summarize

        if freeze is None and self.training is not None:
            freeze = self.training.freeze  # type: ignore[assignment]
        return summarize(
            self.model,
            name=self.card.id,
            architecture=self.card.architecture,
            size_px=self.card.preprocessing.size_px,
            freeze=freeze,
        )

    def _trained(self, dataset: Any, *, fresh: bool, **options: Any) -> Self:
        """Train this very model, and return a detector with its new card."""
        callbacks = options.get("callbacks", ())
        calls = [callbacks] if callable(callbacks) else callbacks
        if not (isinstance(calls, Sequence) and all(callable(call) for call in calls)):
            raise InvalidOption(f"callbacks is {callbacks!r}, expected functions of an Epoch, in a list")
        from deepfake_detect.training.pipeline import train_model

        backend: Backend = "torch" if self._runner.backend == "torch" else "auto"  # which falls back, and never raises
        result = train_model(
            self.model,
            dataset,
            card=self.card,
            fresh=fresh,
            texture=self.texture_model,
            device=self.device,
            backend=backend,
            **options,
        )
        detector = self._with(self.model, result.card)
        detector.training = result
        return detector

    def _with(self, model: torch.nn.Module, card: Card) -> Self:
        runner = self._runner
        return type(self)(
            model=model,
            card=card,
            texture=self.texture_model,
            device=runner.device,
            dtype=runner.dtype,
            backend=runner.backend,
        )
