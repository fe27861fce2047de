"""Draw an explanation as one picture with a legend, a table and the results of the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfake_detect.drawing.annotate import COLOURS, Box, Colour, draw_banner, draw_faces
from deepfake_detect.drawing.heatmap import colour_bar, lay_over

_PANEL_PX, _GAP_PX, _LEAST_PX, _TABLE_PX = 480, 20, 800, 620
_HEAD_PX, _BODY_PX = 20, 16
_PAPER, _INK, _SOFT, _LINE = (255, 255, 255), (26, 26, 26), (95, 95, 95), (215, 215, 215)
_WRONG, _RIGHT = (166, 30, 30), (0, 95, 80)
_DASH: Final = "- "


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlotContent:
    """The content of the plot.

    Attributes:
        pixels: [H, W, 3] uint8 RGB.
        heat: [H, W], 0..1.
        boxes: The faces, in pixels.
        captions: One for each face.
        colours: RGB, one for each face.
        squares: The crops that the model saw, in pixels.
        close_up: [S, S, 3] uint8 RGB of the decisive face, and its heat [S, S]; None leaves it out.
        outlines: Name and corners [N, 2] of the parts, in pixels of the close-up.
        title: The verdict.
        colour: RGB of the verdict.
        shown: The class whose heat is shown.
        rows: Of each part the name, the share of the heat 0..1, and the drop of the score, or None.
        findings: Results of the checks, in words.
        holds: Whether they hold.
        note: Method and weights, in small letters.
    """

    pixels: np.ndarray = field(repr=False)
    heat: np.ndarray = field(repr=False)
    boxes: Sequence[Box]
    captions: Sequence[str]
    colours: Sequence[Colour]
    squares: Sequence[Box]
    close_up: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)
    outlines: Sequence[tuple[str, np.ndarray]] = ()
    title: str
    colour: Colour
    shown: str
    rows: Sequence[tuple[str, float, float | None]] = ()
    findings: Sequence[str]
    holds: bool
    note: str


def draw_explanation(content: PlotContent) -> Image.Image:
    """Draw the picture, the heat over it, the decisive face by its parts, and the results of the checks.

    Args:
        content: What to draw.

    Returns:
        RGB picture, 800 to 1520 pixels wide, as high as needed.
    """
    panels = _panels(content)
    width = max(_LEAST_PX, sum(panel.width + _GAP_PX for panel in panels) + _GAP_PX)
    text_width = width - 2 * _GAP_PX
    blocks = [_table(content, min(text_width, _TABLE_PX))] if content.rows else []
    beside = bool(blocks) and text_width >= _TABLE_PX + _GAP_PX + 380
    blocks.append(_words(content, text_width - (_TABLE_PX + 2 * _GAP_PX if beside else 0)))
    rows = [[_title(content, text_width)], panels, *([blocks] if beside else [[block] for block in blocks])]
    return _stacked(rows, width)


def _panels(content: PlotContent) -> list[Image.Image]:
    scale = _PANEL_PX / max(content.pixels.shape[:2])
    size = (max(1, round(content.pixels.shape[1] * scale)), max(1, round(content.pixels.shape[0] * scale)))
    pixels = np.asarray(Image.fromarray(content.pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
    bare = _boxed(content, pixels, scale) if content.boxes else draw_banner(pixels, text="no face found")
    panels = [_panel("The picture", bare)]
    if content.boxes:
        heat = np.asarray(Image.fromarray(content.heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        squares = [_scaled(square, scale) for square in content.squares]
        panels.append(
            _panel(f"Heat: what speaks for {content.shown}", lay_over(pixels, heat, squares=squares), bar=True)
        )
    if content.close_up is not None:
        panels.append(_panel("The decisive face and its parts", _close_up(content, *content.close_up), bar=True))
    return panels


def _boxed(content: PlotContent, pixels: np.ndarray, scale: float) -> Image.Image:
    boxes = [_scaled(box, scale) for box in content.boxes]
    return draw_faces(pixels, boxes=boxes, captions=content.captions, colours=content.colours)


def _scaled(box: Box, scale: float) -> Box:
    x1, y1, x2, y2 = (value * scale for value in box)
    return x1, y1, x2, y2


def _panel(title: str, picture: Image.Image, *, bar: bool = False) -> Image.Image:
    """Put a title above a picture and, where it shows heat, the colours below."""
    font = ImageFont.load_default(_BODY_PX)
    width = max(picture.width, round(font.getlength(title)), 170 if bar else 0)
    whole = Image.new("RGB", (width, picture.height + 28 + (44 if bar else 0)), _PAPER)
    draw = ImageDraw.Draw(whole)
    draw.text((0, 11), title, fill=_INK, font=font, anchor="lm")
    whole.paste(picture, (0, 28))
    if bar:
        top = picture.height + 28
        whole.paste(colour_bar(min(width, 300), 12), (0, top + 8))
        for x, text, anchor in ((0, "low heat", "lm"), (min(width, 300), "high heat", "rm")):
            draw.text((x, top + 32), text, fill=_SOFT, font=ImageFont.load_default(14), anchor=anchor)
    return whole


def _close_up(content: PlotContent, crop: np.ndarray, heat: np.ndarray) -> Image.Image:
    scale = _PANEL_PX / len(crop)
    size = (_PANEL_PX, _PANEL_PX)
    pixels = np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC))
    large = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    picture = lay_over(pixels, large)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for name, corners in content.outlines:
        line = [(float(x), float(y)) for x, y in np.concatenate([corners, corners[:1]]) * scale]
        draw.line(line, fill=_INK, width=4, joint="curve")
        draw.line(line, fill=_PAPER, width=2, joint="curve")
        top = min(line, key=lambda point: point[1])
        middle = (sum(x for x, _ in line[:-1]) / len(corners), top[1] - 10)
        draw.text(middle, name, fill=_PAPER, font=font, anchor="mm", stroke_width=2, stroke_fill=_INK)
    return picture


def _title(content: PlotContent, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, 40), content.colour)
    ink = _PAPER if np.dot(content.colour, (0.299, 0.587, 0.114)) < 130 else _INK
    font = ImageFont.load_default(_HEAD_PX)
    ImageDraw.Draw(strip).text((12, 20), _cut(content.title, font, width - 24), fill=ink, font=font, anchor="lm")
    return strip


def _table(content: PlotContent, width: int) -> Image.Image:
    """Draw a row for each part: name, share of the heat as a bar, and change of the score when it is blurred."""
    line, font, small = 27, ImageFont.load_default(_BODY_PX), ImageFont.load_default(14)
    tried = any(drop is not None for _, _, drop in content.rows)
    table = Image.new("RGB", (width, line * (len(content.rows) + 1) + 12), _PAPER)
    draw, bar_left, bar_width, right = ImageDraw.Draw(table), 180, 130, width - 4
    for x, text, anchor in (
        (0, "part of the face", "lm"),
        (bar_left, "share of the heat", "lm"),
        (right, f"blurred alone, the score for {content.shown} changes by" if tried else "", "rm"),
    ):
        draw.text((x, line / 2), text, fill=_SOFT, font=small, anchor=anchor)
    for number, (name, share, drop) in enumerate(sorted(content.rows, key=lambda row: -row[1]), start=1):
        top = number * line
        draw.line((0, top, width, top), fill=_LINE)
        middle = top + line / 2
        draw.text((0, middle), name, fill=_INK, font=font, anchor="lm")
        draw.rectangle((bar_left, middle - 7, bar_left + bar_width, middle + 7), fill=(240, 240, 240))
        if share > 0:
            draw.rectangle((bar_left, middle - 7, bar_left + share * bar_width, middle + 7), fill=COLOURS["fake"])
        draw.text((bar_left + bar_width + 56, middle), f"{share:.0%}", fill=_INK, font=font, anchor="rm")
        if drop is not None:
            draw.text((right, middle), f"{0.0 - round(drop, 2):+.2f}", fill=_INK, font=font, anchor="rm")
    return table


def _words(content: PlotContent, width: int) -> Image.Image:
    head, font, small = (ImageFont.load_default(size) for size in (_HEAD_PX, _BODY_PX, 14))
    title = "Evidence" if content.holds else "Not evidence:"
    indent = round(font.getlength(_DASH))
    lines = [(0, title, head, _RIGHT if content.holds else _WRONG)]
    for text in content.findings:
        for number, line in enumerate(_wrapped(text, font, width - indent)):
            lines.append((0 if number == 0 else indent, _DASH * (number == 0) + line, font, _INK))
    lines += [(0, line, small, _SOFT) for line in _wrapped(content.note, small, width)]
    heights = [round(1.45 * line[2].size) for line in lines]  # type: ignore[union-attr]
    block = Image.new("RGB", (width, sum(heights) + 12), _PAPER)
    draw, top = ImageDraw.Draw(block), 0
    for (x, text, face, ink), height in zip(lines, heights, strict=True):
        draw.text((x, top + height / 2), text, fill=ink, font=face, anchor="lm")
        top += height
    return block


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_cut(line, font, width) for line in lines]


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    while text and font.getlength(text) > width:
        text = text.removesuffix("...")[:-1] + "..."
        if text == "...":
            break
    return text


def _stacked(rows: Sequence[Sequence[Image.Image]], width: int) -> Image.Image:
    height = sum(max(block.height for block in row) + _GAP_PX for row in rows) + _GAP_PX
    whole, top = Image.new("RGB", (width, height), _PAPER), _GAP_PX
    for row in rows:
        left = _GAP_PX
        for block in row:
            whole.paste(block, (left, top))
            left += block.width + _GAP_PX
        top += max(block.height for block in row) + _GAP_PX
    return whole
