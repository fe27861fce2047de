"""Augment face crops: geometry, light and colour, blur, noise and compression.

Changes are computed by torchvision, on tensors or on images of Pillow, whichever is faster; compression and blur by
Pillow. Self-blended fakes are in `self_blend`, mixup is in `step`.
"""

from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Protocol, Self

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from deepfake_detect._options import real_number
from deepfake_detect.errors import InvalidOption, MissingExtra, nearest

Box = tuple[float, float, float, float]

_PRESETS: Final[dict[str, dict[str, Any]]] = {
    "none": dict.fromkeys(
        (
            *("zoom", "shift", "flip", "rotate", "shear", "light", "colour", "grey"),
            *("erase", "shrink", "blur", "noise", "webp", "jpeg", "flip_vertical"),
        ),
        0.0,
    ),
    "light": {
        **{"zoom": 0.08, "shift": 0.02, "rotate": 0.1, "shear": 0.0, "light": 0.3, "colour": 0.2, "grey": 0.0},
        **{"erase": 0.0, "shrink": 0.05, "blur": 0.05, "noise": 0.05, "webp": 0.05, "jpeg": 0.3},
    },
    "default": {},
    "keras": {
        **{"zoom": 0.3, "shift": 0.0, "flip": 0.5, "flip_vertical": 0.5, "rotate": 1.0, "rotate_degrees": 30.0},
        **{"shear": 0.0, "light": 1.0, "brightness": (0.3, 1.7), "contrast": (1.0, 1.0), "colour": 0.0, "grey": 0.0},
        **{"erase": 0.0, "shrink": 0.0, "blur": 0.0, "noise": 0.0, "webp": 0.0, "jpeg": 0.0},
    },
    "strong": {
        **{"zoom": 0.25, "shift": 0.06, "rotate": 0.5, "shear": 0.3, "light": 0.7, "colour": 0.6, "grey": 0.1},
        **{"erase": 0.25, "shrink": 0.35, "blur": 0.25, "noise": 0.25, "webp": 0.2, "jpeg": 0.7},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random changes of a face crop, the same for real and fake pictures.

    Each field is the share of pictures that are changed so, from 0 to 1, unless stated otherwise; 0 turns it off. They
    are applied in this order. Pixels from outside a rotated picture are black.

    Attributes:
        zoom: The face box grows or shrinks by up to this share of its side.
        shift: The box moves by about this share of its side.
        flip: Mirror left and right.
        rotate: Rotate by up to ``rotate_degrees``.
        shear: Shear by up to 8 degrees.
        light: Change brightness and contrast, by factors drawn from the ranges ``brightness`` and ``contrast``.
        colour: Make colours up to 30 % stronger or weaker.
        grey: Convert to greyscale.
        erase: Cover a rectangle of 2 to 15 % of the picture with one colour.
        shrink: Scale down by up to two and up again.
        blur: Gaussian blur, deviation up to 1.5 pixels.
        noise: Gaussian noise, deviation up to 8 grey levels.
        webp: Re-encode as WebP at a quality from 35 to 95.
        jpeg: Re-encode as JPEG at a quality from 35 to 95.
        flip_vertical: Mirror top and bottom.
        rotate_degrees: Largest angle of `rotate`, 0 to 180.
        brightness: Lowest and highest factor of the brightness.
        contrast: Lowest and highest factor of the contrast.

    Raises:
        InvalidOption: A field of the wrong type, or out of range.

    Example:
        >>> changed = Augmentation(flip=1.0)(np.zeros((64, 64, 3), np.uint8), random=np.random.default_rng(0))
        >>> changed.shape
        (64, 64, 3)
    """

    zoom: float = 0.15
    shift: float = 0.04
    flip: float = 0.5
    rotate: float = 0.3
    shear: float = 0.15
    light: float = 0.5
    colour: float = 0.4
    grey: float = 0.05
    erase: float = 0.1
    shrink: float = 0.15
    blur: float = 0.1
    noise: float = 0.1
    webp: float = 0.05
    jpeg: float = 0.5
    flip_vertical: float = 0.0
    rotate_degrees: float = 12.0
    brightness: tuple[float, float] = (0.7, 1.3)
    contrast: tuple[float, float] = (0.7, 1.3)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "rotate_degrees":
                real_number(field.name, value, low=0, high=180)
            elif field.name in ("brightness", "contrast"):
                _check_range(field.name, value)
            else:
                real_number(field.name, value, low=0, high=1)

    @classmethod
    def named(cls, name: str) -> Self:
        """Return a preset.

        Args:
            name: ``"none"``, ``"light"``, ``"default"`` (as ``Augmentation()``), ``"strong"``, or ``"keras"``: the
                ranges usual with Keras' ImageDataGenerator: rotation by 30 degrees, horizontal and vertical flips,
                zoom by .3, brightness .3 to 1.7.

        Raises:
            InvalidOption: Another name.
        """
        if name not in _PRESETS:
            raise InvalidOption(f"no augmentation called {name!r}{nearest(name, _PRESETS)}")
        return cls(**_PRESETS[name])

    def frame(self, box_xyxy: Box, *, random: np.random.Generator) -> Box:
        """Shift and zoom a face box, as face finders differ.

        The crop then shows pixels of the picture, not padding.

        Args:
            box_xyxy: In pixels.
            random: The same generator state gives the same box.

        Returns:
            The changed box, in pixels.
        """
        x1, y1, x2, y2 = box_xyxy
        half = np.array([x2 - x1, y2 - y1]) / 2 * random.uniform(1 - self.zoom, 1 + self.zoom)
        centre = np.array([x1 + x2, y1 + y2]) / 2 + random.normal(0, self.shift, 2) * max(x2 - x1, y2 - y1)
        left, top, right, bottom = (float(value) for value in (*(centre - half), *(centre + half)))
        return left, top, right, bottom

    def __call__(self, pixels: np.ndarray, *, random: np.random.Generator) -> np.ndarray:
        """Augment one crop, except `zoom` and `shift`, which `frame` applies.

        Args:
            pixels: [S, S, 3] uint8 RGB.
            random: The same generator state gives the same picture.

        Returns:
            [S, S, 3] uint8 RGB.

        Raises:
            MissingExtra: No torchvision that fits the installed torch.
        """
        picture = self._deliver(self._pose(_tensor(np.array(pixels)), random), random)
        return self._encode(_pixels(picture), random)

    def _pose(self, picture: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Apply what differs between two photographs of a person: pose, light, occlusion."""
        vision = _vision().functional
        if random.random() < self.flip:
            picture = vision.horizontal_flip(picture)
        if self.flip_vertical and random.random() < self.flip_vertical:  # no draw where it is off: seeds stay the same
            picture = vision.vertical_flip(picture)
        most = self.rotate_degrees
        angle = random.uniform(-most, most) if random.random() < self.rotate else 0.0
        slant = random.uniform(-8, 8) if random.random() < self.shear else 0.0
        if angle or slant:
            picture = _rotate(picture, angle, slant)
        picture = self._lit(picture, random)
        return _cover(picture, random) if random.random() < self.erase else picture

    def _lit(self, picture: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Change light and colours; torchvision is faster on images of Pillow than on tensors here."""
        vision = _vision().functional
        light, colour, grey = (random.random() < share for share in (self.light, self.colour, self.grey))
        if not (light or colour or grey):
            return picture
        image = Image.fromarray(_pixels(picture))
        if light:
            image = vision.adjust_brightness(image, random.uniform(*self.brightness))
            image = vision.adjust_contrast(image, random.uniform(*self.contrast))
        if colour:
            image = vision.adjust_saturation(image, random.uniform(0.7, 1.3))
        if grey:
            image = vision.rgb_to_grayscale(image, num_output_channels=3)
        return _tensor(np.array(image))

    def _deliver(self, picture: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Apply what happens to pictures in use: scaling, blur, noise."""
        if random.random() < self.shrink:
            picture = _shrink(picture, random.uniform(0.5, 0.9))
        if random.random() < self.blur:
            picture = _blur(picture, random.uniform(0.3, 1.5))
        if random.random() < self.noise:
            deviation, state = random.uniform(1, 8), torch.Generator().manual_seed(int(random.integers(2**62)))
            noise = torch.randn(picture.shape, generator=state) * deviation
            picture = (picture + noise).round_().clamp_(0, 255).byte()
        return picture

    def _encode(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if random.random() < self.webp:
            pixels = _encoded(pixels, "WEBP", quality=int(random.integers(35, 96)), method=0)  # twice as fast as 4
        if random.random() < self.jpeg:
            pixels = _encoded(pixels, "JPEG", quality=int(random.integers(35, 96)))
        return pixels


class Crops(Protocol):
    """A data set of crops with reproducible augmentation, such as `CropDataset`."""

    augmentation: Augmentation | None

    def __getitem__(self, key: tuple[int, int], /) -> tuple[torch.Tensor, float]:
        """Return crop and label for an index and a seed."""


def preview(
    source: np.ndarray | Crops,
    augmentation: Augmentation | str = "default",
    *,
    count: int = 6,
    seed: int = 0,
    index: int = 0,
) -> Image.Image:
    """Draw the effect of an augmentation: a row for each change alone, and one for all together.

    Args:
        source: One crop, [S, S, 3] uint8 RGB; or a `CropDataset`, whose own augmentation is ignored. Only the latter
            has pixels around the crop, and so shows `zoom` and `shift`.
        augmentation: An augmentation, or a name as for `Augmentation.named`.
        count: Augmented pictures in a row, beside the original.
        seed: Random seed of the changes.
        index: Number of the picture in the data set.

    Returns:
        RGB picture. The last row has the shares of training, the others change every picture.

    Example:
        >>> crop = np.asarray(Image.open("examples/portrait.jpg").crop((140, 40, 370, 270)))
        >>> preview(crop, Augmentation(rotate=1.0), count=3).width
        752
    """
    shown = Augmentation.named(augmentation) if isinstance(augmentation, str) else augmentation
    rows = list(_rows(shown, framed=not isinstance(source, np.ndarray)))
    width = _LABEL_PX + (count + 1) * (_TILE_PX + _GAP_PX)
    picture = Image.new("RGB", (width, _GAP_PX + len(rows) * (_TILE_PX + _GAP_PX)), "white")
    for place, (title, words, change) in enumerate(rows):
        top = _GAP_PX + place * (_TILE_PX + _GAP_PX)
        _write(picture, top, title, words)
        for column in range(count + 1):
            tile = _crop(source, change if column else None, index, seed + column)
            left = _LABEL_PX + column * (_TILE_PX + _GAP_PX)
            picture.paste(Image.fromarray(tile).resize((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS), (left, top))
    return picture


_RANGES = ("rotate_degrees", "brightness", "contrast")
_TILE_PX, _GAP_PX, _LABEL_PX = 150, 4, 136
_WORDS: Final = {
    "zoom": "box larger or\nsmaller by up to this",
    "shift": "box moved by\nabout this",
    "flip": "mirrored",
    "flip_vertical": "upside down",
    "rotate": "rotated",
    "shear": "sheared by up to\n8 degrees",
    "light": "brightness, contrast",
    "colour": "colours stronger,\nweaker by 30 %",
    "grey": "no colour",
    "erase": "a rectangle covered,\n2 to 15 %",
    "shrink": "down by up to two,\nup again",
    "blur": "Gaussian, up to\n1.5 px",
    "noise": "Gaussian, up to\n8 grey levels",
    "webp": "WebP, quality\n35 to 95",
    "jpeg": "JPEG, quality\n35 to 95",
}


def _rows(augmentation: Augmentation, *, framed: bool) -> Iterator[tuple[str, str, Augmentation]]:
    """Yield title, description and augmentation of each row of a preview."""
    still = Augmentation.named("none")
    for name, words in _WORDS.items():
        strength = getattr(augmentation, name)
        of_the_box = name in ("zoom", "shift")
        if strength and (framed or not of_the_box):
            changes: dict[str, Any] = {key: getattr(augmentation, key) for key in _RANGES}
            changes[name] = strength if of_the_box else 1.0
            yield f"{name} {strength:g}", words, replace(still, **changes)
    yield "all together", "as in training", augmentation


def _crop(source: np.ndarray | Crops, change: Augmentation | None, index: int, seed: int) -> np.ndarray:
    if isinstance(source, np.ndarray):
        return change(source, random=np.random.default_rng(seed)) if change else source
    view = copy.copy(source)
    view.augmentation = change
    return view[index, seed][0].numpy()


def _write(picture: Image.Image, top: int, title: str, words: str) -> None:
    draw = ImageDraw.Draw(picture)
    draw.text((8, top + 44), title, fill=(26, 26, 26), font=ImageFont.load_default(17))
    draw.multiline_text((8, top + 70), words, fill=(110, 110, 110), font=ImageFont.load_default(12))


@functools.cache
def _vision() -> Any:
    try:
        from torchvision.transforms import v2
    except (ImportError, RuntimeError) as error:  # one built for another torch raises RuntimeError
        raise MissingExtra(
            f"augmentation needs a torchvision that fits torch {torch.__version__} ({error}); "
            "run: pip install --upgrade torch torchvision"
        ) from error
    return v2


def _check_range(name: str, value: Any) -> None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InvalidOption(f"{name} is {value!r}, expected the lowest and the highest factor")
    low, high = (real_number(name, end, low=0) for end in value)
    if low > high:
        raise InvalidOption(f"{name} is {value!r}, expected the lowest factor first")


def _rotate(picture: torch.Tensor, angle: float, slant: float) -> torch.Tensor:
    vision = _vision()
    bilinear = vision.InterpolationMode.BILINEAR
    return torch.as_tensor(
        vision.functional.affine(
            picture, angle=angle, translate=[0, 0], scale=1.0, shear=[slant, 0.0], interpolation=bilinear
        )
    )


def _cover(picture: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    height, width = picture.shape[1:]
    area, shape = random.uniform(0.02, 0.15) * height * width, math.sqrt(2 ** random.uniform(-1, 1))
    tall, wide = (
        max(1, min(side, round(math.sqrt(area) * times))) for side, times in ((height, shape), (width, 1 / shape))
    )
    top, left = int(random.integers(height - tall + 1)), int(random.integers(width - wide + 1))
    colour = torch.from_numpy(random.integers(0, 256, (3, 1, 1), dtype=np.uint8))
    return torch.as_tensor(_vision().functional.erase(picture, top, left, tall, wide, colour))


def _shrink(picture: torch.Tensor, scale: float) -> torch.Tensor:
    """Scale down and up again."""
    vision, sides = _vision(), list(picture.shape[1:])
    small = [max(1, round(side * scale)) for side in sides]
    picture = vision.functional.resize(picture, small, vision.InterpolationMode.BILINEAR, antialias=True)
    return torch.as_tensor(vision.functional.resize(picture, sides, vision.InterpolationMode.BICUBIC, antialias=True))


def _blur(picture: torch.Tensor, deviation: float) -> torch.Tensor:
    soft = Image.fromarray(_pixels(picture)).filter(ImageFilter.GaussianBlur(deviation))
    return _tensor(np.array(soft))


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)  # [3, S, S], channels last in memory


def _pixels(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).contiguous().numpy()


def _encoded(pixels: np.ndarray, format_name: str, **how: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_name, **how)
    return np.array(Image.open(file))
