"""Are the frames of a video evenly spaced, and the ones that were asked for?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.inputs.frames import FramePass, VideoFrame, choose_frames, read_frames, read_header, sample_frames
from deepfake_detect.inputs.image import open_image


def write_video(path: Path, *, count: int = 40, fps: float = 10.0) -> Path:
    """Write a video whose frames differ in brightness: frame n has 5 n + 20 in red."""
    reds = (5 * number + 20 for number in range(count))
    return write_pictures(path, [np.full((48, 64, 3), (red, 60, 30), np.uint8) for red in reds], fps=fps)


def write_pictures(path: Path, pictures: Sequence[np.ndarray], *, fps: float = 10.0) -> Path:
    """Write a video of RGB pictures of one size."""
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    for pixels in pictures:
        writer.write(np.ascontiguousarray(pixels[..., ::-1]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.avi")


def red(pixels: np.ndarray) -> float:
    return float(pixels[..., 0].mean())


def test_frames_are_the_middles_of_equal_stretches(video: Path) -> None:
    frames = sample_frames(video, count=4)
    assert [frame.index for frame in frames] == [5, 15, 25, 35]
    assert [frame.time_s for frame in frames] == pytest.approx([0.5, 1.5, 2.5, 3.5])
    assert [frame.index for frame in sample_frames(video, every_s=1.0)] == [0, 10, 20, 30]


def test_a_short_video_gives_each_frame_once(tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.avi", count=3)
    assert [frame.index for frame in sample_frames(short, count=16)] == [0, 1, 2]


def test_the_frames_are_those_asked_for_in_rgb(video: Path) -> None:
    frames = sample_frames(video, count=4)
    pictures = list(read_frames(frames))
    assert [red(picture.pixels) for picture in pictures] == pytest.approx([45, 95, 145, 195], abs=4)
    assert pictures[0].size_hw == (48, 64)
    assert float(pictures[0].pixels[..., 2].mean()) == pytest.approx(30, abs=4)
    back = [red(picture.pixels) for picture in read_frames([frames[2], frames[0], frames[0], frames[1]])]
    assert back == pytest.approx([145, 45, 45, 95], abs=4)
    alone = open_image(frames[2])
    np.testing.assert_array_equal(alone.pixels, pictures[2].pixels)
    assert alone.name == frames[2].name == f"{video}@2.50s"


def test_bad_videos_are_named(tmp_path: Path, video: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for path, words in ((tmp_path / "none.mp4", "no video at"), (tmp_path / "text.mp4", r"text\.mp4: not a video")):
        with pytest.raises(ImageUnreadable, match=words):
            sample_frames(path)
    with pytest.raises(ImageUnreadable, match="ends or is damaged before this frame, at frame 40"):
        VideoFrame(path=video, index=50, time_s=5.0).open_picture()
    with pytest.raises(ValueError, match="expected at least 1"):
        sample_frames(video, count=0)


class Reel:
    """A video of which every frame has a stamp of its own, as OpenCV would give it."""

    def __init__(self, stamps_s: list[float], *, fps: float, stated: float) -> None:
        self.stamps_s, self.at, self.retrieved = stamps_s, -1, []
        self.told = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: stated}

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's
        return True

    def grab(self) -> bool:
        self.at += 1
        return self.at < len(self.stamps_s)

    def get(self, what: int) -> float:
        return 1000 * self.stamps_s[self.at] if what == cv2.CAP_PROP_POS_MSEC else self.told[what]

    def retrieve(self) -> tuple[bool, np.ndarray]:
        self.retrieved.append(self.at)
        return True, np.full((4, 4, 3), self.at, np.uint8)

    def release(self) -> None:
        self.at = -1


@pytest.fixture
def reel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Path, Reel]]:
    def make(stamps_s: list[float], *, fps: float, stated: float) -> tuple[Path, Reel]:
        (tmp_path / "clip.mkv").touch()
        made = Reel(stamps_s, fps=fps, stated=stated)
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: made)
        return tmp_path / "clip.mkv", made

    return make


def passed(frames: Sequence[VideoFrame]) -> tuple[list[tuple[int, float]], FramePass]:
    way = FramePass(frames)
    return [(frame.index, frame.time_s) for frame, _ in way], way


def test_a_pass_gives_the_frames_asked_for(video: Path) -> None:
    frames = sample_frames(video, count=4)
    way = FramePass(frames)
    pairs = list(way)
    assert [(frame.index, frame.time_s) for frame, _ in pairs] == [(5, 0.5), (15, 1.5), (25, 2.5), (35, 3.5)]
    for (_, picture), alone in zip(pairs, read_frames(frames), strict=True):
        np.testing.assert_array_equal(picture.pixels, alone.pixels)
    assert (len(way.waiting), way.reached_s) == (0, 3.5)


def test_a_pass_goes_by_the_clock_of_the_file(reel: Callable[..., tuple[Path, Reel]]) -> None:
    stamps = [7.0, 7.1, 7.2, 9.0, 9.1, 10.9]  # of 4 s at 10 frames a second, most of which were never recorded
    path, made = reel(stamps, fps=10.0, stated=40)
    found, way = passed(choose_frames(read_header(path), count=4))  # at 0.5, 1.5, 2.5 and 3.5 s
    assert [index for index, _ in found] == [3, 5]
    assert [time_s for _, time_s in found] == pytest.approx([2.0, 3.9])
    assert made.retrieved == [3, 5]
    assert len(way.waiting) == 0


def test_stamps_may_be_rounded(reel: Callable[..., tuple[Path, Reel]]) -> None:
    path, made = reel([round(index / 30 - 0.004, 3) for index in range(90)], fps=30.0, stated=90)
    frames = choose_frames(read_header(path), count=9)
    assert [index for index, _ in passed(frames)[0]] == [frame.index for frame in frames] == made.retrieved


def test_where_the_file_leaves_a_stamp_out_the_clock_goes_on(reel: Callable[..., tuple[Path, Reel]]) -> None:
    path, _ = reel([0.0, 0.5, 0.0, 0.0, 2.0, float("nan")], fps=2.0, stated=6)
    found, _ = passed(choose_frames(read_header(path), count=6))
    assert [time_s for _, time_s in found] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    path, _ = reel([0.0] * 4, fps=0.0, stated=4)
    found, _ = passed(sample_frames(path, count=4))
    assert [time_s for _, time_s in found] == pytest.approx([0.0, 0.04, 0.08, 0.12])


def test_a_video_that_does_not_say_its_length_is_measured(reel: Callable[..., tuple[Path, Reel]]) -> None:
    path, _ = reel([0.0, 0.2, 0.4, 0.6, 0.8], fps=1000.0, stated=-9e15)
    header = read_header(path)
    assert (header.count, header.fps, header.duration_s) == (5, pytest.approx(5.0), pytest.approx(1.0))
    path, _ = reel([], fps=0.0, stated=0)
    with pytest.raises(ImageUnreadable, match="without frames"):
        read_header(path)


def test_a_pass_ends_where_the_video_ends(reel: Callable[..., tuple[Path, Reel]]) -> None:
    path, _ = reel([0.0, 0.1, 0.2, 0.3, 0.4], fps=10.0, stated=40)
    found, way = passed(choose_frames(read_header(path), every_s=0.2))
    assert [index for index, _ in found] == [0, 2, 4]
    assert (len(way.waiting), way.reached_s) == (17, 0.4)
