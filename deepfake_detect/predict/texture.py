"""Score patches of faces by the texture network of a detector with two looks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from deepfake_detect.engines.runner import Backend, Runner
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.system.device import count_processors
from deepfake_detect.weights.bundle import Bundle
from deepfake_detect.weights.card import Card, texture_card

if TYPE_CHECKING:  # torch is imported where it is needed: with OpenVINO a verdict needs none
    import torch

AT_ONCE = {"cuda": 256, "mps": 64}
"""Patches in a batch, by device; elsewhere `AT_ONCE_CPU`."""

AT_ONCE_CPU = 8


class TextureScorer:
    """The texture network with what runs it; takes the same arguments as a `Runner`.

    Args:
        model: Any module that maps [N, 3, patch_px, patch_px] to N logits; or the bundle of one.
        card: Of the detector.
        device: As for `Runner`.
        dtype: As for `Runner`.
        backend: As for `Runner`.

    Raises:
        WeightsMismatch: The card has no texture look.
    """

    def __init__(
        self,
        model: torch.nn.Module | Bundle,
        *,
        card: Card,
        device: str | torch.device,
        dtype: str | torch.dtype,
        backend: Backend,
    ) -> None:
        self.preprocessing = texture_card(card).preprocessing
        self.runner = Runner(model, device=device, dtype=dtype, backend=backend)

    def begin(self, workers: int) -> None:
        """Prepare for so many threads."""
        self.runner.begin(max(workers, self._lanes(1)))

    def __call__(self, patches: Sequence[np.ndarray | None], *, lanes: int = 1) -> list[float | None]:
        """Give the mean logit of the patches of each face.

        Args:
            patches: For each face [N, patch_px, patch_px, 3] uint8 RGB, or None where the look is withheld.
            lanes: So many threads do this at the same time.

        Returns:
            A logit for each face; None where there are no patches.
        """
        counts = [0 if each is None else len(each) for each in patches]
        if not any(counts):
            return [None] * len(patches)
        logits = self._logits(np.concatenate([each for each in patches if each is not None]), self._lanes(lanes))
        ends = np.cumsum(counts)
        return [
            float(logits[end - count : end].mean(dtype=np.float64)) if count else None
            for count, end in zip(counts, ends, strict=True)
        ]

    def __copy__(self) -> Self:
        """Share the network and what runs it, until either is moved."""
        shared = object.__new__(type(self))
        shared.__dict__.update(self.__dict__, runner=copy.copy(self.runner))
        return shared

    def _logits(self, pixels: np.ndarray, lanes: int) -> np.ndarray:
        size = AT_ONCE.get(self.runner.device.partition(":")[0], AT_ONCE_CPU)
        parts = [
            self.runner(normalise(pixels[at : at + size], preprocessing=self.preprocessing), lanes=lanes)
            for at in range(0, len(pixels), size)
        ]
        return np.concatenate(parts)

    def _lanes(self, lanes: int) -> int:
        """Let OpenVINO compute patches side by side, each on a processor of its own, also for a single picture."""
        return max(lanes, count_processors()) if self.runner.uses_openvino else lanes
