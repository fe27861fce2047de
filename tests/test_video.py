"""Are the frames of a video evenly spaced, and the ones that were asked for?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.image import open_image
from deepfake_detect.video import VideoFrame, read_frames, sample_frames


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
