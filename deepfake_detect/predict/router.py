"""Classify the content of a picture, then score it with the detector registered for that class."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args, overload

from deepfake_detect._options import check_choice, check_type
from deepfake_detect.errors import DeepfakeDetectError, InvalidOption, nearest
from deepfake_detect.inputs.image import ImageInput
from deepfake_detect.predict.content import Content, classify_content, content_classes
from deepfake_detect.predict.intake import (
    Series,
    Taken,
    list_several,
    open_several,
    read_once,
    reading,
    safe_name,
    take_over,
)
from deepfake_detect.predict.look import FaceChoice, check_faces
from deepfake_detect.predict.prediction import Prediction, Predictions
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.predict.stream import OnError

CHUNK = 32
"""Pictures that are classified before they are scored; at most so many are in memory at once."""

FACE = "face"
"""The content class whose detector looks for faces; every other detector scores the whole picture."""


class ContentRouter:
    """Detect in two stages: classify the content of a picture, then score it with the detector for that class.

    Results and errors are those of a `Detector`. A picture whose content has no detector gets no score: ``content``
    holds its class, and its label is ``"no-face"``, or ``"no-detector"`` where that class is ``"face"``.

    Args:
        detectors: Content class, such as ``"face"`` or ``"vehicle"``, to the detector for it.

    Raises:
        InvalidOption: No detector, no mapping, or a class that `classify_content` does not know.

    Example:
        >>> import deepfake_detect as dd
        >>> router = dd.ContentRouter({"face": dd.Detector.from_pretrained("meso4-fakefaces")})
        >>> prediction = router.predict("examples/portrait.jpg")
        >>> prediction.content.label, prediction.model
        ('face', 'meso4-fakefaces@1')
    """

    def __init__(self, detectors: Mapping[str, Predictor]) -> None:
        known = content_classes()
        check_type("detectors", detectors, Mapping, expected="a mapping of content classes to detectors")
        if not detectors:
            raise InvalidOption(f"no detectors, expected at least one, for {', '.join(known)}")
        for name, detector in detectors.items():
            if name not in known:
                raise InvalidOption(f"no content class {name!r}, expected {', '.join(known)}{nearest(name, known)}")
            if not isinstance(detector, Predictor):
                raise InvalidOption(f"the detector for {name!r} is a {type(detector).__name__}, expected a Detector")
        self.detectors = dict(detectors)

    @overload
    def predict(
        self, image: ImageInput, *, faces: FaceChoice = "auto", threshold: float | None = None
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        image: list[Any] | tuple[Any, ...] | Series,
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
    ) -> Predictions: ...

    def predict(
        self,
        image: ImageInput | list[Any] | tuple[Any, ...] | Series,
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
    ) -> Prediction | Predictions:
        """Score one picture, or several at once, each with the detector for what it shows.

        Args:
            image: As for `Detector.predict`.
            faces: As for `Detector.predict`, for pictures of the class ``"face"``; of the others, the whole picture is
                scored.
            threshold: As for `Detector.predict`.

        Returns:
            The verdict, with ``content``; for several pictures a list in the same order.

        Raises:
            ImageUnreadable: Not a picture.
            ImageTooLarge: More pixels than the limit.
            InvalidOption: An option that does not exist or is out of range.
        """
        several = list_several(image)
        scored = self.predict_many([image] if several is None else several, faces=faces, threshold=threshold)
        with contextlib.closing(scored) as predictions:
            return next(predictions) if several is None else Predictions(predictions)

    def predict_many(
        self,
        images: Iterable[Any] | str,
        *,
        on_error: OnError = "raise",
        faces: FaceChoice = "auto",
        threshold: float | None = None,
    ) -> Generator[Prediction, None, None]:
        """Score many pictures, in order, as they come.

        Args:
            images: May be endless; at most `CHUNK` pictures are pulled ahead.
            on_error: As for `Detector.predict_many`.
            faces: As for `predict`.
            threshold: As for `Detector.predict`.

        Returns:
            A generator of one verdict for each picture, with ``content``, which is None where the picture could not be
            read.

        Raises:
            InvalidOption: ``images`` is one picture, or an option does not exist or is out of range.
        """
        several = open_several(images)
        check_faces(faces, threshold=threshold)
        check_choice("on_error", on_error, get_args(OnError))
        return self._stream(several, on_error=on_error, faces=faces, threshold=threshold)

    def _stream(
        self, images: Iterable[Any], *, on_error: OnError, faces: FaceChoice, threshold: float | None
    ) -> Generator[Prediction, None, None]:
        for chunk in _chunks(images):
            entries = [_classify(image, on_error) for image in chunk]
            yield from self._score(entries, faces, threshold)

    def _score(self, entries: Sequence[_Entry], faces: FaceChoice, threshold: float | None) -> Iterator[Prediction]:
        """Score the pictures of each class together; yield the predictions in the order of the pictures."""
        names = [entry.content.label if entry.content else "" for entry in entries]
        predictions: dict[str, Iterator[Prediction]] = {}
        with contextlib.ExitStack() as stack:
            for name, detector in self.detectors.items():
                images = [entry.taken for entry, other in zip(entries, names, strict=True) if other == name]
                choice: FaceChoice = faces if name == FACE else "none"
                scored = detector.predict_many(images, threshold=threshold, faces=choice)
                predictions[name] = stack.enter_context(contextlib.closing(scored))  # ends its threads
            for name, entry in zip(names, entries, strict=True):
                prediction = next(predictions[name]) if name in predictions else _unscored(entry)
                yield replace(prediction, content=entry.content)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Entry:
    """A picture and what it shows, or why it cannot be read."""

    name: str
    taken: Taken | None = None
    content: Content | None = None
    error: DeepfakeDetectError | None = None


def _chunks(images: Iterable[ImageInput]) -> Iterator[list[ImageInput]]:
    source = iter(images)
    while chunk := list(itertools.islice(source, CHUNK)):
        yield chunk


def _classify(image: ImageInput, on_error: OnError) -> _Entry:
    try:
        taken = take_over(image)
        with reading(taken.name):
            held = replace(taken, image=read_once(taken)[0])  # class and score come from the same bytes
            return _Entry(name=taken.name, taken=held, content=classify_content(held.image))
    except DeepfakeDetectError as error:
        if on_error == "raise":
            raise
        return _Entry(name=safe_name(image), error=error)


def _unscored(entry: _Entry) -> Prediction:
    """Return the prediction for a picture that no detector is there for, or that cannot be read."""
    is_face = entry.content is not None and entry.content.label == FACE
    return Prediction(
        name=entry.name,
        label="error" if entry.error else "no-detector" if is_face else "no-face",
        size_hw=entry.content.size_hw if entry.content else None,
        model=entry.content.model if entry.content else "",
        threshold=0.5,
        seconds=0.0,
        error=entry.error,
        source=entry.taken.source if entry.taken else None,
    )
