"""What does a model, used as its card says, answer about pictures?"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from deepfake_detect.engines.openvino_engine import PRECISIONS, Compiled, compile_bundle
from deepfake_detect.engines.openvino_graph import is_installed, require_openvino
from deepfake_detect.errors import MissingExtra, WeightsMismatch, nearest
from deepfake_detect.faces.finder import PACKAGED, FaceFinder
from deepfake_detect.predict.look import FaceChoice, Look, check_choice, look_at
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.predict.stream import OnError, refuse_one_picture, stream_predictions
from deepfake_detect.system.device import count_processors, find_device, find_dtype, may_have_accelerator, name_dtype
from deepfake_detect.weights.bundle import Bundle
from deepfake_detect.weights.card import DETECTS, Card

if TYPE_CHECKING:  # torch is imported where it is needed: with OpenVINO a verdict needs none
    import torch

    from deepfake_detect.engines.packed import Spliced
    from deepfake_detect.engines.torch_engine import Forward

Backend = Literal["auto", "torch", "openvino"]
"""What runs the network on a processor: torch, or OpenVINO, which starts and runs faster. ``"auto"`` is OpenVINO
where it is installed, no graphics processor is in sight, and it can compute the network; else torch."""

BATCH_SIZES = {"cuda": 128, "mps": 32, "cpu": 4, "openvino": 8}
"""Faces a model gets at once where nobody says; on a processor, more than these do not fit into its caches, while
OpenVINO takes them one by one from a line that shall not run empty."""

MOST_WORKERS = 32
"""Threads where nobody says, on a machine with so many processors or more."""


class Predictor:
    """A model with the card that says how to use it: all that is needed to score pictures.

    What is measured, calibrated or explained goes through this one way. May be used from several
    threads at once; `to` is the exception.

    Args:
        model: From `create_model` or one's own: [N, 3, size_px, size_px] to N logits. Or a `Bundle`, whose weights
            are loaded as they are needed.
        card: Everything else.
        revision: Commit on the Hub that the weights came from.
        device: ``"auto"`` is cuda, then mps, then cpu; or any name that torch knows.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"`` (the last two as automatic mixed
            precision: the weights stay float32). ``"auto"`` is float16 on cuda, else float32.
        backend: See `Backend`.
        finder: The face finder; the one that the card names where None.

    Raises:
        ValueError: An unknown device, dtype or backend, or three that do not go together.
        MissingExtra: OpenVINO was asked for and is not installed.
        WeightsMismatch: The card is not that of a detector.
    """

    def __init__(
        self,
        *,
        model: torch.nn.Module | Bundle,
        card: Card,
        revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        backend: Backend = "auto",
        finder: FaceFinder | None = None,
    ) -> None:
        if card.classes != DETECTS:
            raise WeightsMismatch(
                f"{card.id} tells {', '.join(card.classes)} apart, expected a detector of {' and '.join(DETECTS)}; "
                "ask classify_content what is on a picture"
            )
        self.card = card
        self.revision = revision
        self._finder, self._is_ours = finder, finder is None
        self._crowd: FaceFinder | None = None  # finds in several threads at once
        self._bundle = model if isinstance(model, Bundle) else None
        self._model = None if isinstance(model, Bundle) else model.eval()
        self._loading = threading.RLock()
        self.to(device, dtype=dtype, backend=backend)

    def to(
        self,
        device: str | torch.device = "auto",
        *,
        dtype: str | torch.dtype | None = None,
        backend: Backend | None = None,
    ) -> Self:
        """Move the model, and choose what it computes in and what runs it.

        Args:
            device: As for `Predictor`.
            dtype: As for `Predictor`; None keeps the present one.
            backend: As for `Predictor`; None keeps the present one.

        Returns:
            The same object.
        """
        wanted = name_dtype(dtype) if dtype is not None else self._dtype
        self._backend = _checked_backend(backend) if backend is not None else self._backend
        compiles = _compiles(self._backend, str(device), wanted)
        if compiles and self._bundle is not None and self._model is None:
            numbers = "float32" if wanted == "auto" else wanted
            found = compile_bundle(self._bundle, dtype=numbers)
            if found is not None:
                self._device, self._dtype, self._engine = "cpu", numbers, found
                return self
        self._place(device, wanted)
        return self

    @property
    def model(self) -> torch.nn.Module:
        """The network itself; where OpenVINO has run it so far, torch is loaded when it is asked for."""
        with self._loading:
            if self._model is None:
                self._place(self._device, self._dtype)
            assert self._model is not None
            return self._model

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        import torch

        return torch.device(self._device)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        import torch

        found: torch.dtype = getattr(torch, self._dtype)
        return found

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
            workers: Threads; as many as there are processors, up to 32, where None, and one more with OpenVINO. On
                a processor each runs the model too, with its share of torch's threads. 0 works in the caller's
                thread alone, one picture after the other.
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
        refuse_one_picture(images)
        check_choice(faces, threshold=threshold)
        asleep = self._engine.backend == "openvino"  # one thread waits for OpenVINO's, at nearly any time
        workers = _at_least("workers", workers, 0, default=min(MOST_WORKERS, count_processors() + asleep))
        if on_error not in ("raise", "yield"):
            raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'yield'")
        place = "openvino" if asleep else self._device.partition(":")[0]
        lanes = self._engine.lanes(workers)
        self._engine.prepare(lanes)
        return stream_predictions(
            images,
            look=partial(
                look_at, preprocessing=self.card.preprocessing, finder=self._face_finder(faces, workers), faces=faces
            ),
            forward=partial(self.logits, lanes=lanes),
            card=self.card,
            revision=self.revision,
            threshold=threshold,
            batch_size=_at_least("batch_size", batch_size, 1, default=BATCH_SIZES.get(place, 16)),
            workers=workers,
            lanes=lanes,
            on_error=on_error,
            how=lambda: self._engine.how,
            join=self._engine.join,
        )

    def look(self, image: Any, *, faces: FaceChoice = "auto") -> Look:
        """Open a picture and cut out what the model would see of its faces, without scoring them.

        Args:
            image: See `predict`.
            faces: See `predict`.

        Returns:
            The faces with a crop each.
        """
        return look_at(image, preprocessing=self.card.preprocessing, finder=self._face_finder(faces), faces=faces)

    def logits(self, crops: Sequence[np.ndarray], *, lanes: int = 1) -> list[float]:
        """Run the model on face crops that are there, such as those of `look`.

        Args:
            crops: N of [size_px, size_px, 3] uint8 RGB.
            lanes: So many threads do this at the same time.

        Returns:
            N logits; positive means fake.
        """
        logits: list[float] = self.answer(normalise(crops, preprocessing=self.card.preprocessing), lanes=lanes).tolist()
        return logits

    def answer(self, pixels: np.ndarray, *, lanes: int = 1) -> np.ndarray:
        """Run the model on numbers.

        Args:
            pixels: [N, size_px, size_px, 3] float32, as `normalise` gives them.
            lanes: As for `logits`.

        Returns:
            [N] float32.
        """
        return self._engine(pixels, lanes=lanes)

    def spliced(self, batch: torch.Tensor, layer: str) -> Spliced | None:
        """Give a faster twin of the model, one layer of which may be watched; see `Forward.spliced`."""
        assert self.model is not None  # and torch runs it from here on
        return None if isinstance(self._engine, Compiled) else self._engine.spliced(batch, layer)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.card.id!r}, device={self._device!r}, dtype={self._dtype!r})"

    def _place(self, device: str | torch.device, dtype: str) -> None:
        """Have torch run the model from here on, which then may be changed; on a processor by a twin of OpenVINO."""
        import torch

        from deepfake_detect.engines.torch_engine import Forward
        from deepfake_detect.weights.load import load_model

        where = find_device(device)
        numbers = find_dtype(dtype, where)
        if self._model is None:
            assert self._bundle is not None
            self._model = load_model(self._bundle)
        self._model.to(where).to(memory_format=torch.channels_last)
        self._device, self._dtype = str(where), str(numbers).removeprefix("torch.")
        backend = "openvino" if _compiles(self._backend, where.type, self._dtype) else "torch"
        self._engine = Forward(self._model, device=where, dtype=numbers, backend=backend)

    _engine: Compiled | Forward
    _device: str
    _dtype: str
    _backend: Backend

    def _face_finder(self, faces: FaceChoice, workers: int = 0) -> FaceFinder | None:
        """Give the face finder; for several threads one that OpenVINO runs, where it runs the model and can run it."""
        if faces == "none" or self.card.preprocessing.finder == "none":  # trained on whole pictures
            return None
        wanted = None if self.card.preprocessing.finder == PACKAGED else self.card.preprocessing.finder
        if self._finder is None:
            self._finder = FaceFinder(wanted)
        if not (workers and self._is_ours and self._engine.backend == "openvino"):
            return self._finder
        if self._crowd is None:
            try:
                self._crowd = FaceFinder(wanted, backend="openvino")
            except (RuntimeError, MissingExtra):  # a network with other outputs; a broken OpenVINO
                self._crowd = self._finder
        return self._crowd


def _checked_backend(backend: Backend) -> Backend:
    choices = get_args(Backend)
    if backend not in choices:
        raise ValueError(f"backend is {backend!r}, expected one of {', '.join(choices)}{nearest(backend, choices)}")
    return backend


def _compiles(backend: Backend, device: str, dtype: str) -> bool:
    """Say whether OpenVINO shall run the model.

    Raises:
        MissingExtra: It shall, but is not installed.
        ValueError: It shall, but not on that device or in those numbers.
    """
    possible = device in ("auto", "cpu") and dtype in ("auto", *PRECISIONS)
    if backend == "openvino" and not possible:
        raise ValueError(
            f"backend='openvino' computes on the processor, in {' or '.join(PRECISIONS)}; "
            f"found device={device!r} and dtype={dtype!r}: use backend='torch'"
        )
    if backend == "openvino":
        require_openvino()
    if backend != "auto":
        return backend == "openvino"
    return possible and is_installed() and not (device == "auto" and may_have_accelerator())


def _at_least(name: str, value: int | None, low: int, *, default: int) -> int:
    if value is not None and value < low:
        raise ValueError(f"{name} is {value}, expected at least {low}")
    return default if value is None else value
