"""What does a picture give away that has nothing to do with forgery?"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from tqdm.auto import tqdm

from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.inputs.image import open_image
from deepfake_detect.system.device import count_processors

HEADERS = ("format", "mode", "progressive", "quantisation", "subsampling", "exif", "software", "icc", "file bytes")
"""What stands in the file beside the pixels."""

SIZE = ("width", "height", "proportions")
SHARPNESS = ("edges", "fine detail", "noise")
COLOUR = ("red", "green", "blue", "saturation", "contrast")

THUMB_PX = 32
"""Side of the thumbnails that near duplicates are compared by."""

_MOST_PX = 1024  # shorter side of what a large JPEG is reduced to
_SHARP_PX = 384  # sides of the middle of a picture, which stands for its sharpness


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cues:
    """What one picture gives away.

    Attributes:
        sample: The picture.
        error: Why it could not be read; the other fields are then empty.
        headers: By the names in `HEADERS`, words or numbers; empty for a picture that is in no file.
        size: By `SIZE`.
        sharpness: By `SHARPNESS`.
        colour: By `COLOUR`.
        sha256: Of the file, or of the pixels.
        thumb: [32, 32] uint8 grey.
    """

    sample: Sample
    error: str = ""
    headers: tuple[Any, ...] = ()
    size: tuple[float, ...] = ()
    sharpness: tuple[float, ...] = ()
    colour: tuple[float, ...] = ()
    sha256: str = ""
    thumb: np.ndarray | None = None


def collect_cues(samples: Sequence[Sample], *, workers: int | None = None) -> list[Cues]:
    """Read every picture once, in threads, and note what it gives away.

    Args:
        samples: Any number; pixels are let go of as soon as they were looked at.
        workers: Threads; as many as there are processors where None.

    Returns:
        One for each sample, in order.
    """
    with ThreadPoolExecutor(workers or count_processors()) as pool:
        found = pool.map(_cues, samples)
        return list(tqdm(found, total=len(samples), desc="audit", leave=False, disable=None))


def _cues(sample: Sample) -> Cues:
    try:
        content = _content(sample)
        picture = open_image(sample.image if content is None else content, min_side_px=_MOST_PX)
    except (DeepfakeDetectError, OSError) as error:
        said = " ".join(str(error).split())
        return Cues(sample=sample, error=said if sample.name in said else f"{sample.name}: {said}")
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
    """Read the bytes of a picture that is in a file."""
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
    """Measure gradients, second differences, and what the finest scale holds beside the next one."""
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
