"""How can a face crop look different and stay what it is?

The changes are torchvision's, on tensors or on pictures of Pillow, whichever is faster; files and the blur
are Pillow's own. Fakes made of real faces are in `blend`, mixed pairs of pictures in the training loop.
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

from deepfake_detect.errors import InvalidOption, MissingExtra, nearest

Box = tuple[float, float, float, float]

_PRESETS: Final[dict[str, dict[str, float]]] = {
    "none": dict.fromkeys(
        (
            *("zoom", "shift", "flip", "rotate", "shear", "light", "colour", "grey"),
            *("erase", "shrink", "blur", "noise", "webp", "jpeg"),
        ),
        0.0,
    ),
    "light": {
        **{"zoom": 0.08, "shift": 0.02, "rotate": 0.1, "shear": 0.0, "light": 0.3, "colour": 0.2, "grey": 0.0},
        **{"erase": 0.0, "shrink": 0.05, "blur": 0.05, "noise": 0.05, "webp": 0.05, "jpeg": 0.3},
    },
    "default": {},
    "strong": {
        **{"zoom": 0.25, "shift": 0.06, "rotate": 0.5, "shear": 0.3, "light": 0.7, "colour": 0.6, "grey": 0.1},
        **{"erase": 0.25, "shrink": 0.35, "blur": 0.25, "noise": 0.25, "webp": 0.2, "jpeg": 0.7},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random changes of a face crop, the same for real and fake: what is left to learn is the forgery.

    Each field is the share of pictures that get the change, from 0 to 1, unless said otherwise; 0 turns it off.
    They happen in the order in which they stand here. What lies outside a turned picture is black.

    Attributes:
        zoom: The face box grows or shrinks by up to this share of its side.
        shift: The box moves by about this share of its side.
        flip: Mirror left and right.
        rotate: Turn by up to 12 degrees.
        shear: Slant by up to 8 degrees.
        light: Change brightness and contrast by up to 30 % each.
        colour: Make colours up to 30 % stronger or weaker.
        grey: Take the colour away.
        erase: Cover a rectangle of 2 to 15 % of the picture with one colour.
        shrink: Scale down by up to two and up again.
        blur: Gaussian blur, deviation up to 1.5 pixels.
        noise: Gaussian noise, deviation up to 8 grey levels.
        webp: Re-encode as WebP at a quality from 35 to 95.
        jpeg: Re-encode as JPEG at a quality from 35 to 95.

    Raises:
        InvalidOption: A field outside 0..1.

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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise InvalidOption(f"{field.name} is {value}, expected a share from 0 to 1")

    @classmethod
    def named(cls, name: str) -> Self:
        """Give a ready set.

        Args:
            name: ``"none"``, ``"light"``, ``"default"`` (as ``Augmentation()``) or ``"strong"``.

        Raises:
            InvalidOption: Another name.
        """
        if name not in _PRESETS:
            raise InvalidOption(f"no augmentation called {name!r}{nearest(name, _PRESETS)}")
        return cls(**_PRESETS[name])

    def frame(self, box_xyxy: Box, *, random: np.random.Generator) -> Box:
        """Move and zoom a face box, as face finders disagree on one.

        What comes into the crop are pixels of the picture; none are made up.

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
        """Change one crop; all but `zoom` and `shift`, which `frame` does.

        Args:
            pixels: [S, S, 3] uint8 RGB.
            random: The same generator state gives the same picture.

        Returns:
            [S, S, 3] uint8 RGB.

        Raises:
            MissingExtra: There is no torchvision that fits the installed torch.
        """
        picture = self._deliver(self._pose(_tensor(np.array(pixels)), random), random)
        return self._encode(_pixels(picture), random)

    def _pose(self, picture: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """What differs between two photographs of a person: the pose, the light, what stands in the way."""
        vision = _vision().functional
        if random.random() < self.flip:
            picture = vision.horizontal_flip(picture)
        angle = random.uniform(-12, 12) if random.random() < self.rotate else 0.0
        slant = random.uniform(-8, 8) if random.random() < self.shear else 0.0
        if angle or slant:
            picture = _turn(picture, angle, slant)
        picture = self._lit(picture, random)
        return _cover(picture, random) if random.random() < self.erase else picture

    def _lit(self, picture: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Other light and colours; torchvision does this faster on Pillow's pictures than on tensors."""
        vision = _vision().functional
        light, colour, grey = (random.random() < share for share in (self.light, self.colour, self.grey))
        if not (light or colour or grey):
            return picture
        image = Image.fromarray(_pixels(picture))
        if light:
            image = vision.adjust_brightness(image, random.uniform(0.7, 1.3))
            image = vision.adjust_contrast(image, random.uniform(0.7, 1.3))
        if colour:
            image = vision.adjust_saturation(image, random.uniform(0.7, 1.3))
        if grey:
            image = vision.rgb_to_grayscale(image, num_output_channels=3)
        return _tensor(np.array(image))

    def _deliver(self, picture: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """What happens to pictures on their way: smaller, softer, noisier."""
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
    """A data set of crops that can be asked for the same change of the same picture again, as `CropDataset`."""

    augmentation: Augmentation | None

    def __getitem__(self, key: tuple[int, int], /) -> tuple[torch.Tensor, float]:
        """Give crop and label for an index and a seed."""


def preview(
    source: np.ndarray | Crops,
    augmentation: Augmentation | str = "default",
    *,
    count: int = 6,
    seed: int = 0,
    index: int = 0,
) -> Image.Image:
    """Draw what an augmentation does: a row for each change alone, every picture changed, and one for all together.

    Args:
        source: One crop, [S, S, 3] uint8 RGB; or a `CropDataset`, whose own augmentation is left aside. Only the
            latter has pixels around the crop, and so shows `zoom` and `shift`.
        augmentation: Or a name of `Augmentation.named`.
        count: Changed pictures in a row, beside the original.
        seed: Of the changes.
        index: Of the picture in the data set.

    Returns:
        RGB picture. The row of all together has the shares that training will see.

    Example:
        >>> crop = np.asarray(Image.open("examples/portrait.jpg").crop((140, 40, 370, 270)))
        >>> preview(crop, Augmentation(rotate=1.0), count=3).width
        752
    """
    wanted = Augmentation.named(augmentation) if isinstance(augmentation, str) else augmentation
    rows = list(_rows(wanted, framed=not isinstance(source, np.ndarray)))
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


_TILE_PX, _GAP_PX, _LABEL_PX = 150, 4, 136
_WORDS: Final = {
    "zoom": "box larger or\nsmaller by up to this",
    "shift": "box moved by\nabout this",
    "flip": "mirrored",
    "rotate": "turned by up to\n12 degrees",
    "shear": "slanted by up to\n8 degrees",
    "light": "brightness, contrast\n+-30 %",
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
    """Give title, words and augmentation of each row of a preview."""
    still = Augmentation.named("none")
    for name, words in _WORDS.items():
        strength = getattr(augmentation, name)
        of_the_box = name in ("zoom", "shift")
        if strength and (framed or not of_the_box):
            yield f"{name} {strength:g}", words, replace(still, **{name: strength if of_the_box else 1.0})
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


def _turn(picture: torch.Tensor, angle: float, slant: float) -> torch.Tensor:
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
