"""How does a real face become a fake?"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def self_blend(pixels: np.ndarray, landmarks_xy: np.ndarray, *, random: np.random.Generator) -> np.ndarray:
    """Make a fake of a real face by blending a changed copy of it with itself.

    Shiohara and Yamasaki 2022, "Detecting Deepfakes with Self-Blended Images", CVPR: the fake has the
    seams, the shifted colours and the resampling of a swapped face, and no identity of its own.

    Args:
        pixels: [H, W, 3] uint8 RGB, a real face.
        landmarks_xy: [5, 2] eyes, nose tip and mouth corners, in pixels.
        random: The same generator state gives the same fake.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    picture = Image.fromarray(pixels)
    changed, original = picture, picture
    spoilt = _spoil(picture, random)
    if random.random() < 0.5:
        changed = spoilt
    else:
        original = spoilt
    changed = _warp(changed, random)
    mask = face_mask(landmarks_xy, picture.size, random=random)
    share = random.choice([0.35, 0.5, 0.75, 1.0, 1.0, 1.0])
    return np.asarray(Image.composite(changed, original, mask.point(lambda value: value * share)))


def face_mask(landmarks_xy: np.ndarray, size_wh: tuple[int, int], *, random: np.random.Generator) -> Image.Image:
    """Draw a soft mask over a face, or over some of its parts.

    Args:
        landmarks_xy: [5, 2] eyes, nose tip and mouth corners, in pixels.
        size_wh: Width and height of the mask, in pixels.
        random: Decides shape, parts and softness.

    Returns:
        A greyscale picture, 255 inside.
    """
    points = np.asarray(landmarks_xy, float)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    down = mouth - eyes
    height = max(6.0, float(np.hypot(*down)))
    right = np.array([down[1], -down[0]])
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    wobble = 1 + random.normal(0, 0.06, 24)
    if random.random() < 0.7:  # the whole face, to the brows or the hairline
        centre = eyes + down * random.uniform(0.45, 0.6)
        across, along = random.uniform(0.75, 1.05), random.uniform(0.9, 1.25)
    else:  # one part: an eye, the nose, the mouth
        centre = [points[0], points[1], points[2], mouth][random.integers(4)]
        across, along = random.uniform(0.35, 0.6), random.uniform(0.25, 0.45)
    ring = centre + np.outer(np.cos(angle) * wobble * across, right) + np.outer(np.sin(angle) * wobble * along, down)
    mask = Image.new("L", size_wh)
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in ring], fill=255)
    return mask.filter(ImageFilter.GaussianBlur(height * random.uniform(0.02, 0.18)))


def _spoil(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Other colours, and another sharpness: what tells the blended part from its surroundings."""
    shift = random.uniform(-15, 15) + random.uniform(-9, 9, 3)
    pixels = np.asarray(picture, np.float32) * np.float32(random.uniform(0.88, 1.12)) + shift
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    kind = random.random()
    if kind < 0.4:
        return _shrink(picture, random.uniform(0.25, 0.7))
    if kind < 0.7:
        return picture.filter(ImageFilter.UnsharpMask(2, int(random.integers(40, 160)), 0))
    return _jpeg(picture, quality=int(random.integers(30, 80))) if kind < 0.85 else picture


def _warp(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Move and scale by up to four per cent."""
    zoom = random.uniform(0.96, 1.04)
    move = (random.uniform(-0.03, 0.03, 2) + (1 - zoom) / 2) * picture.size
    matrix = (zoom, 0.0, float(move[0]), 0.0, zoom, float(move[1]))
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _shrink(picture: Image.Image, scale: float) -> Image.Image:
    """Scale down and up again."""
    small = tuple(max(1, round(side * scale)) for side in picture.size)
    soft = picture.resize((small[0], small[1]), Image.Resampling.BILINEAR)
    return soft.resize(picture.size, Image.Resampling.BICUBIC)


def _jpeg(picture: Image.Image, *, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")
