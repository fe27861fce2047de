"""Choose evenly spaced frames of a video, and decode them with FFmpeg by way of PyAV."""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from deepfake_detect.errors import ImageUnreadable, InvalidOption
from deepfake_detect.inputs.image import Picture

if TYPE_CHECKING:
    import av

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"))
"""Endings of the files in a folder that count as videos."""

_FPS = 25.0  # where a video does not say
_FORMATS: Final = (  # a playlist could name other files and addresses
    "3g2,3gp,asf,avi,dv,flv,gif,h264,hevc,ivf,m4a,m4v,matroska,mj2,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,"
    "rm,webm,wtv"
)
_UNEVEN = 0.02  # of the length: one that is longer by more than that has frames of uneven length
_ASPECTS = (Fraction(1, 4), Fraction(4))  # of a pixel, width by height; what lies beyond is a damaged header


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoHeader:
    """Length and rate of a video, as its header states them; measured where it does not.

    Attributes:
        path: The video.
        count: Number of frames.
        fps: Frames per second, on average.
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
    """One frame of a video, decoded on demand; see `read_frames` for many at once.

    Attributes:
        path: The video.
        index: Number of the frame, from 0.
        time_s: Time since the first frame, in seconds.
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
        path: A video file.
        count: Number of frames: the video is divided into as many stretches of equal length, and the middle frame of
            each is taken. Fewer where the video has fewer frames.
        every_s: Seconds from one frame to the next, in place of ``count``.

    Raises:
        ImageUnreadable: No video, or one without frames.
        InvalidOption: ``count`` or ``every_s`` is out of range.
    """
    return choose_frames(read_header(path), count=count, every_s=every_s)


def read_header(path: str | os.PathLike[str]) -> VideoHeader:
    """Read how long a video is; one without that in its header, as browsers record it, is decoded once.

    Raises:
        ImageUnreadable: No video, or one without frames.
    """
    file = Path(os.path.expanduser(path))
    with _open(file) as video:
        count = video.stated_count()
        fps = video.stated_fps(count)
        if count < 1:
            count, fps = _measure(video)
    if count < 1:
        raise ImageUnreadable(f"{path}: a video without frames; get a whole copy of it")
    return VideoHeader(path=file, count=count, fps=fps)


def choose_frames(header: VideoHeader, *, count: int = 16, every_s: float | None = None) -> tuple[VideoFrame, ...]:
    """Choose evenly spaced frames of a video whose header was read; see `sample_frames`."""
    if count < 1 or (every_s is not None and every_s <= 0):
        raise InvalidOption(f"count is {count} and every_s {every_s}, expected at least 1 and above 0")
    total, fps = header.count, header.fps
    if every_s is not None:
        chosen = np.arange(0, total, max(1.0, every_s * fps)).astype(int)
    else:
        chosen = ((np.arange(min(count, total)) + 0.5) * total / min(count, total)).astype(int)
    return tuple(VideoFrame(path=header.path, index=int(index), time_s=float(index / fps)) for index in chosen)


def read_frames(frames: Sequence[VideoFrame]) -> Iterator[Picture]:
    """Decode frames of one video in one pass.

    Args:
        frames: Frames of one video, best in the order of their index: going back starts the video again.

    Yields:
        The pictures, upright, in that order.

    Raises:
        ImageUnreadable: The video ends before one of them, or cannot be read.
    """
    todo = deque(frames)
    while todo:
        before = len(todo)
        yield from _read_forward(todo)
        if len(todo) == before:
            return


def every_frame(
    path: str | os.PathLike[str], *, most_px: int | None = None
) -> Iterator[tuple[VideoFrame, Callable[[], Picture]]]:
    """Go through all frames of a video, and decode to pixels those that are asked for.

    Args:
        path: A video file.
        most_px: Longer side of the pictures, upright; larger frames are made smaller. None keeps their size.

    Yields:
        The frame, with its time by the clock of the file, and a function that gives its picture, upright.

    Raises:
        ImageUnreadable: The video cannot be opened.
    """
    path = Path(os.path.expanduser(path))
    with _open(path) as video:
        for index, (time_s, decoded) in enumerate(video.timed_frames()):
            frame = VideoFrame(path=path, index=index, time_s=time_s)
            yield frame, partial(_picture, video, decoded, frame, most_px=most_px)


def _read_forward(todo: deque[VideoFrame]) -> Iterator[Picture]:
    """Decode frames as long as their index does not go back."""
    with _open(todo[0].path) as video:
        at = -1
        for at, decoded in enumerate(video.frames()):
            while todo and todo[0].index == at:
                frame = todo.popleft()
                yield _picture(video, decoded, frame)
            if not todo or todo[0].index < at:
                return
    frame = todo[0]
    raise ImageUnreadable(f"{frame.name}: the video ends or is damaged before this frame, at frame {at + 1}")


class FramePass:
    """One pass through a video that gives the pictures shown at the times of some frames.

    It goes by the time stamps of the file, since phones and screen recorders do not space frames evenly.

    Args:
        frames: Frames of one video, in the order of time, as chosen by `choose_frames`.
    """

    waiting: deque[VideoFrame]
    """Frames that are still to come; after the pass, those that the video does not reach."""

    reached_s: float
    """Time of the last frame that was decoded."""

    def __init__(self, frames: Sequence[VideoFrame]) -> None:
        self.waiting, self.reached_s = deque(frames), 0.0

    def __iter__(self) -> Iterator[tuple[VideoFrame, Picture]]:
        """Decode them.

        Yields:
            The frame, with its own index and time, and its picture, upright. One that is shown at several of the
            times comes once.

        Raises:
            ImageUnreadable: The video cannot be opened.
        """
        path = self.waiting[0].path
        with _open(path) as video:
            for index, (time_s, decoded) in enumerate(video.timed_frames()):
                self.reached_s = time_s
                shown_until_s = time_s + 0.5 / video.fps
                due = len(list(takewhile(lambda frame: frame.time_s <= shown_until_s, self.waiting)))  # noqa: B023
                for _ in range(due):
                    self.waiting.popleft()
                if due:
                    frame = VideoFrame(path=path, index=index, time_s=time_s)
                    yield frame, _picture(video, decoded, frame)
                if not self.waiting:
                    return


class _Video:
    """A video that is open: its first stream of pictures."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self._container, self._stream = container, stream
        stream.thread_type = "AUTO"  # several frames at once
        rate = stream.guessed_rate or stream.average_rate
        self.fps = float(rate) if rate else _FPS
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = aspect if _ASPECTS[0] <= aspect <= _ASPECTS[1] else Fraction(1)

    def stated_count(self) -> int:
        """Return the number of frames by the header; 0 where it does not say."""
        if self._stream.frames > 0 or self._container.duration is None:
            return int(self._stream.frames)
        return math.floor(self._container.duration / 1e6 * self.fps + 0.5)

    def stated_fps(self, count: int) -> float:
        """Return the frames per second that so many frames have on average: fewer than named where some are missing."""
        time_base, duration = self._stream.time_base, self._stream.duration
        if not count or not duration or time_base is None:
            return self.fps
        duration_s = float(duration * time_base)
        is_longer = duration_s > (1 + _UNEVEN) * (count + 1) / self.fps
        return count / duration_s if is_longer else self.fps

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode all frames in the order in which they are shown, but for damaged ones."""
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, EOFError):  # the file is cut off
                packet = None
            with contextlib.suppress(av.FFmpegError, EOFError):
                for frame in self._decode(packet):
                    if not frame.is_corrupt:
                        yield frame
            if packet is None:
                return

    def _decode(self, packet: av.Packet[Any] | None) -> Sequence[Any]:
        return self._stream.decode(packet) if packet is None else packet.decode()

    def timed_frames(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Decode all frames, each with the time since the first one; where the file leaves it out, by the rate."""
        time_s, first_s = -1 / self.fps, None
        for frame in self.frames():
            stamp_s = frame.time if frame.time is not None else math.nan
            if first_s is None:
                time_s, first_s = 0.0, 0.0 if math.isnan(stamp_s) else stamp_s
            else:
                time_s = stamp_s - first_s if stamp_s - first_s > time_s else time_s + 1 / self.fps
            yield time_s, frame


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Video]:
    if not path.is_file():
        raise ImageUnreadable(f"no video at {path}")
    import av  # takes as long to import as Pillow

    try:
        container = av.open(str(path), options={"format_whitelist": _FORMATS}, metadata_errors="replace")
    except (av.FFmpegError, EOFError) as error:
        raise ImageUnreadable(f"{path}: not a video that FFmpeg reads, or a damaged one ({error})") from error
    with container:
        if not container.streams.video:
            raise ImageUnreadable(f"{path}: holds no video, expected one with pictures")
        yield _Video(container, container.streams.video[0])


def _measure(video: _Video) -> tuple[int, float]:
    """Count the frames one by one, and how many there are in a second."""
    times_s = [time_s for time_s, _ in video.timed_frames()]
    spans = len(times_s) - 1
    return len(times_s), spans / times_s[-1] if spans > 0 else video.fps


def _picture(video: _Video, decoded: av.VideoFrame, frame: VideoFrame, *, most_px: int | None = None) -> Picture:
    """Convert to RGB with square pixels, upright."""
    aspect = video.pixel_aspect
    width = round(decoded.width * aspect) if aspect > 1 else decoded.width
    height = round(decoded.height / aspect) if aspect < 1 else decoded.height
    if most_px is not None and max(width, height) > most_px:
        scale = most_px / max(width, height)
        width, height = max(1, round(scale * width)), max(1, round(scale * height))
    pixels = decoded.to_ndarray(format="rgb24", width=width, height=height)
    upright = np.ascontiguousarray(np.rot90(pixels, decoded.rotation // 90 % 4), np.uint8)
    return Picture(pixels=upright, size_hw=(upright.shape[0], upright.shape[1]), name=frame.name)
