"""The detector: load weights, score pictures and videos, explain, train, evaluate and save."""

from __future__ import annotations

import copy
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from deepfake_detect._options import check_choice, check_flag, check_number, check_type
from deepfake_detect.engines.runner import Backend
from deepfake_detect.errors import BackendUnavailable, InvalidOption
from deepfake_detect.predict.look import FaceChoice
from deepfake_detect.trainable import Trainable
from deepfake_detect.weights.card import Card
from deepfake_detect.weights.onnx_file import find_weights

if TYPE_CHECKING:  # what only some callers need is imported when they do
    import torch

    from deepfake_detect._keywords import EvaluationOptions
    from deepfake_detect.evaluation.calibration import Method
    from deepfake_detect.evaluation.report import Report
    from deepfake_detect.evaluation.stability import Stability
    from deepfake_detect.explain.explainer import Target
    from deepfake_detect.explain.explanation import Explanation
    from deepfake_detect.explain.faithfulness import Level
    from deepfake_detect.export.onnx_export import ExportReport
    from deepfake_detect.export.site import SiteReport
    from deepfake_detect.inputs.image import ImageInput
    from deepfake_detect.reporting.case_report import CaseReport
    from deepfake_detect.video.predict import VideoPrediction
    from deepfake_detect.weights.onnx_file import Precision


class Detector(Trainable):
    """A model with the card that says how to use it; takes the same arguments as a `Predictor`.

    Most callers want `Detector.from_pretrained`. May be used from several threads at once; `to` is the exception.

    Example:
        >>> from deepfake_detect import Card, Preprocessing, create_model
        >>> card = Card(name="mine", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=256))
        >>> Detector(model=create_model("meso4", seed=0), card=card, device="cpu")
        Detector('mine@0', device='cpu', dtype='float32')
    """

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
        """Load weights that are in the package, in a folder, in an ONNX file, or on the Hugging Face Hub.

        Packaged weights, folders and files need no network. The sha256 on the card is checked at every load.

        Args:
            name_or_path: ``"xception-fakefaces"`` (the newest packaged version), ``"xception-fakefaces@1"``,
                a folder, an ONNX file that `export` wrote, or ``"owner/name"``, also with ``@revision``, on the Hub.
            revision: Branch, tag or commit on the Hub.
            device: As for `Predictor`.
            dtype: As for `Predictor`.
            backend: As for `Predictor`.
            cache_dir: Cache folder of the Hub; None takes the usual one.
            force_download: Download again what is in the cache.
            token: Access token for private repositories; None takes the one that is logged in.
            local_files_only: Use the cache, never the network.

        Returns:
            A detector, ready to use.

        Raises:
            UnknownWeights: No such name; the message offers the nearest one.
            WeightsCorrupted: The bytes are not those that the card promises.
            WeightsMismatch: The card or the weights do not fit this library.
            HubUnavailable: The Hub cannot be reached, and the cache has no copy.

        Example:
            >>> detector = Detector.from_pretrained("xception-fakefaces")
            >>> detector.predict("examples/portrait.jpg").label
            'real'
        """
        weights = find_weights(
            name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            token=token,
            local_files_only=local_files_only,
        )
        return cls(
            model=weights, card=weights.card, revision=weights.revision, device=device, dtype=dtype, backend=backend
        )

    def evaluate(self, dataset: Any, **options: Unpack[EvaluationOptions]) -> Report:
        """Measure this detector on labelled pictures that it was not trained on.

        Args:
            dataset: As for `fine_tune`.
            **options: Any of `evaluate`, such as ``threshold=0.7`` or ``robustness="all"``.

        Returns:
            Figures with their intervals, by source and generator, with curves and galleries.
        """
        from deepfake_detect.evaluation.evaluator import evaluate

        return evaluate(self, dataset, **options)

    def calibrate(self, real_images: Any, *, max_false_alarm: float = 0.01, method: Method | None = None) -> Self:
        """Set the threshold from real photographs of your own, so that false alarms stay below a rate.

        Args:
            real_images: Photographs that are real, in any form; or a labelled data set, which fits the probability.
            max_false_alarm: Share of real photographs that may be called fake, above 0 and below 1.
            method: ``"conformal"``, ``"platt"``, ``"temperature"`` or ``"platt+conformal"``, see `calibrate`; None
                takes ``"platt"`` for labelled pictures of both classes, else ``"conformal"``.

        Returns:
            A detector with the same weights; its `calibration` holds the guarantee.

        Raises:
            DatasetError: Too few photographs for that rate.
        """
        from deepfake_detect.evaluation.calibration import calibrate

        check_number("max_false_alarm", max_false_alarm, low=0, high=1)
        calibrated = copy.copy(self)  # the network is the same
        calibrated.card = calibrate(self, real_images, max_false_alarm=max_false_alarm, method=method)
        return calibrated

    @property
    def calibration(self) -> dict[str, Any]:
        """Return how score and threshold were fitted, and what that guarantees; empty where the card does not say."""
        return self.card.calibration

    def predict_video(
        self,
        path: str | os.PathLike[str],
        *,
        max_frames: int = 32,
        every_s: float | None = None,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        save: str | os.PathLike[str] | None = None,
        progress: bool = False,
    ) -> VideoPrediction:
        """Score a video by evenly spaced frames.

        Args:
            path: Path of the video.
            max_frames: Number of parts of equal length that the video is divided into; the middle frame of each is
                scored.
            every_s: Score a frame every so many seconds instead; evenly spaced ones of them, where these would be more
                than ``max_frames``.
            faces: As for `predict`, in each frame.
            threshold: As for `predict`.
            save: Where to write a copy of the video with its faces framed, and the scores over time below; ends in
                .mp4.
            progress: Show a progress bar, where standard error is a terminal.

        Returns:
            The verdict, with the scores of each frame and of each face that was followed.

        Raises:
            ImageUnreadable: Not a video, or one in which no frame can be read.
            InvalidOption: An option that does not exist or is out of range.
        """
        from deepfake_detect.video.predict import predict_video

        return predict_video(
            self,
            path,
            max_frames=max_frames,
            every_s=every_s,
            faces=faces,
            threshold=threshold,
            save=save,
            progress=progress,
        )

    def stability(self, image: ImageInput, *, faces: FaceChoice = "auto", threshold: float | None = None) -> Stability:
        """Score a picture as it is and after JPEG, WebP, a smaller size, a crop and a screenshot.

        Args:
            image: As for `predict`.
            faces: As for `predict`.
            threshold: As for `predict`.

        Returns:
            The interval of the scores, and ``"uncertain"`` where the verdict flips.
        """
        from deepfake_detect.evaluation.stability import measure_stability

        return measure_stability(self, image, faces=faces, threshold=threshold)

    def explain(
        self,
        image: ImageInput,
        *,
        method: str | None = None,
        layer: str | None = None,
        faces: FaceChoice = "auto",
        faithfulness: Level | Literal["off"] | None = "quick",
        target: Target | None = None,
        threshold: float | None = None,
    ) -> Explanation:
        """Show where in a picture the score comes from, and check how far that can be trusted.

        Args:
            image: As for `predict`.
            method: ``"localise"`` (the network's own map of what is forged, where it has one), ``"grad-cam"``,
                ``"grad-cam++"``, ``"hirescam"``, ``"eigen-cam"``, ``"integrated-gradients"`` or ``"occlusion"``. None
                takes the first that the network has.
            layer: A name of ``model.named_modules()``; None takes the last that gives a map.
            faces: As for `predict`.
            faithfulness: ``"quick"`` checks the face with the highest score with some 40 runs of the model, ``"full"``
                every face with some 450; ``"off"`` or None checks nothing.
            target: Class to explain, ``"fake"`` or ``"real"``; None takes the predicted one.
            threshold: As for `predict`.

        Returns:
            The heat in pixels of the original, the parts of the face it lies on, and the results of the checks.

        Raises:
            ImageUnreadable: Not a picture.
            LayerNotFound: The model has no such layer.
            InvalidOption: An option that does not exist or is out of range.
        """
        from deepfake_detect.explain.explainer import explain_image

        return explain_image(
            self,
            image,
            method=method,
            layer=layer,
            faces=faces,
            faithfulness=faithfulness,
            target=target,
            threshold=threshold,
        )

    def report(
        self,
        image: ImageInput,
        *,
        faces: FaceChoice = "auto",
        threshold: float | None = None,
        explain: bool = True,
        stability: bool = True,
        method: str | None = None,
        faithfulness: Level | Literal["off"] | None = "quick",
    ) -> CaseReport:
        """Make a report for people: verdict, faces, reasons, stability, metadata, limits, and how to check it again.

        Args:
            image: As for `predict`.
            faces: As for `predict`.
            threshold: As for `predict`.
            explain: Compute the heat map of `explain`, and check it; it takes most of the time.
            stability: Score copies of the picture, too, as `stability` does.
            method: As for `explain`.
            faithfulness: As for `explain`.

        Returns:
            The report; ``report.save("photo.html")`` writes one page that opens without a network, and the case beside
            it, which `deepfake_detect.verify` checks.

        Raises:
            ImageUnreadable: Not a picture.
            InvalidOption: An option that does not exist or is out of range.
        """
        from deepfake_detect.reporting.case_report import report_image

        return report_image(
            self,
            image,
            faces=faces,
            threshold=threshold,
            explain=explain,
            stability=stability,
            method=method,
            faithfulness=faithfulness,
        )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Card:
        """Write the weights and the card to a folder that `from_pretrained` loads, with the same scores to the bit.

        Weights that float16 holds without loss are stored so, others in float32. The `history` of a training is
        written beside them, to ``history.csv``.

        Args:
            folder: Created if missing; ``~`` is expanded.

        Returns:
            The card as written.
        """
        from deepfake_detect.training.history import save_with_history

        return save_with_history(self.model, self.card, folder, texture=self.texture_model, history=self.history)

    @overload
    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: Literal["onnx"] = "onnx",
        dtype: Precision = "float32",
        preprocessing: bool = False,
        data: Any = None,
    ) -> ExportReport: ...

    @overload
    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: Literal["browser"],
        runtime: str | os.PathLike[str] | None = None,
        webgpu: bool | None = None,
    ) -> SiteReport: ...

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: Literal["onnx", "browser"] = "onnx",
        dtype: Precision = "float32",
        preprocessing: bool = False,
        data: Any = None,
        runtime: str | os.PathLike[str] | None = None,
        webgpu: bool | None = None,
    ) -> ExportReport | SiteReport:
        """Write this detector for programs without this package; see ``docs/onnx.md`` and ``docs/browser.md``.

        Args:
            path: Of the ONNX file, whose face finder is written next to it, as ``NAME.finder.onnx``; or of the folder
                of the page. ``~`` is expanded, and files that are there are replaced.
            format: ``"onnx"``, which `from_pretrained` also loads; or ``"browser"``, a web page and a package for npm.
            dtype: What the network of an ONNX file computes in: ``"float32"``, ``"float16"`` or ``"int8"``.
            preprocessing: Normalise in the graph of an ONNX file, which then takes face crops as bytes.
            data: A labelled data set, as for `fine_tune`: int8 takes the ranges of values from a third of it, and the
                report counts the verdicts that change on the others.
            runtime: Where a page's onnxruntime-web comes from, a folder or a ``.tgz`` of npm; None downloads it once.
            webgpu: Whether a page brings the runtime for WebGPU, too; None decides by the size of the model.

        Returns:
            What was written, and how it compares with this detector.

        Raises:
            InvalidOption: An option that does not exist, or that the format does not have; or int8 without data.
            MissingExtra: The extra ``[onnx]`` is not installed.
            BackendUnavailable: The network cannot be translated, or onnxruntime-web is not to be had; or the detector
                has a texture look: use `without_texture`.
            DatasetError: The data cannot be read, or show too few faces.
        """
        check_choice("format", format, ("onnx", "browser"))
        if self.card.texture is not None:
            raise BackendUnavailable(
                f"{self.card.id} has a texture look, which {format} files do not hold; use "
                "detector.without_texture().export(...) or --without-texture, which decide by the crop alone"
            )
        if format == "browser":
            from deepfake_detect.export.site import export_site

            if dtype != "float32" or preprocessing or data is not None:
                raise InvalidOption("dtype, preprocessing and data are for format='onnx'; a page computes in float32")
            return export_site(self, path, runtime=runtime, webgpu=webgpu)
        from deepfake_detect.export.onnx_export import export_onnx

        if runtime is not None or webgpu is not None:
            raise InvalidOption("runtime and webgpu are for format='browser'")
        return export_onnx(self, path, dtype=dtype, preprocessing=preprocessing, data=data)

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
            repo_id: ``owner/name``; created where it does not exist.
            private: Whether a new repository is private; None takes the default of the owner.
            revision: Branch to commit to; created where it does not exist. None is the main branch.
            create_pr: Open a pull request in place of a commit.
            commit_message: Title of the commit.
            token: Access token; None takes the one that is logged in.

        Returns:
            The address of the commit or pull request.

        Raises:
            HubUnavailable: The Hub cannot be reached, or refuses.
        """
        from deepfake_detect.weights.hub import upload_bundle  # loads the Hub's client
        from deepfake_detect.weights.load import save_bundle
        from deepfake_detect.weights.model_card import write_model_card

        check_type("repo_id", repo_id, str, expected="'owner/name'")
        check_type("private", private, (bool, NoneType), expected="True, False or None")
        check_type("revision", revision, (str, NoneType), expected="a branch, or None")
        check_type("commit_message", commit_message, (str, NoneType), expected="a line of text, or None")
        check_type("token", token, (str, bool, NoneType), expected="an access token, True, False or None")
        check_flag("create_pr", create_pr)
        with tempfile.TemporaryDirectory() as folder:
            card = replace(self.card, hub_repo=repo_id)
            card = save_bundle(self.model, card, folder, texture=self.texture_model, half=None)
            Path(folder, "README.md").write_text(write_model_card(card), encoding="utf-8")
            return upload_bundle(
                folder,
                repo_id,
                private=private,
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message,
                token=token,
            )
