"""What does a model, used as its card says, answer about pictures?"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch

from deepfake_detect.card import DETECTS, Card
from deepfake_detect.device import count_processors, find_device, find_dtype
from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.faces import PACKAGED, FaceFinder
from deepfake_detect.forward import Forward
from deepfake_detect.preprocess import to_batch
from deepfake_detect.results import Prediction
from deepfake_detect.scoring import FaceChoice, Look, check_choice, look
from deepfake_detect.stream import OnError, stream_predictions

BATCH_SIZES = {"cuda": 128, "mps": 32, "cpu": 4}
"""Faces a model gets at once where nobody says; on a processor, more than these do not fit into its caches."""

MOST_WORKERS = 32
"""Threads where nobody says, on a machine with so many processors or more."""


class Predictor:
    """A model with the card that says how to use it: all that is needed to score pictures.

    What is measured, calibrated or explained goes through this one way. May be used from several
    threads at once; `to` is the exception.

    Args:
        model: From `create_model` or one's own: [N, 3, size_px, size_px] to N logits.
        card: Everything else.
        revision: Commit on the Hub that the weights came from.
        device: ``"auto"`` is cuda, then mps, then cpu; or any name that torch knows.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"`` (the last two as automatic mixed
            precision: the weights stay float32). ``"auto"`` is float16 on cuda, else float32.
        finder: The face finder; the one that the card names where None.

    Raises:
        ValueError: An unknown device or dtype.
        WeightsMismatch: The card is not that of a detector.
    """

    device: torch.device
    dtype: torch.dtype

    def __init__(
        self,
        *,
        model: torch.nn.Module,
        card: Card,
        revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        finder: FaceFinder | None = None,
    ) -> None:
        if card.classes != DETECTS:
            raise WeightsMismatch(
                f"{card.id} tells {', '.join(card.classes)} apart, expected a detector of {' and '.join(DETECTS)}; "
                "ask classify_content what is on a picture"
            )
        self.model = model.eval()
        self.card = card
        self.revision = revision
        self._finder = finder
        self.to(device, dtype=dtype)

    def to(self, device: str | torch.device = "auto", *, dtype: str | torch.dtype | None = None) -> Self:
        """Move the model, and choose what it computes in.

        Args:
            device: As for `Predictor`.
            dtype: As for `Predictor`; None keeps the present one.

        Returns:
            The same object.
        """
        self.device = find_device(device)
        if dtype is not None:
            self.dtype = find_dtype(dtype, self.device)
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self._forward = Forward(self.model, device=self.device, dtype=self.dtype)
        return self

    def predict(self, image: Any, *, faces: FaceChoice = "auto", threshold: float | None = None) -> Prediction:
        """Score one picture.

        Args:
            image: Path, http(s) URL, data URI, bytes, file object, PIL image, RGB HWC uint8 array or CHW tensor.
            faces: ``"auto"``, ``"all"``, ``"largest"`` or ``"none"``; see `FaceChoice`.
            threshold: Score from which the label is ``"fake"``, in place of the card's. The card's
                uncertain interval is then left aside.

        Returns:
            The highest score of the faces. Where there is no face the label is ``"no-face"`` and the
            score None: nothing is made up.

        Raises:
            ImageUnreadable: Not a picture; the message says what was found.
            ImageTooLarge: More pixels than the limit.
        """
        return next(self.predict_many([image], faces=faces, threshold=threshold, workers=0))

    def predict_many(
        self,
        images: Iterable[Any],
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        on_error: OnError = "raise",
        faces: FaceChoice = "auto",
        threshold: float | None = None,
    ) -> Generator[Prediction, None, None]:
        """Score many pictures, in order, as they come.

        Threads open the pictures, find the faces and run the model, whatever there is to do; batches are
        filled across pictures and faces. ``images`` may be endless: it is pulled in the caller's thread, and
        never more than ``(workers + 2) * batch_size + workers`` pictures ahead. Close the generator to end early.

        Args:
            images: Anything that gives pictures one after the other.
            batch_size: Faces the model gets at once. Where the device has too little memory it is
                halved, once, with a warning.
            workers: Threads; as many as there are processors, up to 32, where None. On a processor each runs
                the model too, with its share of torch's threads. 0 works in the caller's thread alone, one
                picture after the other.
            on_error: ``"raise"`` raises the error of a bad picture in its place, after the predictions
                before it; ``"yield"`` gives a prediction with ``error`` and the label ``"error"``.
            faces: See `predict`.
            threshold: See `predict`.

        Returns:
            A generator of predictions. ``seconds`` is the time in which that picture was opened and
            searched, and its faces' share of the batches that they were in.

        Raises:
            TypeError: ``images`` is one picture.
            ValueError: An argument out of range.
            DeepfakeDetectError: From the generator, for the first bad picture.

        Example:
            >>> from deepfake_detect import Detector
            >>> detector = Detector.from_pretrained("xception-fakefaces")
            >>> for prediction in detector.predict_many(["examples/portrait.jpg"]):
            ...     print(prediction.label)
            real
        """
        _refuse_one_picture(images)
        check_choice(faces, threshold=threshold)
        workers = _at_least("workers", workers, 0, default=min(MOST_WORKERS, count_processors()))
        if on_error not in ("raise", "yield"):
            raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'yield'")
        return stream_predictions(
            images,
            look=partial(look, preprocessing=self.card.preprocessing, finder=self._face_finder(faces), faces=faces),
            forward=self.logits,
            card=self.card,
            revision=self.revision,
            threshold=threshold,
            batch_size=_at_least("batch_size", batch_size, 1, default=BATCH_SIZES.get(self.device.type, 16)),
            workers=workers,
            lanes=max(1, min(workers, torch.get_num_threads())) if self.device.type == "cpu" else 1,
            on_error=on_error,
            how=lambda: self._forward.how,
        )

    def look(self, image: Any, *, faces: FaceChoice = "auto") -> Look:
        """Open a picture and cut out what the model would see of its faces, without scoring them.

        Args:
            image: See `predict`.
            faces: See `predict`.

        Returns:
            The faces with a crop each.
        """
        return look(image, preprocessing=self.card.preprocessing, finder=self._face_finder(faces), faces=faces)

    def logits(self, crops: Sequence[np.ndarray]) -> list[float]:
        """Run the model on face crops that are there, such as those of `look`.

        Args:
            crops: N of [size_px, size_px, 3] uint8 RGB.

        Returns:
            N logits; positive means fake.
        """
        logits: list[float] = self._forward(to_batch(crops, preprocessing=self.card.preprocessing)).tolist()
        return logits

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{type(self).__name__}({self.card.id!r}, device={str(self.device)!r}, dtype={dtype!r})"

    def _face_finder(self, faces: FaceChoice) -> FaceFinder | None:
        if faces != "none" and self._finder is None:
            wanted = self.card.preprocessing.finder
            self._finder = FaceFinder(None if wanted == PACKAGED else wanted)
        return self._finder if faces != "none" else None


def _refuse_one_picture(images: Any) -> None:
    one = isinstance(images, str | bytes | os.PathLike) or callable(getattr(images, "read", None))
    if one or getattr(images, "ndim", 4) < 4 or not isinstance(images, Iterable):
        raise TypeError(
            f"predict_many got one {type(images).__name__}, expected several pictures; "
            "use predict(image), or predict_many([image])"
        )


def _at_least(name: str, value: int | None, low: int, *, default: int) -> int:
    if value is not None and value < low:
        raise ValueError(f"{name} is {value}, expected at least {low}")
    return default if value is None else value
