"""Draw the scores of a video over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from deepfake_detect.drawing.annotate import COLOURS, Colour

_HEIGHT_PX, _LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 240, 52, 20, 16, 44
_INK, _SOFT, _GRID, _BAND = (26, 26, 26), (110, 110, 110), (228, 228, 228), (240, 240, 240)
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A score at a time of the video.

    Attributes:
        time_s: Time since the beginning.
        score: 0..1; None draws a tick on the axis, for a frame without a face.
        colour: RGB 0..255.
        joined: Whether the line that connects the marks passes through this one.
    """

    time_s: float
    score: float | None
    colour: Colour
    joined: bool = False


def draw_timeline(
    marks: Sequence[Mark],
    *,
    duration_s: float,
    threshold: float,
    uncertain: tuple[float, float] | None = None,
    width: int = 1000,
) -> Image.Image:
    """Draw scores over time, with the threshold as a line and the uncertain interval as a band.

    Args:
        marks: Scores in the order of time.
        duration_s: End of the time axis, in seconds.
        threshold: Score from which the label is ``"fake"``.
        uncertain: Ends of the interval of scores whose label is ``"uncertain"``.
        width: Width of the picture, in pixels.

    Returns:
        RGB picture, 240 pixels high.

    Example:
        >>> mark = Mark(time_s=1.0, score=0.9, colour=COLOURS["fake"])
        >>> draw_timeline([mark], duration_s=4.0, threshold=0.5).size
        (1000, 240)
    """
    image = Image.new("RGB", (width, _HEIGHT_PX), "white")
    ruler = _Ruler(
        draw=ImageDraw.Draw(image), width=width, duration_s=max(duration_s, *(m.time_s for m in marks), 1e-3)
    )
    ruler.paper(threshold, uncertain)
    line = [ruler.place(mark.time_s, mark.score) for mark in marks if mark.joined and mark.score is not None]
    if len(line) > 1:
        ruler.draw.line(line, fill=_SOFT, width=2)
    for mark in marks:
        ruler.mark(mark)
    return image


def mark_time(timeline: Image.Image, time_s: float, *, duration_s: float) -> Image.Image:
    """Draw a line at one time on a copy of a timeline.

    Args:
        timeline: From `draw_timeline`.
        time_s: Where.
        duration_s: As given to `draw_timeline`, and no less than the time of its last mark.

    Returns:
        RGB picture of the same size.
    """
    image = timeline.copy()
    ruler = _Ruler(draw=ImageDraw.Draw(image), width=image.width, duration_s=max(duration_s, 1e-3))
    (across, bottom), (_, top) = ruler.place(min(time_s, ruler.duration_s), 0), ruler.place(0, 1)
    ruler.draw.line((across, top, across, bottom), fill=_INK, width=2)
    return image


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ruler:
    """Maps times and scores to pixels of the chart, and draws on it."""

    draw: ImageDraw.ImageDraw
    width: int
    duration_s: float

    def place(self, time_s: float, score: float) -> tuple[float, float]:
        across = _LEFT_PX + time_s / self.duration_s * (self.width - _LEFT_PX - _RIGHT_PX)
        return across, _TOP_PX + (1 - score) * (_HEIGHT_PX - _TOP_PX - _BOTTOM_PX)

    def paper(self, threshold: float, uncertain: tuple[float, float] | None) -> None:
        font, (right, bottom) = ImageFont.load_default(13), self.place(self.duration_s, 0)
        if uncertain is not None:
            self.draw.rectangle(
                (_LEFT_PX, self.place(0, uncertain[1])[1], right, self.place(0, uncertain[0])[1]), _BAND
            )
        for score, words in ((0.0, "0 real"), (0.5, "0.5"), (1.0, "1 fake")):
            level = self.place(0, score)[1]
            self.draw.line((_LEFT_PX, level, right, level), fill=_GRID)
            self.draw.text((_LEFT_PX - 6, level), words, fill=_SOFT, font=font, anchor="rm")
        level = self.place(0, threshold)[1]
        self.draw.line((_LEFT_PX, level, right, level), fill=COLOURS["fake"], width=2)
        self.draw.text((right, level - 3), f"threshold {threshold:.2f}", fill=_SOFT, font=font, anchor="rb")
        self._times(bottom, font)

    def _times(self, bottom: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
        fitting = (step for step in _STEPS_S if self.duration_s / step <= 12)
        step = next(fitting, self.duration_s / 10)
        for number in range(int(self.duration_s / step + 1e-9) + 1):
            across = self.place(number * step, 0)[0]
            self.draw.line((across, bottom, across, bottom + 6), fill=_SOFT)
            self.draw.text((across, bottom + 18), clock(number * step), fill=_SOFT, font=font, anchor="mm")

    def mark(self, mark: Mark) -> None:
        if mark.score is None:
            across, bottom = self.place(mark.time_s, 0)
            self.draw.line((across, bottom - 5, across, bottom + 5), fill=_SOFT, width=2)
        else:
            self.draw.circle(self.place(mark.time_s, mark.score), 6, fill=mark.colour, outline=_INK)


def clock(time_s: float) -> str:
    """Format a time as seconds, minutes and seconds, or hours, minutes and seconds.

    Example:
        >>> clock(3.25), clock(83), clock(4000)
        ('3.25 s', '1:23', '1:06:40')
    """
    if time_s < 60:
        return f"{time_s:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
