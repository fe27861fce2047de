"""Draw boxes, captions and banners on pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

COLOURS: Final[dict[str, Colour]] = {
    "fake": (230, 159, 0),
    "real": (0, 114, 178),
    "uncertain": (110, 110, 110),
}
"""RGB of each label, after Okabe and Ito: distinct with any kind of colour vision, and by lightness."""

_READABLE_PX = 480  # a picture whose longer side is below this is enlarged before it is drawn upon
_LEAST_TEXT_PX = 14.0
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_faces(
    pixels: np.ndarray, *, boxes: Sequence[Box], captions: Sequence[str], colours: Sequence[Colour]
) -> Image.Image:
    """Draw boxes with captions on a picture.

    Lines and letters grow with the picture. One whose longer side is below 480 pixels is enlarged by a
    whole factor first, since letters do not fit on it.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        boxes: x1, y1, x2, y2 in pixels; what lies outside the picture is cut off.
        captions: One for each box.
        colours: RGB 0..255, one for each box.

    Returns:
        A new RGB picture.

    Example:
        >>> grey = np.full((100, 80, 3), 128, np.uint8)
        >>> draw_faces(grey, boxes=[(20, 20, 60, 70)], captions=["fake 0.973"], colours=[COLOURS["fake"]]).size
        (400, 500)
    """
    image, factor = _canvas(pixels)
    scaled = [_inside(box, factor, image.size) for box in boxes]
    for box, colour in zip(scaled, colours, strict=True):
        _outline(image, box, colour)
    taken = list(scaled)
    for box, caption, colour in zip(scaled, captions, colours, strict=True):
        taken.append(_caption(image, box, caption, colour, [other for other in taken if other is not box]))
    return image


def draw_banner(pixels: np.ndarray, *, text: str) -> Image.Image:
    """Write a line of text on a dark strip along the lower edge of a picture.

    Args:
        pixels: [H, W, 3] uint8 RGB; enlarged as by `draw_faces` where it is small.
        text: One line; in smaller letters where it would not fit.

    Returns:
        A new RGB picture.
    """
    image, _ = _canvas(pixels)
    font, _, text_px = _fitted(text, 1.3 * _text_px(image), 0.94 * image.width)
    strip = round(1.8 * text_px)
    corner = (0, max(0, image.height - strip))
    shade = Image.new("RGB", (image.width, min(strip, image.height)), (20, 20, 20))
    under = image.crop((*corner, image.width, image.height))
    image.paste(Image.blend(under, shade, 0.8), corner)
    middle = (image.width / 2, corner[1] + strip / 2)
    ImageDraw.Draw(image).text(middle, text, fill="white", font=font, anchor="mm")
    return image


def _canvas(pixels: np.ndarray) -> tuple[Image.Image, int]:
    image = Image.fromarray(pixels)
    factor = -(-_READABLE_PX // max(image.size))
    size = (image.width * factor, image.height * factor)
    return (image.resize(size, Image.Resampling.BICUBIC) if factor > 1 else image), factor


def _inside(box: Box, factor: int, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = (value * factor for value in box)
    right, bottom = size[0] - 1, size[1] - 1
    x1, y1 = min(max(x1, 0), right), min(max(y1, 0), bottom)
    return x1, y1, max(x1, min(x2, right)), max(y1, min(y2, bottom))


def _outline(image: Image.Image, box: Box, colour: Colour) -> None:
    width = max(3, round(_text_px(image) / 5))
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, outline=_ink(colour), width=width + max(1, width // 3))  # visible on its own colour, too
    draw.rectangle(box, outline=colour, width=width)


def _caption(image: Image.Image, box: Box, text: str, colour: Colour, taken: Sequence[Box]) -> Box:
    room = max(1.2 * (box[2] - box[0]), 0.16 * image.width)
    font, text_width, text_px = _fitted(text, _text_px(image), min(room, image.width - 2))
    width, height = min(text_width + 0.6 * text_px, image.width), 1.4 * text_px
    place = _place(box, (width, height), image.size, taken)
    draw = ImageDraw.Draw(image)
    draw.rectangle(place, fill=colour)
    draw.text(((place[0] + place[2]) / 2, (place[1] + place[3]) / 2), text, fill=_ink(colour), font=font, anchor="mm")
    return place


def _place(box: Box, tag: tuple[float, float], size: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Choose the place of a caption: above the box, below, or inside, whichever hides the least, in that order."""
    (width, height), (right, bottom) = tag, (size[0] - 1, size[1] - 1)
    tops = [top for top in (box[1] - height, box[3], box[1], box[3] - height) if 0 <= top <= bottom - height]
    lefts = [min(max(left, 0), max(0, right - width)) for left in (box[0], box[2] - width)]
    places = [(left, top, left + width, top + height) for top in tops or [0] for left in lefts]
    return min(places, key=lambda place: sum(_shared(place, other) for other in taken))


def _text_px(image: Image.Image) -> float:
    return max(_LEAST_TEXT_PX, 0.028 * math.sqrt(image.width * image.height))


def _fitted(text: str, text_px: float, room_px: float) -> tuple[_Font, float, float]:
    """Return the font, and width and height of the text in it, smaller until it fits."""
    font = ImageFont.load_default(size=text_px)
    width = font.getlength(text)
    if width > room_px:
        text_px = max(_LEAST_TEXT_PX, text_px * room_px / width)
        font = ImageFont.load_default(size=text_px)
        width = font.getlength(text)
    return font, width, text_px


def _ink(colour: Colour) -> Colour:
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else (255, 255, 255)


def _shared(box: Box, other: Box) -> float:
    width, height = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
    return max(0.0, width) * max(0.0, height)
