"""How can a face crop look different and stay what it is, or become a fake?"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random changes of a face crop, the same for real and fake: what is left to learn is the forgery.

    Each field is the share of pictures that get the change, from 0 to 1, unless said otherwise.

    Attributes:
        zoom: The face box grows or shrinks by up to this share of its side.
        shift: The box moves by about this share of its side.
        flip: Mirror left and right.
        rotate: Turn by up to 12 degrees.
        light: Change brightness, contrast and colour by up to 30 %.
        jpeg: Re-encode at a quality from 35 to 95.
        shrink: Scale down by up to two and up again.
        blur: Gaussian blur, radius up to 1.5 pixels.
        noise: Gaussian noise, deviation up to 8 grey levels.
        grey: Take the colour away.
    """

    zoom: float = 0.15
    shift: float = 0.04
    flip: float = 0.5
    rotate: float = 0.3
    light: float = 0.5
    jpeg: float = 0.6
    shrink: float = 0.15
    blur: float = 0.1
    noise: float = 0.1
    grey: float = 0.05

    def frame(self, box_xyxy: Box, *, random: np.random.Generator) -> Box:
        """Move and zoom a face box, as face finders disagree on one.

        Args:
            box_xyxy: In pixels.
            random: The same generator state gives the same box.

        Returns:
            Another box, in pixels.
        """
        x1, y1, x2, y2 = box_xyxy
        half = np.array([x2 - x1, y2 - y1]) / 2 * random.uniform(1 - self.zoom, 1 + self.zoom)
        centre = np.array([x1 + x2, y1 + y2]) / 2 + random.normal(0, self.shift, 2) * max(x2 - x1, y2 - y1)
        left, top, right, bottom = (float(value) for value in (*(centre - half), *(centre + half)))
        return left, top, right, bottom

    def __call__(self, pixels: np.ndarray, *, random: np.random.Generator) -> np.ndarray:
        """Change one crop.

        Args:
            pixels: [S, S, 3] uint8 RGB.
            random: The same generator state gives the same picture.

        Returns:
            [S, S, 3] uint8 RGB.
        """
        picture = Image.fromarray(pixels)
        if random.random() < self.flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if random.random() < self.rotate:
            picture = picture.rotate(random.uniform(-12, 12), Image.Resampling.BICUBIC)
        if random.random() < self.light:
            for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                picture = kind(picture).enhance(random.uniform(0.7, 1.3))
        if random.random() < self.grey:
            picture = picture.convert("L").convert("RGB")
        return self._deliver(picture, random)

    def _deliver(self, picture: Image.Image, random: np.random.Generator) -> np.ndarray:
        """What happens to pictures on their way: smaller, softer, noisier, compressed."""
        if random.random() < self.shrink:
            picture = _shrink(picture, random.uniform(0.5, 0.9))
        if random.random() < self.blur:
            picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.5)))
        if random.random() < self.noise:
            noise = random.normal(0, random.uniform(1, 8), (picture.height, picture.width, 3))
            picture = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
        if random.random() < self.jpeg:
            picture = _jpeg(picture, quality=int(random.integers(35, 96)))
        return np.asarray(picture)


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
