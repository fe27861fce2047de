"""Which frames stand for a video?"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np

from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.inputs.image import Picture

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"))
"""What counts as a video."""

_FPS = 25.0  # where a video does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoHeader:
    """What a video says of itself; counted and measured, where it does not say.

    Attributes:
        path: The video.
        count: Frames.
        fps: Of them in a second, on the average.
    """

    path: Path
    count: int
    fps: float

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.count / self.fps


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrame:
    """One frame of a video, decoded when it is asked for; see `read_frames` for many at once.

    Attributes:
        path: The video.
        index: Of the frame, counted from 0.
        time_s: From the beginning, in seconds.
    """

    path: Path
    index: int
    time_s: float

    @property
    def name(self) -> str:
        """Path and time, for messages."""
        return f"{self.path}@{self.time_s:.2f}s"

    def open_picture(self) -> Picture:
        """Decode it.

        Raises:
            ImageUnreadable: The video ends before it, or cannot be read.
        """
        return next(read_frames([self]))


def sample_frames(
    path: str | os.PathLike[str], *, count: int = 16, every_s: float | None = None
) -> tuple[VideoFrame, ...]:
    """Choose evenly spaced frames of a video; none is decoded yet.

    Args:
        path: Of a format that FFmpeg in OpenCV reads.
        count: The video is parted into so many stretches of equal length; the middle frame of each is taken. Fewer
            where the video has fewer frames.
        every_s: A frame each so many seconds in place of that.

    Raises:
        ImageUnreadable: No video, or one without frames.
        ValueError: ``count`` or ``every_s`` is out of range.
    """
    return choose_frames(read_header(path), count=count, every_s=every_s)


def read_header(path: str | os.PathLike[str]) -> VideoHeader:
    """Ask a video how long it is; one that does not say, as what browsers record, is gone through once.

    Raises:
        ImageUnreadable: No video, or one without frames.
    """
    video = _open(Path(path))
    try:
        stated, fps = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
        count, fps = (int(stated), fps if fps > 0 else _FPS) if stated >= 1 else _measure(video)
    finally:
        video.release()
    if count < 1:
        raise ImageUnreadable(f"{path}: a video without frames; get a whole copy of it")
    return VideoHeader(path=Path(path), count=count, fps=fps)


def choose_frames(header: VideoHeader, *, count: int = 16, every_s: float | None = None) -> tuple[VideoFrame, ...]:
    """Choose evenly spaced frames of a video whose header was read; see `sample_frames`."""
    if count < 1 or (every_s is not None and every_s <= 0):
        raise ValueError(f"count is {count} and every_s {every_s}, expected at least 1 and above 0")
    total, fps = header.count, header.fps
    if every_s is not None:
        chosen = np.arange(0, total, max(1.0, every_s * fps)).astype(int)
    else:
        chosen = ((np.arange(min(count, total)) + 0.5) * total / min(count, total)).astype(int)
    return tuple(VideoFrame(path=header.path, index=int(index), time_s=float(index / fps)) for index in chosen)


def read_frames(frames: Sequence[VideoFrame]) -> Iterator[Picture]:
    """Decode frames of one video in one pass, since going back to a frame is slow, and exact for few formats.

    Args:
        frames: Of one video, best in the order of their index: going back begins anew.

    Yields:
        The pictures, upright, in that order.

    Raises:
        ImageUnreadable: The video ends before one of them, or cannot be read.
    """
    video, at = _open(frames[0].path), 0
    try:
        for frame in frames:
            if at > frame.index + 1:
                video.release()
                video, at = _open(frame.path), 0
            while at <= frame.index and video.grab():
                at += 1
            found, pixels = video.retrieve() if at == frame.index + 1 else (False, None)
            if not found or pixels is None:
                raise ImageUnreadable(f"{frame.name}: the video ends or is damaged before this frame, at frame {at}")
            yield _picture(pixels, frame)
    finally:
        video.release()


class FramePass:
    """One pass through a video, which gives what is shown at the times of some frames, and ends where the video ends.

    By the clock of the file, frame by frame, since in a recording of a phone or a screen the frames are not evenly
    spaced. Going to a frame directly (``CAP_PROP_POS_FRAMES``) gives a wrong one in such videos and in MPEG transport
    streams, and cannot be told from right.

    Args:
        frames: Of one video, in the order of time, as chosen by `choose_frames`.
    """

    waiting: deque[VideoFrame]
    """Frames that are still to come; behind the end of the pass, those that the video does not reach."""

    reached_s: float
    """Time of the last frame that was passed."""

    def __init__(self, frames: Sequence[VideoFrame]) -> None:
        self.waiting, self.reached_s = deque(frames), 0.0

    def __iter__(self) -> Iterator[tuple[VideoFrame, Picture]]:
        """Decode them.

        Yields:
            The frame, with its own index and time, and its picture, upright. One that is shown at the times of several
            comes once.

        Raises:
            ImageUnreadable: The video cannot be opened.
        """
        path = self.waiting[0].path
        video = _open(path)
        try:
            for index, time_s, half_s in _clock(video):
                self.reached_s = time_s
                due = len(list(takewhile(lambda frame: frame.time_s <= time_s + half_s, self.waiting)))  # noqa: B023
                found, pixels = video.retrieve() if due else (False, None)
                if found and pixels is not None:
                    for _ in range(due):
                        self.waiting.popleft()
                    frame = VideoFrame(path=path, index=index, time_s=time_s)
                    yield frame, _picture(pixels, frame)
                if not self.waiting:
                    return
        finally:
            video.release()


def _open(path: Path) -> cv2.VideoCapture:
    if not path.is_file():
        raise ImageUnreadable(f"no video at {path}")
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not video.isOpened():
        raise ImageUnreadable(f"{path}: not a video that FFmpeg reads, or a damaged one")
    return video


def _clock(video: cv2.VideoCapture) -> Iterator[tuple[int, float, float]]:
    """Grab every frame: its index, its time since the first one, and half of what lies between two frames."""
    fps = video.get(cv2.CAP_PROP_FPS)
    step_s = 1 / (fps if fps > 0 else _FPS)
    index, time_s, first_s = 0, 0.0, 0.0
    while video.grab():
        stamp_s = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        first_s = stamp_s if index == 0 and math.isfinite(stamp_s) else first_s
        if index:
            time_s = stamp_s - first_s if stamp_s - first_s > time_s else time_s + step_s  # a file may leave it out
        yield index, time_s, step_s / 2
        index += 1


def _measure(video: cv2.VideoCapture) -> tuple[int, float]:
    """Count the frames one by one, and how many there are in a second."""
    index, time_s = -1, 0.0
    for index, time_s, _ in _clock(video):  # noqa: B007 - the last ones are wanted
        pass
    return index + 1, index / time_s if time_s > 0 else _FPS


def _picture(pixels: np.ndarray, frame: VideoFrame) -> Picture:
    upright = np.ascontiguousarray(pixels[..., ::-1], np.uint8)
    return Picture(pixels=upright, size_hw=(upright.shape[0], upright.shape[1]), name=frame.name)
