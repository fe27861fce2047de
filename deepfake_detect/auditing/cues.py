"""Measure header, size, sharpness and colour of pictures, which may reveal the label without showing a forgery."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from deepfake_detect.datasets.face_cache import LARGEST_PX, FaceStore
from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.inputs.image import open_image
from deepfake_detect.system.device import count_processors
from deepfake_detect.system.progress import progress_bar

HEADERS = ("format", "mode", "progressive", "quantisation", "subsampling", "exif", "software", "icc", "file bytes")
"""Properties of the file beside its pixels."""

SIZE = ("width", "height", "proportions")
SHARPNESS = ("edges", "fine detail", "noise")
COLOUR = ("red", "green", "blue", "saturation", "contrast")

THUMB_PX = 32
"""Side of the thumbnails that near duplicates are compared by."""

_SHARP_PX = 384  # side of the centre in which sharpness is measured


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cues:
    """Properties of a picture that have nothing to do with forgery.

    Attributes:
        sample: The picture.
        error: Why it could not be read; the other fields are then empty.
        headers: Values for `HEADERS`, texts or numbers; empty for a picture that is not in a file.
        size: Values for `SIZE`.
        sharpness: Values for `SHARPNESS`.
        colour: Values for `COLOUR`.
        sha256: Hash of the file, or of the pixels.
        thumb: Thumbnail [32, 32] uint8 grey.
    """

    sample: Sample
    error: str = ""
    headers: tuple[Any, ...] = ()
    size: tuple[float, ...] = ()
    sharpness: tuple[float, ...] = ()
    colour: tuple[float, ...] = ()
    sha256: str = ""
    thumb: np.ndarray | None = None


def collect_cues(
    samples: Sequence[Sample], *, workers: int | None = None, store: FaceStore | None = None
) -> list[Cues]:
    """Read every picture once, in threads, and measure its cues.

    Args:
        samples: Any number; one picture for each thread is in memory at a time.
        workers: Threads; as many as there are processors where None.
        store: Also finds the faces of each picture while it is open, and keeps them for `find_crops`.

    Returns:
        Cues of each sample, in order.
    """
    with ThreadPoolExecutor(workers or count_processors()) as pool:
        cues = pool.map(functools.partial(_cues, store=store), samples)
        return list(progress_bar(cues, total=len(samples), title="audit"))


def _cues(sample: Sample, *, store: FaceStore | None) -> Cues:
    try:
        content = _content(sample)
        picture = open_image(sample.image if content is None else content, min_side_px=LARGEST_PX)
    except (DeepfakeDetectError, OSError) as error:
        message = " ".join(str(error).split())
        return Cues(sample=sample, error=message if sample.name in message else f"{sample.name}: {message}")
    if store is not None:
        with contextlib.suppress(DeepfakeDetectError):  # find_crops will name it
            store.find(sample, picture=picture)
    pixels, (height, width) = picture.pixels, picture.size_hw
    image = Image.fromarray(pixels)
    grey = image.convert("L")
    return Cues(
        sample=sample,
        headers=() if content is None else _headers(content, pixels=height * width),
        size=(float(width), float(height), width / height),
        sharpness=_sharpness(_middle(np.asarray(grey))),
        colour=_colour(np.asarray(image.resize((64, 64), Image.Resampling.BOX), np.float32)),
        sha256=hashlib.sha256(pixels.tobytes() if content is None else content).hexdigest(),
        thumb=np.asarray(grey.resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX)),
    )


def _content(sample: Sample) -> bytes | None:
    """Return the bytes of a picture that is in a file, else None."""
    if isinstance(sample.image, bytes):
        return sample.image
    if isinstance(sample.image, str | os.PathLike) and os.path.isfile(sample.image):
        with open(sample.image, "rb") as file:
            return file.read()
    return None


def _headers(content: bytes, *, pixels: int) -> tuple[Any, ...]:
    with Image.open(io.BytesIO(content)) as image:
        tables = getattr(image, "quantization", None) or {}
        layers = tuple(tuple(layer[1:3]) for layer in getattr(image, "layer", ()))
        exif = _exif(image)
        return (
            str(image.format),
            image.mode,
            bool(image.info.get("progressive") or image.info.get("progression")),
            hashlib.sha256(repr(sorted((k, list(v)) for k, v in tables.items())).encode()).hexdigest()[:8],
            str(layers),
            len(exif) > 0,
            str(exif.get(ExifTags.Base.Software, "")),
            "icc_profile" in image.info,
            len(content) / pixels,
        )


def _exif(image: Image.Image) -> Mapping[int, Any]:
    try:
        return dict(image.getexif())
    except Exception:  # damaged metadata beside sound pixels, in as many ways as decoders fail
        return {}


def _middle(grey: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - _SHARP_PX) // 2) for side in grey.shape)
    return grey[top : top + _SHARP_PX, left : left + _SHARP_PX].astype(np.int16)


def _sharpness(grey: np.ndarray) -> tuple[float, ...]:
    """Return the mean gradient, the median second difference, and the ratio of the two finest scales."""
    if min(grey.shape) < 8:
        return (0.0, 0.0, 0.0)
    across, down = np.diff(grey, axis=1), np.diff(grey, axis=0)
    edges = float(np.abs(across).mean() + np.abs(down).mean())
    laplacian = np.diff(across, axis=1)[1:-1] + np.diff(down, axis=0)[:, 1:-1]
    half = grey[: grey.shape[0] // 2 * 2, : grey.shape[1] // 2 * 2]
    half = (half[::2, ::2] + half[1::2, ::2] + half[::2, 1::2] + half[1::2, 1::2]) / np.float32(4)
    coarse = float(np.abs(np.diff(half, axis=1)).mean() + np.abs(np.diff(half, axis=0)).mean())
    return edges, float(np.median(np.abs(laplacian))), edges / (coarse + 0.1)


def _colour(pixels: np.ndarray) -> tuple[float, ...]:
    red, green, blue = (float(value) for value in pixels.mean((0, 1)))
    spread = pixels.max(2) - pixels.min(2)
    return red, green, blue, float(spread.mean()), float(pixels.mean(2).std())
