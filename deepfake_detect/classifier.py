"""The classifier: classes of one's own for whole pictures, such as animals and vehicles, or male and female."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from deepfake_detect._options import check_number, check_type
from deepfake_detect.datasets.read import Sample, read_classes
from deepfake_detect.errors import InvalidOption, WeightsMismatch
from deepfake_detect.faces.crop import whole_picture
from deepfake_detect.inputs.image import ImageInput, name_image, open_image
from deepfake_detect.predict.content import Content, content_of
from deepfake_detect.predict.intake import Series, list_several, open_several
from deepfake_detect.predict.look import OVERSAMPLING
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.weights.bundle import Bundle, find_bundle
from deepfake_detect.weights.card import DETECTS, Card

if TYPE_CHECKING:  # what only some callers need is imported when they do
    import torch
    from PIL.Image import Image

    from deepfake_detect._keywords import ClassifierOptions, HubOptions
    from deepfake_detect.evaluation.class_report import ClassReport
    from deepfake_detect.training.schedule import Epoch

MODEL = "timm:mobilenetv2_100"
"""Architecture of a new classifier; `content-classes` is of the same, so that it can begin with its weights."""


class Classifier:
    """A model with a card that tells apart classes of any names, on whole pictures.

    Most callers want `Classifier.train`, or `Classifier.from_pretrained` and `fine_tune`. Real and fake are the classes
    of a `Detector`. May be used from several threads at once.

    Args:
        model: From ``create_model(..., outputs=K)``, or a `Bundle`.
        card: Its ``classes`` name the K outputs.
        revision: Commit on the Hub that the weights came from.
        device: ``"auto"`` is cuda, then mps, then cpu; or any name that torch knows.

    Raises:
        WeightsMismatch: The card is that of a detector.

    Example:
        >>> Classifier.from_pretrained("content-classes").classes
        ('animal', 'face', 'vehicle', 'other')
    """

    def __init__(
        self,
        *,
        model: torch.nn.Module | Bundle,
        card: Card,
        revision: str | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        if card.classes == DETECTS:
            raise WeightsMismatch(
                f"{card.id} tells {' and '.join(DETECTS)} apart; load it with Detector.from_pretrained"
            )
        from deepfake_detect.engines.torch_engine import Forward
        from deepfake_detect.system.device import find_device
        from deepfake_detect.weights.load import load_model

        self.card, self.revision = card, revision
        self.device = find_device(device)
        self._folder = model.folder if isinstance(model, Bundle) else None
        self._history: tuple[Epoch, ...] = ()
        self.model = (load_model(model) if isinstance(model, Bundle) else model.eval()).to(self.device)
        self._forward = Forward(self.model, device=self.device)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        device: str | torch.device = "auto",
        **options: Unpack[HubOptions],
    ) -> Self:
        """Load ``"content-classes"`` (animal, face, vehicle, other), a folder, or ``"owner/name"`` on the Hub.

        Args:
            name_or_path: As for `Detector.from_pretrained`.
            device: As for `Classifier`.
            **options: ``revision``, ``cache_dir``, ``force_download``, ``token`` and ``local_files_only`` as for
                `Detector.from_pretrained`.

        Raises:
            UnknownWeights: No such name.
            WeightsCorrupted: The bytes are not those that the card promises.
            WeightsMismatch: They are the weights of a detector, or do not fit this library.
        """
        bundle = find_bundle(name_or_path, **options)
        return cls(model=bundle, card=bundle.card, revision=bundle.revision, device=device)

    @classmethod
    def train(
        cls,
        dataset: Any,
        *,
        model: str = MODEL,
        start: str | os.PathLike[str] | None = None,
        size_px: int | None = None,
        dropout: float | None = None,
        name: str | None = None,
        epochs: int = 20,
        device: str | torch.device = "auto",
        **options: Unpack[ClassifierOptions],
    ) -> Self:
        """Train a new classifier on whole pictures, from random weights or from those of another network.

        Args:
            dataset: A folder with a folder for each class (below ``train``, ``val`` and ``test`` where there are such),
                a table with ``file,label``, a list of ``(image, label)``, or a data set of torch or Hugging Face; see
                `read_classes`. A split ``"test"`` is left alone.
            model: A name of `list_models`, or ``timm:NAME``; with ``/64`` behind it, a hidden layer of 64 before the
                logits.
            start: Initial weights, as for `Detector.train`.
            size_px: Side of the input in pixels; None takes the architecture's default.
            dropout: Dropout rate before the last layer; None takes the architecture's default.
            name: Name of the bundle; None takes that of the folder ``out``, or of the model.
            epochs: Passes over the data.
            device: As for `Classifier`.
            **options: Any of `fine_tune`.

        Returns:
            The classifier; its `history` has an entry for each epoch.

        Raises:
            DatasetError: As for `fine_tune`; or the classes are real and fake, which are those of a `Detector`.
            UnknownModel: No such architecture.
        """
        from deepfake_detect.training.initial import untrained

        samples, classes = read_classes(dataset)
        _refuse_real_and_fake(classes)
        network, card = untrained(
            model,
            name=name,
            out=options.get("out"),
            start=start,
            size_px=size_px,
            dropout=dropout,
            seed=options.get("seed", 0),
            classes=classes,
        )
        return cls._trained(network, card, samples, fresh=start is None, epochs=epochs, device=device, **options)

    def fine_tune(self, dataset: Any, *, epochs: int = 10, **options: Unpack[ClassifierOptions]) -> Self:
        """Train a copy of this classifier on new data; this one stays as it is.

        The classes are those of the data. Where they are those of this classifier the whole network goes on, else the
        last layer is new. The weights of the best epoch are kept: by the AUC on the validation pictures, the mean of
        each class against the others.

        Args:
            dataset: As for `train`.
            epochs: Passes over the data; fewer where ``patience`` is given.
            **options: ``valid``, ``lr``, ``batch_size``, ``freeze``, ``augment``, ``balance``, ``seed``, ``out``,
                ``resume``, ``callbacks``, ``check``, ``workers``, and fields of `Schedule`, as for
                `Detector.fine_tune`.

        Returns:
            A new classifier; its `history` has an entry for each epoch.

        Raises:
            DatasetError: There are no pictures or only one class, or a strict audit refuses.
            InvalidOption: An option that does not exist, is out of range, or of a wrong type.
            TrainingDiverged: The loss was not a number, again and again.
        """
        from deepfake_detect.training.initial import bundle_name

        samples, classes = read_classes(dataset)
        _refuse_real_and_fake(classes)
        name = bundle_name(options.get("out"), otherwise=f"{self.card.name}-tuned")
        card = replace(self.card, name=name, version=0, classes=classes)
        model = copy.deepcopy(self.model)
        if classes != self.card.classes:
            model = _with_new_head(model, card, seed=options.get("seed", 0))
        return self._trained(model, card, samples, fresh=False, epochs=epochs, device=self.device, **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.card.classes

    @overload
    def predict(self, image: ImageInput) -> Content: ...

    @overload
    def predict(self, image: list[Any] | tuple[Any, ...] | Series) -> list[Content]: ...

    def predict(self, image: Any) -> Content | list[Content]:
        """Classify a picture, as a whole; or several, given as a list, folder, pattern or column.

        Args:
            image: As for `Detector.predict`.

        Returns:
            The class with the highest score, and all scores; a list of these for several pictures.

        Raises:
            ImageUnreadable: Not a picture; the message says what was found.
            ImageTooLarge: More pixels than the limit.
        """
        images = list_several(image)
        return self._classify(image) if images is None else [self._classify(one) for one in images]

    def predict_many(self, images: Iterable[Any]) -> Iterator[Content]:
        """Classify pictures one after the other, in order; memory does not grow with their number.

        Args:
            images: Any iterable, a folder, or a pattern.
        """
        return (self._classify(image) for image in open_several(images))

    def evaluate(self, dataset: Any, *, split: str | None = None, seed: int = 0) -> ClassReport:
        """Measure this classifier on labelled pictures that it was not trained on.

        Args:
            dataset: As for `train`; its classes must be among those of this classifier.
            split: ``"train"``, ``"val"`` or ``"test"`` keeps the pictures of that split; None keeps all.
            seed: Random seed of the intervals.

        Returns:
            Accuracy with its interval, figures of each class, and the confusion matrix.

        Raises:
            DatasetError: No such pictures, or a class that this classifier does not know.
        """
        from deepfake_detect.evaluation.class_report import evaluate_classes

        check_type("split", split, (str, type(None)), expected="'train', 'val' or 'test', or None")
        check_number("seed", seed, low=0, whole=True)
        samples, _ = read_classes(dataset, classes=self.classes, splits=() if split is None else (split,))
        return evaluate_classes(self._classify, samples, classes=self.classes, model=self.card.id, seed=seed)

    @property
    def history(self) -> tuple[Epoch, ...]:
        """Figures of each epoch of the training that made this classifier; empty where they were not saved."""
        if self._history or self._folder is None:
            return self._history
        from deepfake_detect.training.history import read_history

        return read_history(self._folder)

    def plot_history(self, *, title: str = "") -> Image:
        """Draw losses, validation figures and the learning rate of the training over its epochs.

        Args:
            title: Title of the drawing; the name of the classifier where empty.
        """
        from deepfake_detect.training.history import plot_history

        return plot_history(self.history, title=title or self.card.id)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Card:
        """Write the weights and the card to a folder that `from_pretrained` loads, with the same scores to the bit.

        Args:
            folder: Created if missing; ``~`` is expanded.

        Returns:
            The card as written.
        """
        from deepfake_detect.training.history import save_with_history

        return save_with_history(self.model, self.card, folder, history=self.history)

    def __repr__(self) -> str:
        return f"Classifier({self.card.id!r}, {', '.join(self.classes)}, device={str(self.device)!r})"

    def _classify(self, image: ImageInput) -> Content:
        size_px = self.card.preprocessing.size_px
        picture = open_image(image, min_side_px=OVERSAMPLING * size_px)
        crop = whole_picture(picture.pixels, size_px=size_px, interpolation=self.card.preprocessing.interpolation)
        (logits,) = self._forward(normalise([crop], preprocessing=self.card.preprocessing))
        named = dict(zip(self.classes, logits.tolist(), strict=True))
        return content_of(named, card=self.card, size_hw=picture.size_hw, name=name_image(image))

    @classmethod
    def _trained(
        cls, model: torch.nn.Module, card: Card, samples: list[Sample], *, valid: Any = None, **options: Any
    ) -> Self:
        """Train this very model, and return a classifier with its new card."""
        from deepfake_detect.system.torch_defaults import usual_defaults
        from deepfake_detect.training.pipeline import train_model

        wrong = [name for name in ("faces", "self_blend", "pairs", "labels") if name in options]
        if wrong:
            raise InvalidOption(f"{wrong[0]} is an option of detectors of faces; a classifier takes whole pictures")
        if valid is not None and not isinstance(valid, int | float):
            valid, _ = read_classes(valid, classes=card.classes)
        device = options.pop("device")
        with usual_defaults():
            classifier = cls(model=model, card=card, device=device)
        result = train_model(
            classifier.model, samples, card=card, valid=valid, faces="none", device=classifier.device, **options
        )
        classifier.card, classifier._history = result.card, result.history
        return classifier


def _refuse_real_and_fake(classes: Sequence[str]) -> None:
    if {name.lower() for name in classes} == set(DETECTS):
        raise InvalidOption("the classes are real and fake, those of a detector; use Detector.train")


def _with_new_head(model: torch.nn.Module, card: Card, *, seed: int) -> torch.nn.Module:
    """Return a model for the classes of a card, with everything but the head of another one."""
    from deepfake_detect.models.head import head_of
    from deepfake_detect.models.registry import create_model
    from deepfake_detect.models.transfer import take_over

    head = f"{head_of(model)[0]}."
    backbone = {name: value for name, value in model.state_dict().items() if not name.startswith(head)}
    new = create_model(card.architecture, seed=seed, outputs=card.outputs)
    take_over(new, backbone, where=card.id)
    return new
