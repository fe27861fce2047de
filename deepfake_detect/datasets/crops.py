"""Find the faces of a data set and choose the crops to train on."""

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

from deepfake_detect.datasets.face_cache import FaceStore, KeptFace, Surroundings, WholePicture
from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DatasetError, DeepfakeDetectError, InvalidOption
from deepfake_detect.faces.crop import crop_square
from deepfake_detect.inputs.frames import VideoFrame, read_frames
from deepfake_detect.system.device import count_processors
from deepfake_detect.system.progress import progress_bar

FacePolicy = Literal["keep-largest", "drop", "all", "none"]
"""How pictures with several faces are used: the largest face, not at all, or each face as a sample.

``"all"`` gives every face the label of its picture, which is wrong where one of several is forged; the faces of one
picture are a group, so that a split does not separate them. ``"none"`` looks for no faces and takes each picture whole,
as for animals, vehicles or scenes."""

FacesOrError = tuple[KeptFace, ...] | tuple[WholePicture] | DeepfakeDetectError


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The faces found in a data set, and the pictures left out.

    Attributes:
        samples: One for each face to train on, in order; ``image`` is a `KeptFace`.
        no_face: Names of the pictures without a face: left out.
        several: Names of the pictures with several faces.
        unreadable: Name and error of the pictures that could not be opened: left out.
        policy: How pictures with several faces are used.
    """

    samples: tuple[Sample, ...]
    no_face: tuple[str, ...]
    several: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    policy: FacePolicy

    def __str__(self) -> str:
        unreadable = f"{len(self.unreadable)} unreadable (left out)"
        use = {"keep-largest": "the largest kept", "drop": "left out", "all": "all kept", "none": ""}[self.policy]
        parts = [f"{len(self.samples)} faces", f"no face in {len(self.no_face)} pictures (left out)"]
        parts += [f"several in {len(self.several)} ({use})", unreadable]
        parts = [f"{len(self.samples)} whole pictures", unreadable] if self.policy == "none" else parts
        return ", ".join(parts) + "".join(f"\n  {message}" for _, message in self.unreadable[:5])


def find_crops(
    samples: Sequence[Sample],
    store: FaceStore,
    *,
    faces: FacePolicy = "keep-largest",
    workers: int | None = None,
) -> Census:
    """Find the faces of every picture, and choose the ones to train on.

    Frames of one video are decoded in one pass, wherever they stand in the list.

    Args:
        samples: Any number.
        store: Where the faces are kept.
        faces: How pictures with several faces are used.
        workers: Threads; as many as there are processors where None.

    Returns:
        The samples with a face, and the names of the others.

    Raises:
        InvalidOption: An unknown policy.
    """
    if faces not in get_args(FacePolicy):
        raise InvalidOption(f"faces is {faces!r}, expected one of {', '.join(get_args(FacePolicy))}")
    groups = _videos_together(samples)
    results: dict[int, FacesOrError] = {}
    bar = progress_bar(total=len(samples), title="faces")
    with ThreadPoolExecutor(workers or count_processors()) as pool, bar:
        searches = pool.map(
            lambda group: _find(store, [samples[place] for place in group], whole=faces == "none"), groups
        )
        for group, group_results in zip(groups, searches, strict=True):
            results.update(zip(group, group_results, strict=True))
            bar.update(len(group))
    return _census([(sample, results[place]) for place, sample in enumerate(samples)], faces)


def write_crops(census: Census, store: FaceStore, folder: str | os.PathLike[str], *, margin: float = 1.3) -> Path:
    """Write the faces as PNG files, and a table of them that `read_dataset` reads.

    Args:
        census: From `find_crops`.
        store: The store given to `find_crops`.
        folder: Created if missing; gets ``real/``, ``fake/`` and ``manifest.csv``.
        margin: Side of the crop as a multiple of the longer side of the face box. The pixels are not scaled.

    Returns:
        Path of the table.
    """
    folder = Path(folder).expanduser()
    rows = []
    for number, sample in enumerate(census.samples):
        face = store.load(sample.image)
        if face is None:
            raise DatasetError(f"no face of {sample.name} in the store; find the crops again")
        label = "fake" if sample.label else "real"
        file = Path(label, f"{number:06}-{re.sub(r'[^A-Za-z0-9]+', '-', Path(sample.name).stem)[:40]}.png")
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(_cut(face, margin))).save(folder / file)
        rows.append([file.as_posix(), label, sample.source, sample.generator, sample.group, sample.split, sample.note])
    table = folder / "manifest.csv"
    with table.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["file", "label", "source", "generator", "group", "split", "note"], *rows])
    return table


def _cut(face: Surroundings, margin: float) -> np.ndarray:
    """Return the square around a face, or a whole picture as it is."""
    if not len(face.landmarks_xy):
        return face.pixels
    height, width = face.pixels.shape[:2]
    left, top, right, _ = crop_square(face.box_xyxy, margin=margin, size_hw=(height, width))
    side = round(right - left)
    return face.pixels[round(top) :, round(left) :][:side, :side]


def _videos_together(samples: Sequence[Sample]) -> list[list[int]]:
    """Return the places of the samples, those of one video in one list in the order of its frames."""
    groups: dict[object, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        groups[sample.image.path if isinstance(sample.image, VideoFrame) else place].append(place)
    for key, group in groups.items():
        if not isinstance(key, int):
            group.sort(key=lambda place: samples[place].image.index)
    return list(groups.values())


def _find(store: FaceStore, group: Sequence[Sample], *, whole: bool) -> list[FacesOrError]:
    """Find the faces of one picture, or of the frames of one video."""
    frames = [sample.image for sample in group if isinstance(sample.image, VideoFrame)]
    held = all(store.holds(sample, whole=whole) for sample in group)
    pictures = read_frames(frames) if frames and not held else None
    results: list[FacesOrError] = []
    for sample in group:
        try:
            results.append(store.find(sample, picture=next(pictures) if pictures else None, whole=whole))
        except DeepfakeDetectError as error:
            results.append(error)
            pictures = None  # the later frames of a damaged video are read one by one
    return results


def _census(results: Sequence[tuple[Sample, FacesOrError]], policy: FacePolicy) -> Census:
    usable: list[Sample] = []
    no_face, several, unreadable = [], [], []
    for sample, faces in results:
        if isinstance(faces, DeepfakeDetectError):
            unreadable.append((sample.name, f"{type(faces).__name__}: {faces}"))
            continue
        if not faces:
            no_face.append(sample.name)
        if len(faces) > 1:
            several.append(sample.name)
        dropped = policy == "drop" and len(faces) > 1
        chosen: Sequence[KeptFace | WholePicture] = () if dropped else faces if policy == "all" else faces[:1]
        group = sample.group or (chosen[0].path.stem if len(chosen) > 1 and isinstance(chosen[0], KeptFace) else "")
        usable += [replace(sample, image=face, group=group) for face in chosen]
    return Census(
        samples=tuple(usable),
        no_face=tuple(no_face),
        several=tuple(several),
        unreadable=tuple(unreadable),
        policy=policy,
    )
