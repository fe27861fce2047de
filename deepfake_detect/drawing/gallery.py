"""How do many faces look side by side, each with what was said of it?"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfake_detect.drawing.annotate import Colour
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.inputs.image import open_image

MARGIN: Final = 1.3
"""Side of the cut-out as a multiple of the longer side of the face box."""

_TILE_PX, _GAP_PX, _TITLE_PX, _LINE_PX = 168, 12, 34, 21
_PAPER, _INK, _SOFT, _EMPTY = (255, 255, 255), (26, 26, 26), (110, 110, 110), (236, 236, 236)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """One face in a gallery.

    Attributes:
        image: Anything that `open_image` takes.
        box_xyxy: The face, in pixels of the original; None shows the whole picture.
        caption: What was said of it, on a strip of `colour`.
        colour: RGB 0..255.
        note: What stands below: what it is, or where it is from.
    """

    image: Any = field(repr=False)
    box_xyxy: tuple[float, float, float, float] | None = None
    caption: str
    colour: Colour
    note: str = ""


def draw_gallery(sections: Sequence[tuple[str, Sequence[Tile]]], *, columns: int = 6) -> Image.Image:
    """Draw faces in rows under headings.

    Pictures are opened one after the other and only their tiles are kept. In place of one that cannot be opened any
    more stands an empty tile that says so.

    Args:
        sections: Heading and faces of each; one without faces says "none".
        columns: Faces in a row.

    Returns:
        RGB picture, as high as it must be.

    Example:
        >>> tile = Tile(image="examples/portrait.jpg", caption="real 0.012", colour=(0, 114, 178), note="is real")
        >>> draw_gallery([("Surest hits", [tile])], columns=2).width
        372
    """
    width = _GAP_PX + max(1, columns) * (_TILE_PX + _GAP_PX)
    strips = [strip for title, tiles in sections for strip in _section(title, tiles, max(1, columns), width)]
    picture = Image.new("RGB", (width, sum(strip.height for strip in strips) + _GAP_PX), _PAPER)
    top = 0
    for strip in strips:
        picture.paste(strip, (0, top))
        top += strip.height
    return picture


def cut_out(image: Any, *, box_xyxy: tuple[float, float, float, float] | None, side_px: int) -> Image.Image:
    """Open a picture and cut out a square around a face.

    Args:
        image: Anything that `open_image` takes.
        box_xyxy: The face in pixels of the original; None takes the whole picture.
        side_px: Of the square.

    Returns:
        RGB picture; grey where the square reaches beyond the picture.

    Raises:
        DeepfakeDetectError: The picture cannot be opened.
    """
    picture = open_image(image)
    height, width = picture.pixels.shape[:2]
    x1, y1, x2, y2 = box_xyxy or (0, 0, width, height)
    side = max(x2 - x1, y2 - y1, 1) * (MARGIN if box_xyxy else 1)
    side = min(side, max(x2 - x1, y2 - y1, min(height, width)))  # a tight crop shows no border
    left = round(min(max((x1 + x2 - side) / 2, 0), max(width - side, (width - side) / 2)))
    top = round(min(max((y1 + y2 - side) / 2, 0), max(height - side, (height - side) / 2)))
    square = Image.new("RGB", (max(1, round(side)),) * 2, _EMPTY)
    square.paste(Image.fromarray(picture.pixels), (-left, -top))
    return square.resize((side_px, side_px), Image.Resampling.LANCZOS)


def _section(title: str, tiles: Sequence[Tile], columns: int, width: int) -> Iterator[Image.Image]:
    heading = Image.new("RGB", (width, _TITLE_PX + _GAP_PX), _PAPER)
    text = title if tiles else f"{title}: none"
    middle = (_GAP_PX, _GAP_PX + _TITLE_PX / 2)
    ImageDraw.Draw(heading).text(middle, text, fill=_INK, font=ImageFont.load_default(19), anchor="lm")
    yield heading
    for first in range(0, len(tiles), columns):
        row = Image.new("RGB", (width, _TILE_PX + 2 * _LINE_PX + _GAP_PX + 4), _PAPER)
        for place, tile in enumerate(tiles[first : first + columns]):
            row.paste(_tile(tile), (_GAP_PX + place * (_TILE_PX + _GAP_PX), 0))
        yield row


def _tile(tile: Tile) -> Image.Image:
    whole = Image.new("RGB", (_TILE_PX, _TILE_PX + 2 * _LINE_PX + 4), _PAPER)
    whole.paste(_face(tile), (0, 0))
    draw = ImageDraw.Draw(whole)
    draw.rectangle((0, _TILE_PX, _TILE_PX - 1, _TILE_PX + _LINE_PX + 1), fill=tile.colour)
    light = np.dot(tile.colour, (0.299, 0.587, 0.114)) > 130
    _write(draw, tile.caption, _TILE_PX + _LINE_PX / 2 + 1, 15, (0, 0, 0) if light else _PAPER)
    _write(draw, tile.note, _TILE_PX + 1.5 * _LINE_PX + 3, 13, _SOFT)
    return whole


def _face(tile: Tile) -> Image.Image:
    try:
        return cut_out(tile.image, box_xyxy=tile.box_xyxy, side_px=_TILE_PX)
    except DeepfakeDetectError as error:
        empty = Image.new("RGB", (_TILE_PX, _TILE_PX), _EMPTY)
        words = "\n".join(textwrap.wrap(str(error), 22)[:8])
        ImageDraw.Draw(empty).text((8, 8), words, fill=_SOFT, font=ImageFont.load_default(13))
        return empty


def _write(draw: ImageDraw.ImageDraw, text: str, middle: float, size: float, ink: Colour) -> None:
    """Write one line in the middle of a tile, with its end left out where it is too long."""
    font = ImageFont.load_default(size)
    while text and font.getlength(text) > _TILE_PX - 6:
        text = text.removesuffix("...")[:-1] + "..."
        if text == "...":
            break
    draw.text((_TILE_PX / 2, middle), text, fill=ink, font=font, anchor="mm")
