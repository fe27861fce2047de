"""Which crops of faces does a model learn from?"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from deepfake_detect.datasets.face_cache import FaceStore, KeptFace
from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DatasetError, DeepfakeDetectError
from deepfake_detect.faces.crop import crop_square
from deepfake_detect.inputs.frames import VideoFrame, read_frames
from deepfake_detect.system.device import count_processors

FacePolicy = Literal["keep-largest", "drop", "all"]
"""What becomes of a picture with several faces: the largest is taken, the picture is left out, or each is a sample.

``"all"`` gives every face the label of its picture, which is wrong where one of several is forged; the faces of one
picture are a group, so that a split does not part them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What became of the pictures of a data set when their faces were looked for.

    Attributes:
        samples: One for each face to learn from, in order; ``image`` is a `KeptFace`.
        no_face: Names of the pictures in which no face was found: left out.
        several: Names of those with several.
        unreadable: Name and error of those that could not be opened: left out.
        policy: What became of those with several.
    """

    samples: tuple[Sample, ...]
    no_face: tuple[str, ...]
    several: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    policy: FacePolicy

    def __str__(self) -> str:
        fate = {"keep-largest": "the largest kept", "drop": "left out", "all": "all kept"}[self.policy]
        parts = [f"{len(self.samples)} faces", f"no face in {len(self.no_face)} pictures (left out)"]
        parts += [f"several in {len(self.several)} ({fate})", f"{len(self.unreadable)} unreadable (left out)"]
        return ", ".join(parts) + "".join(f"\n  {message}" for _, message in self.unreadable[:5])


def find_crops(
    samples: Sequence[Sample],
    store: FaceStore,
    *,
    faces: FacePolicy = "keep-largest",
    workers: int | None = None,
) -> Census:
    """Look for the faces of every picture, and say which are there to learn from.

    Frames of one video are decoded in one pass, wherever they stand.

    Args:
        samples: Any number.
        store: Where the faces are kept.
        faces: What becomes of pictures with several.
        workers: Threads; as many as there are processors where None.

    Returns:
        The samples with a face, and what became of the others.

    Raises:
        ValueError: No such policy.
    """
    if faces not in get_args(FacePolicy):
        raise ValueError(f"faces is {faces!r}, expected one of {', '.join(get_args(FacePolicy))}")
    groups = _together(samples)
    found: dict[int, tuple[KeptFace, ...] | DeepfakeDetectError] = {}
    bar = tqdm(total=len(samples), desc="faces", leave=False, disable=None)
    with ThreadPoolExecutor(workers or count_processors()) as pool, bar:
        looks = pool.map(lambda group: _look(store, [samples[place] for place in group]), groups)
        for group, looked in zip(groups, looks, strict=True):
            found.update(zip(group, looked, strict=True))
            bar.update(len(group))
    return _census([(sample, found[place]) for place, sample in enumerate(samples)], faces)


def write_crops(census: Census, store: FaceStore, folder: str | os.PathLike[str], *, margin: float = 1.3) -> Path:
    """Write the faces as PNG files, and a table of them that `read_dataset` reads.

    Args:
        census: From `find_crops`.
        store: The same.
        folder: Made where it is missing; gets ``real/``, ``fake/`` and ``manifest.csv``.
        margin: Side of the crop as a multiple of the longer side of the face box. The pixels are not scaled.

    Returns:
        The table.
    """
    folder = Path(folder)
    rows = []
    for number, sample in enumerate(census.samples):
        face = store.load(sample.image)
        if face is None:
            raise DatasetError(f"no face of {sample.name} in the store; find the crops again")
        label = "fake" if sample.label else "real"
        file = Path(label, f"{number:06}-{re.sub(r'[^A-Za-z0-9]+', '-', Path(sample.name).stem)[:40]}.png")
        (folder / label).mkdir(parents=True, exist_ok=True)
        height, width = face.pixels.shape[:2]
        left, top, right, _ = crop_square(face.box_xyxy, margin=margin, size_hw=(height, width))
        side = round(right - left)
        cut = face.pixels[round(top) :, round(left) :][:side, :side]
        Image.fromarray(np.ascontiguousarray(cut)).save(folder / file)
        rows.append([file.as_posix(), label, sample.source, sample.generator, sample.group, sample.split, sample.note])
    table = folder / "manifest.csv"
    with table.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["file", "label", "source", "generator", "group", "split", "note"], *rows])
    return table


def _together(samples: Sequence[Sample]) -> list[list[int]]:
    """Give the places of the samples, those of one video in one list in the order of its frames."""
    groups: dict[object, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        groups[sample.image.path if isinstance(sample.image, VideoFrame) else place].append(place)
    for key, group in groups.items():
        if not isinstance(key, int):
            group.sort(key=lambda place: samples[place].image.index)
    return list(groups.values())


def _look(store: FaceStore, group: Sequence[Sample]) -> list[tuple[KeptFace, ...] | DeepfakeDetectError]:
    """Find the faces of one picture, or of the frames of one video."""
    frames = [sample.image for sample in group if isinstance(sample.image, VideoFrame)]
    pictures = read_frames(frames) if frames and not all(store.holds(sample) for sample in group) else None
    found: list[tuple[KeptFace, ...] | DeepfakeDetectError] = []
    for sample in group:
        try:
            found.append(store.find(sample, picture=next(pictures) if pictures else None))
        except DeepfakeDetectError as error:
            found.append(error)
            pictures = None  # what follows in a damaged video is asked for by itself
    return found


def _census(found: Sequence[tuple[Sample, tuple[KeptFace, ...] | DeepfakeDetectError]], policy: FacePolicy) -> Census:
    usable: list[Sample] = []
    no_face, several, unreadable = [], [], []
    for sample, faces in found:
        if isinstance(faces, DeepfakeDetectError):
            unreadable.append((sample.name, f"{type(faces).__name__}: {faces}"))
            continue
        if not faces:
            no_face.append(sample.name)
        if len(faces) > 1:
            several.append(sample.name)
        dropped = policy == "drop" and len(faces) > 1
        chosen = () if dropped else faces if policy == "all" else faces[:1]
        group = sample.group or (chosen[0].path.stem if len(chosen) > 1 else "")
        usable += [replace(sample, image=face, group=group) for face in chosen]
    return Census(
        samples=tuple(usable),
        no_face=tuple(no_face),
        several=tuple(several),
        unreadable=tuple(unreadable),
        policy=policy,
    )
