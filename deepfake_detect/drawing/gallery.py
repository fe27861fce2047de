"""Draw many faces or pictures side by side, each with its verdict and a note."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfake_detect._options import check_number
from deepfake_detect.drawing.annotate import COLOURS, Box, Colour
from deepfake_detect.drawing.result import short_name
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.inputs.image import ImageInput, open_image

MARGIN: Final = 1.3
"""Side of the cut-out as a multiple of the longer side of the face box."""

TILE_PX: Final = 168
"""Side of the picture on a tile, unless another is given."""

SHEET_TILE_PX: Final = 240
"""The same on a contact sheet, where faces are small in their pictures."""

_GAP_PX, _TITLE_PX, _LINE_PX = 12, 34, 21
_PAPER, _INK, _SOFT, _EMPTY = (255, 255, 255), (26, 26, 26), (110, 110, 110), (236, 236, 236)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """One face, or one picture with its faces framed, in a gallery.

    Attributes:
        image: Anything that `open_image` takes.
        box_xyxy: The face to cut out, in pixels of the original; None shows the whole picture.
        frames: Boxes to draw on the whole picture, in pixels of the original, each with its colour.
        caption: The verdict, on a strip of `colour`.
        colour: RGB 0..255.
        note: The line below: the true label, the source, or the delivery.
        name: One more line: the file name.
    """

    image: ImageInput | None = field(repr=False)
    box_xyxy: Box | None = None
    frames: Sequence[tuple[Box, Colour]] = ()
    caption: str
    colour: Colour
    note: str = ""
    name: str = ""


class ScoredFace(Protocol):
    """A face with its verdict, such as a `Face`."""

    @property
    def box_xyxy(self) -> Box:
        """Left, top, right, bottom in pixels of the original."""

    @property
    def label(self) -> str | None:
        """``"real"``, ``"fake"`` or ``"uncertain"``."""


class ScoredPicture(Protocol):
    """A picture with its verdict, such as a `Prediction`."""

    @property
    def name(self) -> str:
        """Path or URL."""

    @property
    def label(self) -> str:
        """The verdict."""

    @property
    def score(self) -> float | None:
        """Probability of fake, 0..1; None without a face."""

    @property
    def faces(self) -> Sequence[ScoredFace]:
        """The faces that were found."""

    @property
    def source(self) -> ImageInput | None:
        """The picture, to be opened again."""


def draw_gallery(
    sections: Sequence[tuple[str, Sequence[Tile]]], *, columns: int = 6, tile_px: int = TILE_PX
) -> Image.Image:
    """Draw tiles in rows under headings.

    Pictures are opened one after the other and only their tiles are kept in memory. A picture that cannot be opened
    any more becomes an empty tile with the reason.

    Args:
        sections: Heading and tiles of each; a section without tiles says "none".
        columns: Tiles in a row.
        tile_px: Side of the picture on a tile.

    Returns:
        RGB picture, as high as needed.

    Example:
        >>> tile = Tile(image="examples/portrait.jpg", caption="real 0.012", colour=(0, 114, 178), note="is real")
        >>> draw_gallery([("Surest hits", [tile])], columns=2).width
        372
    """
    check_number("columns", columns, low=1, whole=True)
    width = _GAP_PX + columns * (tile_px + _GAP_PX)
    strips = [strip for title, tiles in sections for strip in _section(title, tiles, columns, tile_px)]
    picture = Image.new("RGB", (width, sum(strip.height for strip in strips) + _GAP_PX), _PAPER)
    top = 0
    for strip in strips:
        picture.paste(strip, (0, top))
        top += strip.height
    return picture


def draw_sheet(
    pictures: Iterable[ScoredPicture], *, columns: int = 6, count: int = 600, tile_px: int = SHEET_TILE_PX
) -> Image.Image:
    """Draw a contact sheet: whole pictures with their faces framed in the colour of the verdict, score and name.

    Pictures without a face, and those that could not be scored, are on it too, and say so.

    Args:
        pictures: Predictions, such as those of `Predictor.predict_many` with ``on_error="yield"``; they are opened
            once more. Not more than ``count + 1`` are pulled.
        columns: Pictures in a row.
        count: Most pictures on the sheet; where there are more, the title says so.
        tile_px: Side of the square that each picture is fitted into.

    Returns:
        RGB picture.

    Raises:
        InvalidOption: A number out of range.

    Example:
        >>> from deepfake_detect import Detector
        >>> detector = Detector.from_pretrained("meso4-fakefaces")
        >>> predictions = detector.predict_many(["examples/portrait.jpg"], on_error="yield")
        >>> draw_sheet(predictions, columns=2).size
        (516, 356)
    """
    check_number("columns", columns, low=1, whole=True)
    check_number("count", count, low=1, whole=True)
    check_number("tile_px", tile_px, low=32, whole=True)
    shown = list(islice(iter(pictures), count + 1))
    more, shown = len(shown) > count, shown[:count]
    labels = Counter(picture.label for picture in shown)
    plural = "" if len(shown) == 1 else "s"
    counts = ", ".join(f"{number} {label}" for label, number in labels.most_common())
    title = f"{'the first ' if more else ''}{len(shown)} picture{plural}{': ' if counts else ''}{counts}"
    return draw_gallery([(title, [_framed(picture) for picture in shown])], columns=columns, tile_px=tile_px)


def cut_out(image: ImageInput, *, box_xyxy: Box | None, side_px: int) -> Image.Image:
    """Open a picture and cut out a square around a face.

    Args:
        image: Anything that `open_image` takes.
        box_xyxy: The face in pixels of the original; None takes the whole picture.
        side_px: Side of the result.

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


def _framed(picture: ScoredPicture) -> Tile:
    error = getattr(picture, "error", None)
    return Tile(
        image=picture.source,
        frames=[(face.box_xyxy, COLOURS.get(face.label or "", COLOURS["uncertain"])) for face in picture.faces],
        caption=picture.label if picture.score is None else f"{picture.label} {picture.score:.3f}",
        colour=COLOURS.get(picture.label, COLOURS["uncertain"]),
        note=short_name(picture.name) + ("" if error is None else f": {str(error).removeprefix(f'{picture.name}: ')}"),
    )


def _section(title: str, tiles: Sequence[Tile], columns: int, tile_px: int) -> Iterator[Image.Image]:
    width = _GAP_PX + columns * (tile_px + _GAP_PX)
    heading = Image.new("RGB", (width, _TITLE_PX + _GAP_PX), _PAPER)
    text = title if tiles else f"{title}: none"
    _write(ImageDraw.Draw(heading), text, (_GAP_PX, _GAP_PX + _TITLE_PX / 2), 19, _INK, width - 2 * _GAP_PX, "lm")
    yield heading
    lines = 3 if any(tile.name for tile in tiles) else 2
    for first in range(0, len(tiles), columns):
        row = Image.new("RGB", (width, tile_px + lines * _LINE_PX + _GAP_PX + 4), _PAPER)
        for place, tile in enumerate(tiles[first : first + columns]):
            row.paste(_draw_tile(tile, tile_px), (_GAP_PX + place * (tile_px + _GAP_PX), 0))
        yield row


def _draw_tile(tile: Tile, tile_px: int) -> Image.Image:
    whole = Image.new("RGB", (tile_px, tile_px + (3 if tile.name else 2) * _LINE_PX + 4), _PAPER)
    whole.paste(_picture(tile, tile_px), (0, 0))
    draw, middle, room = ImageDraw.Draw(whole), tile_px / 2, tile_px - 6
    draw.rectangle((0, tile_px, tile_px - 1, tile_px + _LINE_PX + 1), fill=tile.colour)
    ink = (0, 0, 0) if np.dot(tile.colour, (0.299, 0.587, 0.114)) > 130 else _PAPER
    _write(draw, tile.caption, (middle, tile_px + _LINE_PX / 2 + 1), 15, ink, room)
    _write(draw, tile.note, (middle, tile_px + 1.5 * _LINE_PX + 3), 13, _SOFT, room)
    _write(draw, tile.name, (middle, tile_px + 2.5 * _LINE_PX + 1), 13, _SOFT, room)
    return whole


def _picture(tile: Tile, tile_px: int) -> Image.Image:
    try:
        if tile.image is None:
            raise DeepfakeDetectError("this result holds no picture")
        if tile.box_xyxy is None and tile.frames:
            return _with_frames(tile.image, tile.frames, tile_px)
        return cut_out(tile.image, box_xyxy=tile.box_xyxy, side_px=tile_px)
    except DeepfakeDetectError as error:
        empty = Image.new("RGB", (tile_px, tile_px), _EMPTY)
        words = "\n".join(textwrap.wrap(str(error), round(tile_px / 7.6))[: tile_px // 21])
        ImageDraw.Draw(empty).text((8, 8), words, fill=_SOFT, font=ImageFont.load_default(13))
        return empty


def _with_frames(image: ImageInput, frames: Sequence[tuple[Box, Colour]], tile_px: int) -> Image.Image:
    """Fit a whole picture into a square and draw boxes on it."""
    picture = open_image(image, min_side_px=tile_px)
    height, width = picture.size_hw
    scale = tile_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (tile_px - size[0]) // 2, (tile_px - size[1]) // 2
    square = Image.new("RGB", (tile_px, tile_px), _EMPTY)
    square.paste(Image.fromarray(picture.pixels).resize(size, Image.Resampling.LANCZOS), (left, top))
    draw = ImageDraw.Draw(square)
    for box, colour in frames:
        x1, y1, x2, y2 = (value * scale for value in box)
        corners = (left + x1, top + y1, left + max(x1, x2), top + max(y1, y2))
        draw.rectangle(corners, outline=_PAPER, width=4)  # visible on a background of its own colour
        draw.rectangle(corners, outline=colour, width=3)
    return square


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    place: tuple[float, float],
    size: float,
    ink: Colour,
    room_px: float,
    anchor: str = "mm",
) -> None:
    """Write one line, with its end cut off where it is too long."""
    font, text = ImageFont.load_default(size), " ".join(text.split())
    while text and font.getlength(text) > room_px:
        text = text.removesuffix("...")[:-1] + "..."
        if text == "...":
            break
    draw.text(place, text, fill=ink, font=font, anchor=anchor)
