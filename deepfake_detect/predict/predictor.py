"""Score pictures with a model, used as its card says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Sequence, Sized
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, get_args, overload

import numpy as np

from deepfake_detect._options import check_choice, check_flag, check_number
from deepfake_detect.engines.onnx_engine import OnnxRunner
from deepfake_detect.engines.runner import Backend, Runner
from deepfake_detect.errors import DeepfakeDetectError, InvalidOption, MissingExtra, WeightsMismatch
from deepfake_detect.faces.finder import PACKAGED, FaceFinder
from deepfake_detect.inputs.image import ImageInput
from deepfake_detect.predict.content import classify_content
from deepfake_detect.predict.intake import Series, list_several, open_several
from deepfake_detect.predict.look import FaceChoice, Look, View, check_faces, look_at
from deepfake_detect.predict.prediction import Prediction, Predictions
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.predict.stream import OnError, stream_predictions
from deepfake_detect.predict.texture import TextureScorer
from deepfake_detect.predict.verdict import FaceLogits, compose_prediction
from deepfake_detect.system.device import count_processors
from deepfake_detect.system.progress import progress_bar
from deepfake_detect.weights.bundle import Bundle
from deepfake_detect.weights.card import DETECTS, Card
from deepfake_detect.weights.onnx_file import OnnxFile

if TYPE_CHECKING:  # torch is imported where it is needed: with OpenVINO a verdict needs none
    import torch

    from deepfake_detect.engines.packed import Spliced

BATCH_SIZES = {"cuda": 128, "mps": 32, "cpu": 4, "openvino": 8}
"""Default number of faces in a batch. On a processor, larger batches do not fit into its caches; OpenVINO takes the
faces one by one from a queue that should not run empty."""

MOST_WORKERS = 32
"""Highest default number of threads."""


class Predictor:
    """A model with the card that says how to use it: all that is needed to score pictures.

    Evaluation, calibration and explanation score their pictures with it, too. May be used from several
    threads at once; `to` is the exception.

    Args:
        model: From `create_model`, or any module that maps [N, 3, size_px, size_px] to N logits. Or a `Bundle`, whose
            weights are loaded when they are needed; or an `OnnxFile`, which onnxruntime runs without torch.
        card: Preprocessing, calibration and threshold.
        texture: Where the card has a texture look, the network for it: from `create_model`, or any module that maps
            [N, 3, patch_px, patch_px] to N logits. None for a bundle, which brings its own.
        revision: Commit on the Hub that the weights came from.
        device: ``"auto"`` is cuda, then mps, then cpu; or any name that torch knows. Of an ONNX file ``"cpu"``,
            ``"cuda"``, ``"coreml"`` or ``"directml"``.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"`` (the last two as automatic mixed
            precision: the weights stay float32). ``"auto"`` is float16 on cuda, else float32; an ONNX file has its own.
        backend: See `Backend`.
        finder: The face finder; None takes the one that the card names.

    Raises:
        InvalidOption: An unknown device, dtype or backend, or three that do not go together.
        BackendUnavailable: ``backend="openvino"``, and OpenVINO cannot run the network.
        MissingExtra: ``backend="openvino"``, and OpenVINO is not installed; or an ONNX file, and onnxruntime is not.
        WeightsMismatch: The card is not that of a detector, or has a texture look and there is no network for it; or
            onnxruntime cannot run the file.
    """

    def __init__(
        self,
        *,
        model: torch.nn.Module | Bundle | OnnxFile,
        card: Card,
        texture: torch.nn.Module | Bundle | None = None,
        revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        backend: Backend = "auto",
        finder: FaceFinder | None = None,
    ) -> None:
        if card.classes != DETECTS:
            raise WeightsMismatch(
                f"{card.id} has the classes {', '.join(card.classes)}, expected a detector of {' and '.join(DETECTS)}; "
                "load it with Classifier.from_pretrained"
            )
        self.card = card
        self.revision = revision
        self._finder, self._is_ours = finder, finder is None
        self._crowd: FaceFinder | None = None  # finds in several threads at once
        self._runner: Runner | OnnxRunner = (
            OnnxRunner(model, device=device, dtype=dtype, backend=backend)
            if isinstance(model, OnnxFile)
            else Runner(model, device=device, dtype=dtype, backend=backend)
        )
        network = model.texture if texture is None and card.texture and isinstance(model, Bundle) else texture
        if (network is None) != (card.texture is None):
            what = "a texture look, expected its network" if network is None else "no texture look, expected no network"
            raise WeightsMismatch(
                f"card {card.id} has {what} as texture=; Detector.from_pretrained loads both, "
                "and without_texture() of a detector goes without"
            )
        self._texture = (
            None if network is None else TextureScorer(network, card=card, device=device, dtype=dtype, backend=backend)
        )

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
        self._runner.to(device, dtype=dtype, backend=backend)
        if self._texture is not None:
            self._texture.runner.to(device, dtype=dtype, backend=backend)
        return self

    def without_texture(self) -> Self:
        """Return a detector with the same network for the crop and without the texture look.

        It decides every face as this one does where the texture look is withheld. Where this detector has one look, it
        is a copy.
        """
        alone = copy.copy(self)
        alone._texture = None
        if self.card.texture is not None:
            alone.card = replace(self.card, texture=None, golden={})
        return alone

    @property
    def model(self) -> torch.nn.Module:
        """The network as a module of torch.

        Reading it does not change what answers: where OpenVINO has run the weights so far, it still does. Weights that
        are changed in place count from the next prediction on. ``to(backend="torch")`` has torch run the network.

        Raises:
            BackendUnavailable: The detector is an ONNX file, which holds no such module.
        """
        return self._runner.model

    @property
    def texture_model(self) -> torch.nn.Module | None:
        """The network of the texture look, as a module of torch; None for a detector with one look."""
        return None if self._texture is None else self._texture.runner.model

    @property
    def onnx_file(self) -> OnnxFile | None:
        """The ONNX file that this detector was loaded from; None for any other."""
        return self._runner.file if isinstance(self._runner, OnnxRunner) else None

    @property
    def device(self) -> torch.device:
        """Where the model is.

        Raises:
            InvalidOption: onnxruntime runs it on a device that torch has no name for.
        """
        import torch

        try:
            return torch.device(self._runner.device)
        except RuntimeError:
            raise InvalidOption(
                f"onnxruntime computes on {self._runner.device!r}, which torch has no name for"
            ) from None

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        import torch

        dtype: torch.dtype = getattr(torch, self._runner.dtype)
        return dtype

    @property
    def finder(self) -> FaceFinder | None:
        """The face finder that the card names; None for models of whole pictures."""
        return self._face_finder("auto")

    @overload
    def predict(
        self,
        image: ImageInput,
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        content: bool = False,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        image: list[Any] | tuple[Any, ...] | Series,
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        content: bool = False,
    ) -> Predictions: ...

    def predict(
        self,
        image: ImageInput | list[Any] | tuple[Any, ...] | Series,
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        content: bool = False,
    ) -> Prediction | Predictions:
        """Score one picture, or several at once; ``detector(image)`` is the same.

        Args:
            image: Path, http(s) URL, data URI, bytes, file object, PIL image, RGB HWC uint8 array or CHW tensor.
                Several: a list or tuple of these, a folder, a pattern such as ``"album/*.jpg"``, a pandas or polars
                Series, an array of paths, or a batch [N, H, W, 3].
            faces: ``"auto"``, ``"all"``, ``"largest"`` or ``"none"``; see `FaceChoice`.
            threshold: Score from which the label is ``"fake"``, in place of the card's. The card's
                uncertain interval is then left aside.
            content: Say what the picture shows, too, as `classify_content` does: so ``"no-face"`` has a reason.

        Returns:
            The highest score of the faces. Where there is no face the label is ``"no-face"`` and the score None. For
            several pictures a list of that in the same order; `predict_many` gives them one by one, for as many as
            there are, and can go on after a picture that cannot be read.

        Raises:
            ImageUnreadable: Not a picture; the message says what was found.
            ImageTooLarge: More pixels than the limit.
            InvalidOption: An option that does not exist or is out of range.

        Example:
            >>> from deepfake_detect import Detector
            >>> detector = Detector.from_pretrained("xception-fakefaces")
            >>> detector.predict("examples/portrait.jpg").label
            'real'
            >>> [prediction.label for prediction in detector.predict("examples/*.jpg")]
            ['real', 'fake']
        """
        check_faces(faces, threshold=threshold)
        check_flag("content", content)
        several = list_several(image)
        if several is None:
            return next(self._stream([image], faces=faces, threshold=threshold, content=content, workers=0))
        return Predictions(self._stream(several, faces=faces, threshold=threshold, content=content))

    __call__ = predict

    def predict_many(
        self,
        images: Iterable[Any] | str,
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        on_error: OnError = "raise",
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        content: bool = False,
        progress: bool = False,
    ) -> Generator[Prediction, None, None]:
        """Score many pictures, in order, as they come.

        Threads open the pictures, find the faces and run the model; batches are filled across pictures and faces.
        ``images`` may be endless: it is pulled in the caller's thread, and never more than
        ``(workers + 2) * batch_size + workers`` pictures ahead. Each picture is copied when it is pulled, so a source
        may use one array, file or PIL image for all of them. Close the generator to end early.

        Args:
            images: Any iterable of pictures, such as a list, a generator or a Series; or a folder or a pattern.
            batch_size: Faces in a batch. Where the device has too little memory it is halved, once, with a warning.
            workers: Number of threads. None takes as many as there are processors, up to 32, and one more with
                OpenVINO. On a processor each runs the model too, with its share of torch's threads. 0 works in the
                caller's thread alone, one picture after the other.
            on_error: ``"raise"`` raises the error of a bad picture in its place, after the predictions
                before it; ``"yield"`` gives a prediction with ``error`` and the label ``"error"``.
            faces: See `predict`.
            threshold: See `predict`.
            content: See `predict`.
            progress: Show a progress bar, where standard error is a terminal.

        Returns:
            A generator of predictions. ``seconds`` is the time in which that picture was opened and
            searched, and its faces' share of the time of their batches.

        Raises:
            InvalidOption: ``images`` is one picture, or an option does not exist or is out of range.
            DeepfakeDetectError: From the generator, for the first bad picture.

        Example:
            >>> from deepfake_detect import Detector
            >>> detector = Detector.from_pretrained("xception-fakefaces")
            >>> for prediction in detector.predict_many(["examples/portrait.jpg"]):
            ...     print(prediction.label)
            real
        """
        several = open_several(images)
        check_faces(faces, threshold=threshold)
        check_flag("progress", progress)
        check_flag("content", content)
        check_choice("on_error", on_error, get_args(OnError))
        check_number("batch_size", batch_size, low=1, whole=True, optional=True)
        check_number("workers", workers, low=0, whole=True, optional=True)
        predictions = self._stream(
            several,
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
            faces=faces,
            threshold=threshold,
            content=content,
        )
        return _with_bar(predictions, total=_length(several)) if progress else predictions

    def look(self, image: ImageInput, *, faces: FaceChoice = "auto", workers: int = 0) -> Look:
        """Open a picture and cut out what the model would see of its faces, without scoring them.

        Args:
            image: See `predict`.
            faces: See `predict`.
            workers: Number of threads that do this at the same time; 0 where no other does.

        Returns:
            The faces, and what the networks see of each.
        """
        check_faces(faces)
        check_number("workers", workers, low=0, whole=True)
        return self._looking(faces, workers)(image)

    def enlist(self, pool: Executor, *, workers: int) -> tuple[int, int]:
        """Prepare the threads of a new pool to call `look` and `read`, for callers with a queue of their own.

        Args:
            pool: New, with ``workers`` threads.
            workers: Number of its threads.

        Returns:
            How many of the threads may run `read` at a time (its ``lanes``), and the number of faces in a batch.
        """
        lanes = self._begin(workers)
        self._runner.join(pool, workers=workers, lanes=lanes)
        return lanes, self._batch_size()

    def conclude(
        self, look: Look, logits: Sequence[FaceLogits], *, threshold: float | None = None, seconds: float = 0.0
    ) -> Prediction:
        """Turn the logits of a picture's faces into the verdict on the picture.

        Args:
            look: From `look`.
            logits: Of each face, from `read`.
            threshold: See `predict`.
            seconds: Time that the picture took.

        Returns:
            The prediction that `predict` gives for the picture.
        """
        how = self._runner.how
        return compose_prediction(
            look,
            logits,
            card=self.card,
            revision=self.revision,
            threshold=threshold,
            seconds=seconds,
            backend=how.get("backend", "torch"),
            dtype=how.get("dtype", "float32"),
        )

    def read(self, views: Sequence[View], *, lanes: int = 1) -> list[FaceLogits]:
        """Run the networks on faces that are there, such as the views of `look`.

        Args:
            views: A crop of each face and, for a detector with two looks, its patches.
            lanes: So many threads do this at the same time.

        Returns:
            The logits of each face by each look; positive means fake.
        """
        crops = self.logits([view.crop for view in views], lanes=lanes)
        textures = self.texture_logits([view.patches for view in views], lanes=lanes)
        return list(map(FaceLogits, crops, textures))

    def texture_logits(self, patches: Sequence[np.ndarray | None], *, lanes: int = 1) -> list[float | None]:
        """Run the network of the texture look on patches of faces; see `TextureScorer`."""
        return [None] * len(patches) if self._texture is None else self._texture(patches, lanes=lanes)

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
        return self._runner(pixels, lanes=lanes)

    def spliced(self, batch: torch.Tensor, layer: str) -> Spliced | None:
        """Return a packed network with one layer that hooks can be set on; see `Forward.spliced`."""
        return self._runner.spliced(batch, layer)

    def __copy__(self) -> Self:
        """Share the network and what runs it, until either is moved."""
        shared = object.__new__(type(self))
        shared.__dict__.update(self.__dict__, _runner=copy.copy(self._runner), _texture=copy.copy(self._texture))
        return shared

    def __getstate__(self) -> dict[str, Any]:
        """Give what a copy, or a process that unpickles it, does not load anew."""
        return self.__dict__ | {"_crowd": None, "_finder": None if self._is_ours else self._finder}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.card.id!r}, device={self._runner.device!r}, dtype={self._runner.dtype!r})"

    def _stream(
        self,
        images: Iterable[Any],
        *,
        faces: FaceChoice,
        threshold: float | None,
        content: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        on_error: OnError = "raise",
    ) -> Generator[Prediction, None, None]:
        runner = self._runner
        if workers is None:  # with OpenVINO, one of the threads is waiting for it at nearly any time
            workers = min(MOST_WORKERS, count_processors() + runner.uses_openvino)
        lanes = self._begin(workers)
        predictions = stream_predictions(
            images,
            look=self._looking(faces, workers),
            forward=partial(self.read, lanes=lanes),
            card=self.card,
            revision=self.revision,
            threshold=threshold,
            batch_size=self._batch_size() if batch_size is None else batch_size,
            workers=workers,
            lanes=lanes,
            on_error=on_error,
            how=lambda: runner.how,
            join=runner.join,
        )
        return _with_content(predictions, on_error=on_error) if content else predictions

    def _begin(self, workers: int) -> int:
        if self._texture is not None:
            self._texture.begin(workers)
        return self._runner.begin(workers)

    def _looking(self, faces: FaceChoice, workers: int) -> Callable[[Any], Look]:
        return partial(
            look_at,
            preprocessing=self.card.preprocessing,
            finder=self._face_finder(faces, workers),
            texture=self.card.texture,
            faces=faces,
        )

    def _batch_size(self) -> int:
        runner = self._runner
        return BATCH_SIZES.get("openvino" if runner.uses_openvino else runner.device.partition(":")[0], 16)

    def _face_finder(self, faces: FaceChoice, workers: int = 0) -> FaceFinder | None:
        """Give the face finder; for several threads one that OpenVINO runs, where it runs the model and can run it."""
        if faces == "none" or self.card.preprocessing.finder == "none":  # trained on whole pictures
            return None
        wanted = None if self.card.preprocessing.finder == PACKAGED else self.card.preprocessing.finder
        is_local = self.revision is None  # weights in a folder never ask the network for their finder
        if self._finder is None:
            self._finder = FaceFinder(wanted, local_files_only=is_local)
        if not (workers and self._is_ours and self._runner.uses_openvino):
            return self._finder
        if self._crowd is None:
            try:
                self._crowd = FaceFinder(wanted, backend="openvino", local_files_only=is_local)
            except (RuntimeError, MissingExtra):  # a network with other outputs; a broken OpenVINO
                self._crowd = self._finder
        return self._crowd


def _with_bar(
    predictions: Generator[Prediction, None, None], *, total: int | None
) -> Generator[Prediction, None, None]:
    with closing(predictions), progress_bar(total=total, title="predict") as bar:
        for prediction in predictions:
            yield prediction
            bar.update()


def _with_content(
    predictions: Generator[Prediction, None, None], *, on_error: OnError
) -> Generator[Prediction, None, None]:
    with closing(predictions):
        for prediction in predictions:
            yield _classified(prediction, on_error)


def _classified(prediction: Prediction, on_error: OnError) -> Prediction:
    if prediction.error is not None or prediction.source is None:
        return prediction
    try:
        return replace(prediction, content=classify_content(prediction.reopen()))
    except DeepfakeDetectError as error:  # the file is gone, or another one by now
        if on_error == "raise":
            raise
        nothing: dict[str, Any] = {"score": None, "logit": None, "faces": (), "size_hw": None, "settings": None}
        return replace(prediction, label="error", error=error, **nothing)


def _length(images: Iterable[Any]) -> int | None:
    return len(images) if isinstance(images, Sized) else None
