"""Face crops as a torch data set, augmented and self-blended on request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from deepfake_detect.datasets.face_cache import FaceStore, Surroundings
from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DatasetError
from deepfake_detect.faces.crop import crop_face
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.self_blend import blend_face
from deepfake_detect.weights.card import Preprocessing

SELF_BLEND = "self-blend"
"""The source and generator of fakes that are made from real faces while training."""


def self_blended(samples: Iterable[Sample]) -> list[Sample]:
    """Give, for every real sample, the fake that training will make of it."""
    return [replace(s, label=1, source=SELF_BLEND, generator=SELF_BLEND) for s in samples if s.label == 0]


class CropDataset(torch.utils.data.Dataset[tuple[torch.Tensor, float]]):
    """Face crops as a torch data set; ask with ``(index, seed)`` for the same augmented picture again.

    Args:
        samples: With a face each; see `find_crops`.
        store: Where their faces are.
        preprocessing: Margin, size and filter of what the model sees.
        augmentation: What may change; None gives the crop that the model sees in use.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        store: FaceStore,
        *,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.samples, self.store = samples, store
        self.preprocessing, self.augmentation = preprocessing, augmentation

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, float]:
        index, seed = key if isinstance(key, tuple) else (key, key)
        sample = self.samples[index]
        face = self.store.load(sample.image)
        if face is None:
            raise DatasetError(f"no face in {sample.name}; leave such pictures out with find_crops")
        random = np.random.default_rng(seed)
        if sample.source == SELF_BLEND:
            face = replace(face, pixels=blend_face(face.pixels, face.landmarks_xy, random=random))
        return torch.from_numpy(self._crop(face, random).copy()), float(sample.label)

    def _crop(self, face: Surroundings, random: np.random.Generator) -> np.ndarray:
        box = self.augmentation.frame(face.box_xyxy, random=random) if self.augmentation else face.box_xyxy
        wanted = self.preprocessing
        crop = crop_face(
            face.pixels, box, margin=wanted.margin, size_px=wanted.size_px, interpolation=wanted.interpolation
        )
        return self.augmentation(crop, random=random) if self.augmentation else crop
