"""Which frames stand for a video?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.image import Picture

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"))
"""What counts as a video."""


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
    if count < 1 or (every_s is not None and every_s <= 0):
        raise ValueError(f"count is {count} and every_s {every_s}, expected at least 1 and above 0")
    video = _open(Path(path))
    fps = video.get(cv2.CAP_PROP_FPS) or 25.0
    total = _count(video)
    video.release()
    if total < 1:
        raise ImageUnreadable(f"{path}: a video without frames; get a whole copy of it")
    if every_s is not None:
        chosen = np.arange(0, total, max(1.0, every_s * fps)).astype(int)
    else:
        chosen = ((np.arange(min(count, total)) + 0.5) * total / min(count, total)).astype(int)
    return tuple(VideoFrame(path=Path(path), index=int(index), time_s=float(index / fps)) for index in chosen)


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
            upright = np.ascontiguousarray(pixels[..., ::-1], np.uint8)
            yield Picture(pixels=upright, size_hw=(upright.shape[0], upright.shape[1]), name=frame.name)
    finally:
        video.release()


def _open(path: Path) -> cv2.VideoCapture:
    if not path.is_file():
        raise ImageUnreadable(f"no video at {path}")
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not video.isOpened():
        raise ImageUnreadable(f"{path}: not a video that FFmpeg reads, or a damaged one")
    return video


def _count(video: cv2.VideoCapture) -> int:
    """Count the frames: as the header says, or one by one where it does not."""
    stated = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if stated > 0:
        return stated
    total = 0
    while video.grab():
        total += 1
    return total
