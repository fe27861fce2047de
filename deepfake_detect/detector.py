"""Is this picture a deepfake?"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.predict.predictor import Backend, Predictor
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.card import Card

if TYPE_CHECKING:  # what only some callers ask for is imported when they do
    import torch

    from deepfake_detect.evaluation.report import Report
    from deepfake_detect.evaluation.stability import Stability
    from deepfake_detect.explain.explanation import Explanation
    from deepfake_detect.training.augment import Augmentation
    from deepfake_detect.training.pipeline import Lesson
    from deepfake_detect.training.schedule import Epoch
    from deepfake_detect.video.predict import VideoPrediction


class Detector(Predictor):
    """A model with the card that says how to use it; made of the same arguments as a `Predictor`.

    Most callers want `Detector.from_pretrained`. May be used from several threads at once; `to` is the exception.

    Example:
        >>> from deepfake_detect import Card, Preprocessing, create_model
        >>> card = Card(name="mine", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=256))
        >>> Detector(model=create_model("meso4", seed=0), card=card, device="cpu")
        Detector('mine@0', device='cpu', dtype='float32')
    """

    lesson: Lesson | None = None
    """What came of the training, where `fine_tune` or `train` made this detector."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        backend: Backend = "auto",
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
            device: As for `Predictor`.
            dtype: As for `Predictor`.
            backend: As for `Predictor`.
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
        return cls(
            model=bundle, card=bundle.card, revision=bundle.revision, device=device, dtype=dtype, backend=backend
        )

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
        **options: Any,
    ) -> Self:
        """Train a new detector, from random weights or from those of another network.

        Args:
            dataset: As for `fine_tune`.
            model: A name of `list_models`, or ``timm:NAME``; with ``/64`` behind it, a hidden layer of 64 before the
                logit.
            start: Where the weights come from: None is random; ``"imagenet"`` fetches timm's from the Hub; a
                ``.safetensors`` file; or a bundle as for `from_pretrained`. Layers that have a namesake of the same
                shape are taken over; the head, as a rule, is new.
            size_px: Side of the input in pixels; the architecture's own where None.
            margin: Side of the crop as a multiple of the longer side of the face box.
            dropout: Share of activations that training drops; the architecture's own where None.
            name: Of the bundle; the folder ``out``, or the model, where None.
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
        from deepfake_detect.training.pipeline import bundle_name, untrained

        made, card = untrained(
            model,
            name=name or bundle_name(options.get("out"), otherwise=model),
            start=start,
            size_px=size_px,
            margin=margin,
            dropout=dropout,
            seed=options.get("seed", 0),
        )
        pupil = cls(model=made, card=card, device=device, dtype=dtype)
        return pupil._taught(dataset, fresh=start is None, epochs=epochs, **options)

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
        callbacks: Sequence[Callable[[Epoch], Any]] = (),
        **options: Any,
    ) -> Self:
        """Teach a copy of this detector on one's own data; this one stays as it is.

        The data are audited first, and what is wrong with them is told in the log (``audit``). Faces are found and
        cut out as in `predict`. The weights of the best epoch are kept and calibrated on the validation pictures.

        Args:
            dataset: A folder of class folders, a CSV or JSONL table, a list of ``(image, label)``, a torch
                ``Dataset`` or a Hugging Face ``Dataset``; see `read_dataset`. A split ``"test"`` is left alone.
            valid: Another data set, or the share of groups to set aside; None takes the split ``"val"``, or 15 %.
            epochs: Passes over the data; fewer where ``patience`` is given.
            lr: Highest rate; 1e-3 for a head alone and for new weights, else 2e-4, where None.
            batch_size: Pictures in a step; ``"auto"`` finds what fits.
            freeze: ``"backbone"`` teaches the last layer alone, many times faster; a number does so for that many
                epochs, and then teaches all.
            augment: ``"none"``, ``"light"``, ``"default"``, ``"strong"``, or an `Augmentation`.
            balance: Draw both classes, and all sources, about as often.
            seed: Of the split, the draw, the augmentation and new weights.
            out: Folder of the bundle, the state and the log, written after each epoch.
            resume: Go on from the state in ``out``; the end is the same as without the pause.
            callbacks: Called with each `Epoch`; one that returns False ends the training.
            **options: ``faces``, ``self_blend``, ``check``, ``workers`` of `teach`, and any other field of
                `Schedule`, such as ``optimizer="sgd"``, ``mixup=0.2`` or ``patience=3``.

        Returns:
            A new detector; its `history` has an entry for each epoch.

        Raises:
            DatasetError: Labels cannot be told, one class is missing, or a strict audit refuses.
            TrainingDiverged: The loss became no number, again and again.
        """
        from deepfake_detect.training.pipeline import bundle_name

        card = replace(self.card, name=bundle_name(out, otherwise=f"{self.card.name}-tuned"), version=0)
        pupil = self._with(copy.deepcopy(self.model), card)
        how = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "freeze": freeze, "balance": balance, "seed": seed}
        where = {"valid": valid, "augment": augment, "out": out, "resume": resume, "callbacks": callbacks}
        return pupil._taught(dataset, fresh=False, **how, **where, **options)

    def evaluate(self, dataset: Any, **options: Any) -> Report:
        """Measure this detector on labelled pictures that it has never seen.

        Args:
            dataset: As for `fine_tune`.
            **options: Any of `evaluate.evaluate`, such as ``threshold=`` or ``robustness=True``.

        Returns:
            Figures with their intervals, by source and generator, with curves and galleries.
        """
        from deepfake_detect.evaluation.evaluator import evaluate

        return evaluate(self, dataset, **options)

    def calibrate(self, real_images: Any, *, max_false_alarm: float = 0.01, **options: Any) -> Self:
        """Set the threshold from one's own real photographs, so that false alarms stay below a rate.

        Args:
            real_images: Photographs that are real, in any form; or a labelled data set, which fits the probability.
            max_false_alarm: Share of real photographs that may be called fake.
            **options: Any of `calibrate.calibrate`.

        Returns:
            A detector with the same weights; its `calibration` says what is guaranteed.

        Raises:
            DatasetError: Too few photographs for that rate.
        """
        from deepfake_detect.evaluation.calibration import calibrate

        calibrated = copy.copy(self)  # the network is the same
        calibrated.card = calibrate(self, real_images, max_false_alarm=max_false_alarm, **options)
        return calibrated

    @property
    def history(self) -> tuple[Epoch, ...]:
        """One entry for each epoch of the training that made this detector; empty for weights that were loaded."""
        return self.lesson.history if self.lesson else ()

    @property
    def calibration(self) -> dict[str, Any]:
        """How the score and the threshold were found, and what that guarantees; empty where nobody said."""
        return self.card.calibration

    def predict_video(
        self, path: str | os.PathLike[str], *, max_frames: int = 32, every_s: float | None = None, **options: Any
    ) -> VideoPrediction:
        """Score a video by evenly spaced frames; ``faces`` and ``threshold`` too are as for `footage.predict_video`."""
        from deepfake_detect.video.predict import predict_video

        return predict_video(self, path, max_frames=max_frames, every_s=every_s, **options)

    def stability(self, image: Any, *, faces: FaceChoice = "auto") -> Stability:
        """Score a picture as it is and after JPEG, WebP, a smaller size, a crop and a screenshot.

        Args:
            image: As for `predict`.
            faces: As for `predict`.

        Returns:
            The interval of the scores, and ``"uncertain"`` where the verdict flips.
        """
        from deepfake_detect.evaluation.stability import measure_stability

        return measure_stability(self, image, faces=faces)

    def explain(self, image: Any, *, method: str = "grad-cam", layer: str | None = None, **options: Any) -> Explanation:
        """Show where in a picture the score comes from, and check how far that can be trusted.

        Args:
            image: As for `predict`.
            method: ``"grad-cam"``, ``"grad-cam++"``, ``"hirescam"``, ``"eigen-cam"``, ``"integrated-gradients"`` or
                ``"occlusion"``.
            layer: A name of ``model.named_modules()``; the last that gives a map where None.
            **options: ``faces``, ``faithfulness``, ``target`` and ``threshold`` of `explain.explain`.

        Returns:
            The heat in pixels of the original, the parts of the face it lies on, and what the checks found.
        """
        from deepfake_detect.explain.explainer import explain_image

        return explain_image(self, image, method=method, layer=layer, **options)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Card:
        """Write the weights and the card to a folder that `from_pretrained` loads, with the same scores to the bit.

        Weights that float16 holds without loss are stored so, others in float32.

        Args:
            folder: Made where it is missing.

        Returns:
            The card as written.
        """
        from deepfake_detect.weights.load import save_bundle

        return save_bundle(self.model, self.card, folder, half=None)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, **options: Any) -> str:
        """Upload the weights, the card and a model card in Markdown to the Hugging Face Hub.

        Args:
            repo_id: ``owner/name``; made where it is missing.
            private: Of a repository that is made.
            **options: Any of `hub.upload_bundle`: ``revision``, ``create_pr``, ``commit_message`` and ``token``.

        Returns:
            The address of the commit or pull request.

        Raises:
            HubUnavailable: The Hub cannot be reached, or refuses.
        """
        from deepfake_detect.weights.hub import upload_bundle  # loads the Hub's client
        from deepfake_detect.weights.load import save_bundle
        from deepfake_detect.weights.model_card import write_model_card

        with tempfile.TemporaryDirectory() as folder:
            card = replace(self.card, hub_repo=repo_id)
            card = save_bundle(self.model, card, folder, half=None)
            Path(folder, "README.md").write_text(write_model_card(card), encoding="utf-8")
            return upload_bundle(folder, repo_id, private=private, **options)

    def _taught(self, dataset: Any, *, fresh: bool, **options: Any) -> Self:
        """Teach this very model, and put it on its new card."""
        from deepfake_detect.training.pipeline import teach

        lesson = teach(self.model, dataset, card=self.card, fresh=fresh, device=self.device, **options)
        taught = self._with(self.model, lesson.card)
        taught.lesson = lesson
        return taught

    def _with(self, model: torch.nn.Module, card: Card) -> Self:
        return type(self)(model=model, card=card, device=self._device, dtype=self._dtype, backend=self._backend)
