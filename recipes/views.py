"""Make the crops that the flagship is trained on: cut, encoded and scaled at random, with a mask of what is forged.

Real and fake pictures are changed alike: cut at random, scaled and encoded up to three times as by messengers and
screenshots, then scaled as in use. The fake and the photograph of a pair have the same seed, and so the same changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from benchmarks.ciplab_parts import ORDER
from deepfake_detect.faces.crop import crop_square
from deepfake_detect.faces.parts import face_axes, face_outline, oval
from deepfake_detect.inputs.resize import resample
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.crop_dataset import SELF_BLEND
from deepfake_detect.training.self_blend import self_blend_masked
from recipes.face_table import KeptFace

PLACE_PX = 16
"""Side of the places for which the network says whether they are forged."""

SWAPS = {"dfdc": "face", "inswapper": "face", "lfw-faceswap": "face", "openforensics": "head"}
"""Sources in which the face was put in, and the outline of what was."""

LOOKS = Augmentation(
    zoom=0.13, shift=0.03, flip=0, rotate=0, shear=0, light=0.3, colour=0.2, grey=0.03, erase=0, shrink=0, blur=0.04,
    noise=0.05, webp=0, jpeg=0,
)  # fmt: skip
"""Changes beside the way that a picture has gone; margin and place of the crop change by zoom and shift."""

CODINGS = (0.25, 0.4, 0.22, 0.13)
"""Share of the pictures that are encoded not at all, once, twice, three times."""

LARGEST_PX = 640
"""Crops larger than this are scaled down before they are encoded, but for a share that stays."""

_SCALINGS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """What the network sees, and what it shall say of it.

    Attributes:
        pixels: [S, S, 3] uint8 RGB.
        forged: Share of each place that is forged [S / 16, S / 16] float32.
    """

    pixels: np.ndarray
    forged: np.ndarray


def plain_view(face: KeptFace, *, size_px: int, margin: float) -> View:
    """Give what the network sees of a picture in use."""
    pixels = face.load()
    square = crop_square(_box(face.box_xyxy), margin=margin, size_hw=pixels.shape[:2])
    scaled = resample(pixels, square, size_px=size_px, interpolation="mipmap")
    return View(pixels=scaled, forged=_places(forged_mask(face, pixels.shape[:2]), square, size_px))


def random_view(face: KeptFace, *, size_px: int, margin: float, seed: int) -> View:
    """Give what the network sees of a picture while it learns; the same seed gives the same."""
    random = np.random.default_rng(seed)
    pixels, points = face.load(), np.array(face.landmarks_xy)
    if face.source == SELF_BLEND:
        pixels, mask = self_blend_masked(pixels, points, random=np.random.default_rng([seed, 1]))
    else:
        mask = forged_mask(face, pixels.shape[:2])
    box = LOOKS.frame(_box(face.box_xyxy), random=random)
    square = crop_square(box, margin=margin, size_hw=pixels.shape[:2])
    cut, inner = _cut(pixels, square, random)
    travelled = travel(cut, random)
    scale = np.array(travelled.shape[1::-1]) / cut.shape[1::-1]
    left, top, right, bottom = (float(value) for value in np.array(inner) * np.tile(scale, 2))
    scaled = resample(travelled, (left, top, right, bottom), size_px=size_px, interpolation="mipmap")
    scaled, places = LOOKS(scaled, random=random), _places(mask, square, size_px)
    if random.random() < 0.5:
        scaled, places = scaled[:, ::-1], places[:, ::-1]
    return View(pixels=np.ascontiguousarray(scaled), forged=np.ascontiguousarray(places))


def travel(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Send a picture [H, W, 3] uint8 on its way: scaled and encoded, up to three times."""
    side = min(pixels.shape[:2])
    if side > LARGEST_PX and random.random() < 0.7:
        pixels = _scaled(pixels, random.uniform(256, LARGEST_PX) / side, random)
    elif random.random() < 0.15:
        pixels = _scaled(pixels, np.exp(random.uniform(np.log(64), np.log(max(65, side)))) / side, random)
    for _ in range(random.choice(len(CODINGS), p=CODINGS)):
        if random.random() < 0.35:
            pixels = _scaled(pixels, random.uniform(0.6, 1.15), random)
        pixels = encoded(pixels, random)
    return pixels


def encoded(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Encode a picture [H, W, 3] uint8 as JPEG, at times as WebP, and decode it."""
    quality = int(random.integers(45, 97))
    if random.random() < 0.12:
        kind, settings = ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality]
    else:
        fourth = random.random() < 0.8
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if fourth else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        kind = ".jpg"
        settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(kind, np.ascontiguousarray(pixels[..., ::-1]), settings)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]


def forged_mask(face: KeptFace, size_hw: tuple[int, ...]) -> np.ndarray:
    """Draw what of a picture is forged: [H, W] uint8, 255 where it is."""
    height, width = size_hw[:2]
    if face.label == 0:
        return np.zeros((height, width), np.uint8)
    if face.mask:
        return np.asarray(Image.open(face.mask).convert("L"))
    points = np.array(face.landmarks_xy)
    if face.source == "ciplab":
        note = dict(item.split("=") for item in face.note.split(";"))
        origin, axes = face_axes(points)
        parts = [name for name, bit in zip(ORDER, note["parts"], strict=True) if bit == "1"]
        return _drawn([oval(name) * 1.15 @ axes + origin for name in parts], height, width)
    if face.source in SWAPS:
        origin, axes = face_axes(points)
        return _drawn([face_outline(SWAPS[face.source], points) @ axes + origin], height, width)
    return np.full((height, width), 255, np.uint8)


def _drawn(shapes: list[np.ndarray], height: int, width: int) -> np.ndarray:
    picture = Image.new("L", (width, height))
    for shape in shapes:
        ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in shape], fill=255)
    return np.asarray(picture)


def _places(mask: np.ndarray, square: tuple[float, float, float, float], size_px: int) -> np.ndarray:
    left, top, right, bottom = (round(value) for value in square)
    part = mask[top : max(bottom, top + 1), left : max(right, left + 1)]
    count = size_px // PLACE_PX
    return np.asarray(cv2.resize(part, (count, count), interpolation=cv2.INTER_AREA), np.float32) / 255


def _cut(
    pixels: np.ndarray, square: tuple[float, float, float, float], random: np.random.Generator
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Cut a square out with a few pixels around it, so that the grid of an encoder lies anywhere; place it therein."""
    left, top, right, bottom = square
    more = random.integers(0, 17, 4)
    x, y = max(0, int(left) - int(more[0])), max(0, int(top) - int(more[1]))
    cut = pixels[y : int(np.ceil(bottom)) + int(more[2]), x : int(np.ceil(right)) + int(more[3])]
    return cut, (left - x, top - y, right - x, bottom - y)


def _scaled(pixels: np.ndarray, scale: float, random: np.random.Generator) -> np.ndarray:
    width, height = (max(16, round(side * scale)) for side in pixels.shape[1::-1])
    way = _SCALINGS[random.integers(len(_SCALINGS))]
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=way))


def _box(values: tuple[float, ...]) -> tuple[float, float, float, float]:
    left, top, right, bottom = values
    return left, top, right, bottom
