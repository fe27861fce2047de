"""Face crops, or whole pictures, as a torch data set, augmented and self-blended on request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from deepfake_detect.datasets.face_cache import FaceStore, Surroundings, WholePicture
from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DatasetError
from deepfake_detect.faces.crop import crop_face, whole_picture
from deepfake_detect.inputs.resize import resample
from deepfake_detect.predict.look import OVERSAMPLING
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.self_blend import blend_face
from deepfake_detect.weights.card import Preprocessing

SELF_BLEND = "self-blend"
"""Source and generator of the fakes that are made of real faces during training."""


def self_blended(samples: Iterable[Sample]) -> list[Sample]:
    """Return, for every real sample, the self-blended fake that training makes of it."""
    return [replace(s, label=1, source=SELF_BLEND, generator=SELF_BLEND) for s in samples if s.label == 0]


class CropDataset(torch.utils.data.Dataset[tuple[torch.Tensor, float]]):
    """Face crops as a torch data set; index it with ``(index, seed)`` for a reproducible augmentation.

    Args:
        samples: Samples from `find_crops`, each with a face or a whole picture.
        store: Where their faces are.
        preprocessing: Margin, size and filter of the model's input.
        augmentation: Random changes; None gives the crop that `predict` uses.
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
        face = self._load(sample)
        if face is None:
            raise DatasetError(f"no face in {sample.name}; leave such pictures out with find_crops")
        random = np.random.default_rng(seed)
        if sample.source == SELF_BLEND:
            face = replace(face, pixels=blend_face(face.pixels, face.landmarks_xy, random=random))
        return torch.from_numpy(self._crop(face, random).copy()), float(sample.label)

    def _load(self, sample: Sample) -> Surroundings | None:
        if isinstance(sample.image, WholePicture):  # decoded at the scale that `predict` uses
            return sample.image.surroundings(min_side_px=OVERSAMPLING * self.preprocessing.size_px)
        return self.store.load(sample.image)

    def _crop(self, face: Surroundings, random: np.random.Generator) -> np.ndarray:
        box = self.augmentation.frame(face.box_xyxy, random=random) if self.augmentation else face.box_xyxy
        crop = self._scaled(face, box)
        return self.augmentation(crop, random=random) if self.augmentation else crop

    def _scaled(self, face: Surroundings, box: tuple[float, float, float, float]) -> np.ndarray:
        size_px, interpolation = self.preprocessing.size_px, self.preprocessing.interpolation
        if len(face.landmarks_xy):
            margin = self.preprocessing.margin
            return crop_face(face.pixels, box, margin=margin, size_px=size_px, interpolation=interpolation)
        if box == face.box_xyxy:
            return whole_picture(face.pixels, size_px=size_px, interpolation=interpolation)
        height, width = face.pixels.shape[:2]
        left, right = sorted(min(max(x, 0.0), width) for x in (box[0], box[2]))
        top, bottom = sorted(min(max(y, 0.0), height) for y in (box[1], box[3]))
        return resample(face.pixels, (left, top, right, bottom), size_px=size_px, interpolation=interpolation)
