"""Write a copy of a video with its faces framed, and the scores over time below."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from deepfake_detect.drawing.annotate import COLOURS, draw_faces
from deepfake_detect.errors import ImageUnreadable, InvalidOption
from deepfake_detect.faces.face import Face
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.inputs.frames import every_frame
from deepfake_detect.inputs.image import Picture
from deepfake_detect.system.atomic import whole_file
from deepfake_detect.system.progress import progress_bar
from deepfake_detect.video.encode import VideoWriter, find_encoder
from deepfake_detect.video.motion import Motion, Sighting, Stage, follow_boxes
from deepfake_detect.video.timeline import Mark, draw_timeline, mark_time
from deepfake_detect.video.tracks import FrameScore

FRAME_PX: Final = 960
"""Longer side of the frames as they are written; larger ones are made smaller."""

FIND_EVERY_S: Final = 0.15
"""Time from one search for faces to the next; between them, boxes move in a straight line."""

_LEAST_WIDTH_PX, _TITLE_PX = 480, 30
_PAPER, _INK = (255, 255, 255), (26, 26, 26)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredVideo:
    """What is drawn of a video that was scored.

    Attributes:
        name: Path of the video.
        title: The verdict on the whole video, in a line.
        frames: That were scored, in the order of time.
        marks: Their scores over time.
        threshold: Score at and above which the label is ``"fake"``.
        uncertain: Scores between which the label is ``"uncertain"``; None where there is no such interval.
        size_hw: Height and width of the upright frames in pixels.
        duration_s: As the file says.
    """

    name: str
    title: str
    frames: Sequence[FrameScore]
    marks: Sequence[Mark]
    threshold: float
    uncertain: tuple[float, float] | None
    size_hw: tuple[int, int]
    duration_s: float


def check_target(target: str | os.PathLike[str], *, source: str) -> Path:
    """Refuse a place where an annotated video cannot be written, before anything is scored.

    Args:
        target: Where the annotated video shall be.
        source: Path of the video.

    Returns:
        The target.

    Raises:
        InvalidOption: It does not end in .mp4, is the video itself, or lies in no folder.
        MissingExtra: FFmpeg has no encoder for it.
    """
    path = Path(target).expanduser()
    if path.suffix.lower() != ".mp4":
        raise InvalidOption(f"save is {str(target)!r}, expected a path that ends in .mp4")
    if not path.parent.is_dir():
        raise InvalidOption(f"save is {str(target)!r}, but there is no folder {path.parent}; make it first")
    if path.is_dir() or (path.exists() and os.path.exists(source) and os.path.samefile(path, source)):
        raise InvalidOption(f"save is {str(target)!r}, which is the video itself, or a folder; choose another name")
    find_encoder()
    return path


def write_annotated(video: ScoredVideo, target: str | os.PathLike[str], *, progress: bool = False) -> None:
    """Write a copy of a video with its faces framed, each with the verdict nearest in time, and the scores below.

    The video is gone through twice: faces are looked for every `FIND_EVERY_S` seconds and followed; then every frame is
    drawn, at its own time. The copy has no sound, upright frames of at most `FRAME_PX` pixels a side, and is written
    whole or not at all.

    Args:
        video: What is drawn.
        target: Ends in .mp4.
        progress: Show a progress bar, where standard error is a terminal.

    Raises:
        InvalidOption: See `check_target`.
        ImageUnreadable: The video is gone, or none of its frames can be decoded any more.
        MissingExtra: FFmpeg has no encoder for it.
    """
    path, show = check_target(target, source=video.name), None if progress else False
    with progress_bar(title="find faces", unit="frame", show=show) as bar:
        motions, times_s = _find_motions(video, bar)
    duration_s = max([video.duration_s, *times_s[-1:]])
    with closing(_drawn_frames(video, motions, duration_s=duration_s)) as frames:
        first = next(frames, None)
        if first is None:
            raise ImageUnreadable(f"{video.name}: no frame can be decoded any more; get a whole copy of it")
        size_hw, fps = first[1].shape[:2], len(times_s) / max(duration_s, 1e-3)
        bar = progress_bar(chain([first], frames), total=len(times_s), title="draw", unit="frame", show=show)
        with whole_file(path) as partial, VideoWriter(partial, size_hw=size_hw, fps=fps) as writer, bar:
            for time_s, pixels in bar:
                writer.write(pixels, time_s)


def _find_motions(video: ScoredVideo, bar: Any) -> tuple[list[Motion], list[float]]:
    """Look for faces between the frames that were scored, and follow them; return the times of all frames, too."""
    scored = {frame.index: frame for frame in video.frames}
    scale = min(1.0, FRAME_PX / max(video.size_hw))
    faces = [face for frame in video.frames for face in frame.faces]
    finder = FaceFinder() if any(len(face.landmarks_xy) for face in faces) or not faces else None
    moments, times_s, due_s = [], [], 0.0
    unseen: Callable[[], Picture] | None = None
    for frame, decode in every_frame(video.name, most_px=FRAME_PX):
        times_s.append(frame.time_s)
        bar.update()
        unseen = None
        if frame.index in scored:
            moments.append((frame.time_s, _sightings(scored[frame.index].faces, frame.time_s, scale, is_scored=True)))
        elif finder is not None and frame.time_s >= due_s:
            moments.append((frame.time_s, _sightings(finder.find(decode().pixels), frame.time_s, 1.0)))
        else:
            unseen = decode
            continue
        due_s = frame.time_s + FIND_EVERY_S
    if finder is not None and unseen is not None:  # the last frame, so that boxes move to the end
        moments.append((times_s[-1], _sightings(finder.find(unseen().pixels), times_s[-1], 1.0)))
    if finder is None:  # the frames were scored as a whole
        return [Motion([one for _, sightings in moments for one in sightings], hold_s=math.inf)], times_s
    return follow_boxes(moments), times_s


def _sightings(faces: Sequence[Face], time_s: float, scale: float, *, is_scored: bool = False) -> list[Sighting]:
    boxes = [tuple(scale * side for side in face.box_xyxy) for face in faces]
    return [
        Sighting(time_s=time_s, box_xyxy=box, face=face if is_scored else None)  # type: ignore[arg-type]
        for face, box in zip(faces, boxes, strict=True)
    ]


def _drawn_frames(
    video: ScoredVideo, motions: Sequence[Motion], *, duration_s: float
) -> Generator[tuple[float, npt.NDArray[np.uint8]], None, None]:
    """Draw every frame, all of them of one size: also where that of the video changes on the way."""
    canvas: _Canvas | None = None
    stage = Stage(motions)
    for frame, decode in every_frame(video.name, most_px=FRAME_PX):
        image = _framed(decode().pixels, stage.at(frame.time_s), frame.time_s)
        canvas = canvas or _Canvas(video, image.size, duration_s)
        yield frame.time_s, canvas.compose(image, frame.time_s)


def _framed(pixels: npt.NDArray[np.uint8], motions: Sequence[Motion], time_s: float) -> Image.Image:
    boxes, captions, colours = [], [], []
    for motion in motions:
        box, face = motion.box_at(time_s), motion.face_at(time_s)
        if box is None:
            continue
        boxes.append(box)
        captions.append("not scored" if face is None or face.score is None else f"{face.label} {face.score:.2f}")
        colours.append(COLOURS.get((face.label if face else None) or "", COLOURS["uncertain"]))
    return draw_faces(pixels, boxes=boxes, captions=captions, colours=colours)


class _Canvas:
    """What is the same on every frame: where the picture stands, the verdict on the video, and the scores over time."""

    def __init__(self, video: ScoredVideo, frame_wh: tuple[int, int], duration_s: float) -> None:
        self._frame_wh = frame_wh
        width = _even(max(frame_wh[0], _LEAST_WIDTH_PX))
        self._duration_s = duration_s
        self._timeline = draw_timeline(
            video.marks,
            duration_s=duration_s,
            threshold=video.threshold,
            uncertain=video.uncertain,
            width=width,
        )
        height = _even(frame_wh[1] + _TITLE_PX + self._timeline.height)
        self._paper = Image.new("RGB", (width, height), _PAPER)
        middle = (width / 2, frame_wh[1] + _TITLE_PX / 2 + 2)
        ImageDraw.Draw(self._paper).text(
            middle, video.title, fill=_INK, font=_fitting(video.title, width - 16), anchor="mm"
        )

    def compose(self, image: Image.Image, time_s: float) -> npt.NDArray[np.uint8]:
        """Put a frame and the timeline on the paper."""
        whole = self._paper.copy()
        if image.size != self._frame_wh:
            image = image.resize(self._frame_wh, Image.Resampling.BILINEAR)
        whole.paste(image, ((whole.width - image.width) // 2, 0))
        timeline = mark_time(self._timeline, time_s, duration_s=self._duration_s)
        whole.paste(timeline, (0, self._frame_wh[1] + _TITLE_PX))
        return np.asarray(whole)


def _even(side: int) -> int:
    return side + side % 2


def _fitting(words: str, width: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the largest font of up to 17 pixels in which the words fit."""
    fonts = (ImageFont.load_default(size) for size in range(17, 8, -1))
    return next((font for font in fonts if font.getlength(words) <= width), ImageFont.load_default(8))
