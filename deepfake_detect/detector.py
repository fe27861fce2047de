"""Is this picture a deepfake?"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from deepfake_detect.card import Card
from deepfake_detect.predictor import Predictor
from deepfake_detect.readme import model_card
from deepfake_detect.weights import find_bundle, load_model, save_bundle


class Detector(Predictor):
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


def _fits_half(model: torch.nn.Module) -> bool:
    """Say whether float16 holds every weight without loss."""
    values = (value for value in model.state_dict().values() if value.is_floating_point())
    return all(torch.equal(value, value.half().to(value.dtype)) for value in values)
