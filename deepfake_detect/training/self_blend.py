"""Make a fake of a real face by blending it with a changed copy of itself.

Shiohara and Yamasaki 2022, "Detecting Deepfakes with Self-Blended Images", CVPR. The fake has the seams, the shifted
colours and the resampling of a swapped face, but the same identity. The paper draws its masks from 68 or 81 landmarks;
here outlines of the same proportions, and single parts of the face, are fitted to five.
"""

from __future__ import annotations

import io
import math
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepfake_detect.faces.parts import OUTLINES, OVALS, face_axes, face_outline

SHARES: Final = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""Opacity of the changed copy in the middle of the mask, as in the paper."""

_WHOLE_SHARES: Final = (0.45, 0.25, 0.15, 0.08, 0.07)
_PARTS_SHARE = 0.3

_MAP_PX, _REACH = 128, 1.9  # size of the masks, and how many units they reach around the centre of the face
_MIDDLE = (0.0, 0.3)
_UNIT_PX = _MAP_PX / 2 / _REACH


def blend_face(pixels: np.ndarray, landmarks_xy: np.ndarray, *, random: np.random.Generator) -> np.ndarray:
    """Make a fake of a real face.

    Either the face or its surroundings get other colours and another sharpness; the face is moved and scaled a little,
    as by an alignment with landmarks, and blended back with a soft mask.

    Args:
        pixels: [H, W, 3] uint8 RGB, a real face.
        landmarks_xy: [5, 2] eyes, nose tip and mouth corners, in pixels.
        random: The same generator state gives the same fake.

    Returns:
        [H, W, 3] uint8 RGB.

    Example:
        >>> face, points = np.full((90, 90, 3), 140, np.uint8), [(30, 35), (60, 35), (45, 50), (33, 65), (57, 65)]
        >>> fake = blend_face(face, np.array(points), random=np.random.default_rng(0))
        >>> fake.shape, bool((fake != face).any())
        ((90, 90, 3), True)
    """
    return self_blend_masked(pixels, landmarks_xy, random=random)[0]


def self_blend_masked(
    pixels: np.ndarray, landmarks_xy: np.ndarray, *, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Make a fake as `self_blend` does, and tell what of it is laid over the rest.

    Args:
        pixels: As for `self_blend`.
        landmarks_xy: Likewise.
        random: Likewise.

    Returns:
        The fake, and its mask [H, W] uint8: 255 where all is laid over.
    """
    picture = Image.fromarray(pixels)
    inside, outside = picture, picture
    if random.random() < 0.5:
        inside = _spoil(picture, random)
    else:
        outside = _spoil(picture, random)
    inside = _move(inside, landmarks_xy, random)
    mask, share = face_mask(landmarks_xy, picture.size, random=random), random.choice(SHARES)
    fake = Image.composite(inside, outside, mask.point(lambda value: value * share))
    return np.asarray(fake), np.asarray(mask)


def face_mask(landmarks_xy: np.ndarray, size_wh: tuple[int, int], *, random: np.random.Generator) -> Image.Image:
    """Draw a soft mask over a face, or over some of its parts.

    Args:
        landmarks_xy: [5, 2] eyes, nose tip and mouth corners, in pixels.
        size_wh: Width and height of the mask, in pixels.
        random: Decides shape, parts, and how far the edge is bent, eroded and blurred.

    Returns:
        A greyscale picture, 255 inside.
    """
    origin, axes = face_axes(landmarks_xy)
    parts = random.random() < _PARTS_SHARE
    shapes = _parts(random) if parts else [_whole(landmarks_xy, random)]
    middle = origin + np.array(_MIDDLE) @ axes
    half = _REACH * float(np.hypot(*axes.T).max())
    small = Image.new("L", (_MAP_PX, _MAP_PX))
    for shape in shapes:
        corners = (shape @ axes + origin - middle + half) * (_MAP_PX / 2 / half)
        ImageDraw.Draw(small).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    small = _soften(_bend(small, random), random, draw_in=not parts)
    side = max(1, round(2 * half))
    mask = Image.new("L", size_wh)
    mask.paste(small.resize((side, side), Image.Resampling.BICUBIC), (round(middle[0] - half), round(middle[1] - half)))
    return mask


def _whole(landmarks_xy: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return an outline, [N, 2] in units; narrower on the side that is turned away."""
    outline = face_outline(random.choice(list(OUTLINES), p=_WHOLE_SHARES), landmarks_xy)
    return np.asarray(outline * random.uniform(0.92, 1.08, 2) + random.normal(0, 0.03, outline.shape))


def _parts(random: np.random.Generator) -> list[np.ndarray]:
    """Return one to three outlines, [N, 2] in units."""
    angle = np.linspace(0, 2 * math.pi, 16, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    names = random.choice(list(OVALS), size=random.integers(1, 4), replace=False)
    ovals = np.array([OVALS[name] for name in names])
    return [circle * oval[2:] * random.uniform(0.8, 1.2, 2) + oval[:2] + random.normal(0, 0.03, 2) for oval in ovals]


def _bend(mask: Image.Image, random: np.random.Generator) -> Image.Image:
    """Deform the edge by a smooth random field, so that all seams differ."""
    strength = random.uniform(0, 0.06) * _UNIT_PX
    field = random.normal(0, strength, (2, 7, 7)).astype(np.float32)
    by_x, by_y = (
        np.asarray(Image.fromarray(part).resize((_MAP_PX, _MAP_PX), Image.Resampling.BICUBIC)) for part in field
    )
    y, x = np.mgrid[:_MAP_PX, :_MAP_PX]
    rows, columns = (np.clip(np.rint(at), 0, _MAP_PX - 1).astype(int) for at in (y + by_y, x + by_x))
    return Image.fromarray(np.asarray(mask)[rows, columns])


def _soften(mask: Image.Image, random: np.random.Generator, *, draw_in: bool) -> Image.Image:
    """Erode the mask by up to a sixth of the distance from eyes to mouth, and blur its edge."""
    if draw_in:
        mask = mask.filter(ImageFilter.BoxBlur(random.uniform(0.5, 6))).point(lambda value: 255 * (value > 250))
    width = random.uniform(0.6, 4)
    mask = mask.filter(ImageFilter.GaussianBlur(width) if random.random() < 0.5 else ImageFilter.BoxBlur(1.7 * width))
    highest = max(1, mask.getextrema()[1])
    return mask.point(lambda value: value * 255 / highest)


def _spoil(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Change colours and sharpness, so that the blended part differs from its surroundings."""
    picture = picture.convert("RGB", _colours(random))
    kind = random.random()
    if kind < 0.45:
        return _shrink(picture, random.uniform(0.25, 0.7), random)
    if kind < 0.8:
        return picture.filter(ImageFilter.UnsharpMask(1.5, int(random.integers(40, 150)), 0))
    return _jpeg(picture, quality=int(random.integers(30, 80)))


def _colours(random: np.random.Generator) -> tuple[float, ...]:
    """Return a matrix that changes hue, saturation, contrast, brightness and sometimes each channel separately."""
    grey = np.full((3, 3), 1 / 3)
    turn, axis = math.radians(random.uniform(-6, 6)), np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    hue = grey + math.cos(turn) * (np.eye(3) - grey) + math.sin(turn) * axis  # around the greys
    saturation, contrast = random.uniform(0.75, 1.25), random.uniform(0.9, 1.1)
    matrix = contrast * (grey + saturation * (np.eye(3) - grey)) @ hue
    offset = 128 * (1 - contrast) + random.uniform(-20, 20)
    channels = random.uniform(-15, 15, 3) if random.random() < 0.3 else np.zeros(3)
    return tuple(float(value) for value in np.column_stack([matrix, offset + channels]).ravel())


def _move(picture: Image.Image, landmarks_xy: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Move the face by up to a tenth of the distance from eyes to mouth, and scale it by up to five per cent."""
    origin, axes = face_axes(landmarks_xy)
    middle = origin + np.array(_MIDDLE) @ axes
    zoom = random.uniform(0.95, 1.05)
    move = middle * (1 - zoom) + random.uniform((-0.1, -0.06), (0.1, 0.06)) @ axes
    border = 4 + math.ceil(0.06 * max(picture.size) + 0.2 * float(np.abs(axes).max()))  # the edge goes on outside
    padded = Image.fromarray(np.pad(np.asarray(picture), ((border, border), (border, border), (0, 0)), mode="edge"))
    matrix = (zoom, 0.0, float(move[0]) + border, 0.0, zoom, float(move[1]) + border)
    return padded.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _shrink(picture: Image.Image, scale: float, random: np.random.Generator) -> Image.Image:
    """Scale down and up again, with random filters."""
    filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    small = tuple(max(1, round(side * scale)) for side in picture.size)
    soft = picture.resize((small[0], small[1]), filters[random.integers(3)])
    return soft.resize(picture.size, filters[random.integers(2)])


def _jpeg(picture: Image.Image, *, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")
