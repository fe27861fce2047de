"""Which crops of faces does a model learn from, and where are they kept?"""

from __future__ import annotations

import hashlib
import math
import os
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from deepfake_detect.augment import Augmentation, self_blend
from deepfake_detect.card import Preprocessing
from deepfake_detect.data import Sample
from deepfake_detect.errors import DatasetError
from deepfake_detect.faces import FaceFinder, crop_face, crop_square
from deepfake_detect.image import open_image

SELF_BLEND = "self-blend"
"""The source and generator of fakes that are made from real faces while training."""

LARGEST_PX = 1024
"""Shorter side to which a large JPEG may be reduced before its face is kept."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surroundings:
    """A face with enough around it to crop it, now a little wider and now a little to the side.

    `crop_face` gives the same pixels from here as from the whole picture.

    Attributes:
        pixels: [H, W, 3] uint8 RGB, not scaled unless the picture is far larger than any model needs.
        box_xyxy: The face, in pixels of this cut-out.
        landmarks_xy: [5, 2], likewise.
    """

    pixels: np.ndarray
    box_xyxy: tuple[float, float, float, float]
    landmarks_xy: np.ndarray


class FaceStore:
    """The largest face of each picture on disk, found once; keyed by the picture's bytes and the settings.

    Safe for several processes at once: a file appears whole or not at all.

    Args:
        folder: Made where it is missing.
        finder: The face finder; the packaged one where None.
        reach: Side of the cut-out as a multiple of the longer side of the face box.
    """

    def __init__(self, folder: str | os.PathLike[str], *, finder: FaceFinder | None = None, reach: float = 1.8) -> None:
        self.finder, self.reach = finder or FaceFinder(), reach
        settings = f"{self.finder.fingerprint} {reach} {LARGEST_PX}"
        self.folder = Path(folder) / hashlib.sha256(settings.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def load(self, file: Path) -> Surroundings | None:
        """Give the largest face of a picture; None where no face is found."""
        data = file.read_bytes()
        kept = self.folder / f"{hashlib.sha256(data).hexdigest()[:32]}.npz"
        if not kept.exists():
            _keep(kept, self._cut_out(data))
        with np.load(kept) as stored:
            pixels, box, landmarks = (stored[name] for name in ("pixels", "box_xyxy", "landmarks_xy"))
        if not pixels.size:
            return None
        x1, y1, x2, y2 = (float(value) for value in box)
        return Surroundings(pixels=pixels, box_xyxy=(x1, y1, x2, y2), landmarks_xy=landmarks)

    def _cut_out(self, data: bytes) -> Surroundings | None:
        pixels = open_image(data, min_side_px=LARGEST_PX).pixels
        faces = self.finder.find(pixels, border=True)
        if not faces:
            return None
        x1, y1, x2, y2 = crop_square(faces[0].box_xyxy, margin=self.reach, size_hw=pixels.shape[:2])
        left, top = max(0, int(x1) - 4), max(0, int(y1) - 4)
        bx1, by1, bx2, by2 = faces[0].box_xyxy
        return Surroundings(
            pixels=pixels[top : math.ceil(y2) + 4, left : math.ceil(x2) + 4],
            box_xyxy=(bx1 - left, by1 - top, bx2 - left, by2 - top),
            landmarks_xy=faces[0].landmarks_xy - np.array([left, top], np.float32),
        )


def with_faces(samples: Sequence[Sample], store: FaceStore, *, workers: int = 2) -> list[Sample]:
    """Look for the face in every picture, and keep the samples that have one.

    Args:
        samples: Any number.
        store: Where the faces are kept.
        workers: Threads.

    Returns:
        The samples with a face, in order.
    """
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda sample: store.load(sample.image) is not None, samples)
        bar = tqdm(found, total=len(samples), desc="faces", leave=False, disable=None)
        return [sample for sample, face in zip(samples, bar, strict=True) if face]


def self_blended(samples: Iterable[Sample]) -> list[Sample]:
    """Give, for every real sample, the fake that training will make of it."""
    return [replace(s, label=1, source=SELF_BLEND, generator=SELF_BLEND) for s in samples if s.label == 0]


class CropDataset(torch.utils.data.Dataset[tuple[torch.Tensor, float]]):
    """Face crops as a torch data set; ask with ``(index, seed)`` for the same augmented picture again.

    Args:
        samples: With a face each; see `with_faces`.
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
            raise DatasetError(f"no face in {sample.image}; leave such pictures out with with_faces")
        random = np.random.default_rng(seed)
        if sample.source == SELF_BLEND:
            face = replace(face, pixels=self_blend(face.pixels, face.landmarks_xy, random=random))
        return torch.from_numpy(self._crop(face, random).copy()), float(sample.label)

    def _crop(self, face: Surroundings, random: np.random.Generator) -> np.ndarray:
        box = self.augmentation.frame(face.box_xyxy, random=random) if self.augmentation else face.box_xyxy
        wanted = self.preprocessing
        crop = crop_face(
            face.pixels, box, margin=wanted.margin, size_px=wanted.size_px, interpolation=wanted.interpolation
        )
        return self.augmentation(crop, random=random) if self.augmentation else crop


def _keep(path: Path, face: Surroundings | None) -> None:
    nothing = Surroundings(pixels=np.zeros(0, np.uint8), box_xyxy=(0, 0, 0, 0), landmarks_xy=np.zeros((0, 2)))
    face = face or nothing
    partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.partial")
    with partial.open("wb") as file:
        np.savez(file, pixels=face.pixels, box_xyxy=face.box_xyxy, landmarks_xy=face.landmarks_xy)
    os.replace(partial, path)
