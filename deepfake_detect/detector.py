"""Is this picture a deepfake?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from deepfake_detect.card import Card
from deepfake_detect.faces import PACKAGED, FaceFinder
from deepfake_detect.readme import model_card
from deepfake_detect.results import Prediction
from deepfake_detect.scoring import FaceChoice, check_choice, look, score_crops
from deepfake_detect.stream import OnError, stream_predictions
from deepfake_detect.weights import find_bundle, load_model, save_bundle

BATCH_SIZES = {"cuda": 128, "mps": 32}
"""Faces a model gets at once where nobody says; 16 on a CPU."""

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Detector:
    """A model with the card that says how to use it.

    Most callers want `Detector.from_pretrained`. May be used from several threads at once; `to` is
    the exception.

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

    Example:
        >>> from deepfake_detect import Card, Preprocessing, create_model
        >>> card = Card(name="mine", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=256))
        >>> Detector(model=create_model("meso4", seed=0), card=card, device="cpu")
        Detector('mine@0', device='cpu', dtype='float32')
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
        self.model = model.eval()
        self.card = card
        self.revision = revision
        self._finder = finder
        self.to(device, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Detector:
        """Load weights that are in the package, in a folder, or on the Hugging Face Hub.

        Packaged weights and folders need no network. The sha256 on the card is checked at every load.

        Args:
            name_or_path: ``"xception-fakefaces"`` (the newest packaged version), ``"xception-fakefaces@1"``,
                a folder, or ``"owner/name"``, also with ``@revision``, on the Hub.
            revision: Branch, tag or commit on the Hub.
            device: See `Detector`.
            dtype: See `Detector`.
            cache_dir: Of the Hub; the usual one where None.
            force_download: Download again what is in the cache.
            token: For private repositories; the one that is logged in where None.
            local_files_only: Ask the cache, never the network.

        Returns:
            A detector, ready to use.

        Raises:
            UnknownWeights: No such name; the nearest one is offered.
            WeightsCorrupted: The bytes are not those that the card promises.
            WeightsMismatch: The card or the weights do not fit this library.
            HubUnavailable: The Hub cannot be reached, and the cache has no copy.

        Example:
            >>> detector = Detector.from_pretrained("xception-fakefaces")
            >>> detector.predict("examples/portrait.jpg").label
            'real'
        """
        bundle = find_bundle(
            name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            token=token,
            local_files_only=local_files_only,
        )
        return cls(model=load_model(bundle), card=bundle.card, revision=bundle.revision, device=device, dtype=dtype)

    def to(self, device: str | torch.device = "auto", *, dtype: str | torch.dtype | None = None) -> Detector:
        """Move the model, and choose what it computes in.

        Args:
            device: As for `Detector`.
            dtype: As for `Detector`; None keeps the present one.

        Returns:
            This detector.
        """
        self.device = _device(device)
        if dtype is not None:
            self.dtype = _dtype(dtype, self.device)
        self.model.to(self.device).to(memory_format=torch.channels_last)
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

        Threads open the pictures and find the faces while the model runs; batches are filled across
        pictures and faces. ``images`` may be endless: it is pulled in the caller's thread, and never
        more than ``3 * batch_size + workers`` pictures ahead. Close the generator to end early.

        Args:
            images: Anything that gives pictures one after the other.
            batch_size: Faces the model gets at once. Where the device has too little memory it is
                halved, once, with a warning.
            workers: Threads; as many as there are processors, up to 8, where None. 0 works in the
                caller's thread alone, one picture after the other.
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
            >>> detector = Detector.from_pretrained("xception-fakefaces")
            >>> for prediction in detector.predict_many(["examples/portrait.jpg"]):
            ...     print(prediction.label)
            real
        """
        _refuse_one_picture(images)
        check_choice(faces, threshold=threshold)
        if on_error not in ("raise", "yield"):
            raise ValueError(f"on_error is {on_error!r}, expected 'raise' or 'yield'")
        return stream_predictions(
            images,
            look=partial(look, preprocessing=self.card.preprocessing, finder=self._face_finder(faces), faces=faces),
            forward=self._logits,
            card=self.card,
            revision=self.revision,
            threshold=threshold,
            batch_size=_at_least("batch_size", batch_size, 1, default=BATCH_SIZES.get(self.device.type, 16)),
            workers=_at_least("workers", workers, 0, default=min(8, _processors())),
            on_error=on_error,
        )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Card:
        """Write the weights and the card to a folder that `from_pretrained` loads, with the same scores to the bit.

        Weights that float16 holds without loss are stored so, others in float32.

        Args:
            folder: Made where it is missing.

        Returns:
            The card as written.
        """
        return save_bundle(self.model, self.card, folder, half=_fits_half(self.model))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Upload the weights, the card and a model card in Markdown to the Hugging Face Hub.

        Args:
            repo_id: ``owner/name``; made where it is missing.
            private: Of a repository that is made.
            revision: Branch to write to.
            create_pr: Open a pull request in place of writing to the branch.
            commit_message: One line.
            token: The one that is logged in where None.

        Returns:
            The address of the commit or pull request.

        Raises:
            HubUnavailable: The Hub cannot be reached, or refuses.
        """
        from deepfake_detect.hub import upload_bundle  # loads the Hub's client

        with tempfile.TemporaryDirectory() as folder:
            card = replace(self.card, hub_repo=repo_id)
            card = save_bundle(self.model, card, folder, half=_fits_half(self.model))
            Path(folder, "README.md").write_text(model_card(card), encoding="utf-8")
            return upload_bundle(
                folder,
                repo_id,
                private=private,
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message,
                token=token,
            )

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{type(self).__name__}({self.card.id!r}, device={str(self.device)!r}, dtype={dtype!r})"

    def _face_finder(self, faces: FaceChoice) -> FaceFinder | None:
        if faces != "none" and self._finder is None:
            wanted = self.card.preprocessing.finder
            self._finder = FaceFinder(None if wanted == PACKAGED else wanted)
        return self._finder if faces != "none" else None

    def _logits(self, crops: Any) -> list[float]:
        return score_crops(
            self.model, crops, preprocessing=self.card.preprocessing, device=self.device, dtype=self.dtype
        )


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return _checked_device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = shorten(str(error), 80)
        raise ValueError(f"no device {str(device)!r} here ({reason}); use device='auto' or device='cpu'") from None


def _dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f"dtype is {dtype!r}, expected 'auto', {', '.join(map(repr, _DTYPES))}")
    return found


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


def _processors() -> int:
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _fits_half(model: torch.nn.Module) -> bool:
    """Say whether float16 holds every weight without loss."""
    values = (value for value in model.state_dict().values() if value.is_floating_point())
    return all(torch.equal(value, value.half().to(value.dtype)) for value in values)
