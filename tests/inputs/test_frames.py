"""Test that the frames of a video are evenly spaced, and those that were requested."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest

from deepfake_detect.errors import ImageUnreadable, InvalidOption
from deepfake_detect.inputs import frames as frames_module
from deepfake_detect.inputs.frames import FramePass, VideoFrame, choose_frames, read_frames, read_header, sample_frames
from deepfake_detect.inputs.image import Picture, open_image


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
    with pytest.raises(InvalidOption, match="expected at least 1"):
        sample_frames(video, count=0)


def write_stamped(path: Path, stamps_s: Sequence[float], *, fps: int = 10, **settings: Any) -> Path:
    """Write a video whose frame n has the brightness 5 n + 20, with a time stamp for each frame."""
    options = {"codec": "libx264", "aspect": None, "rotation": 0, "interlaced": False, "size": (64, 48), **settings}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(options["codec"], rate=fps)
        stream.width, stream.height = options["size"]
        stream.pix_fmt = "yuv420p"
        base = Fraction(1, fps if path.suffix in (".avi", ".mpg") else 1000)  # which know no other stamps
        stream.time_base = stream.codec_context.time_base = base
        if options["aspect"]:
            stream.codec_context.sample_aspect_ratio = options["aspect"]
        if options["interlaced"]:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me
        for number, stamp_s in enumerate(stamps_s):
            shape = (stream.height, stream.width, 3)
            pixels = options["pixels"](number) if "pixels" in options else np.full(shape, 5 * number + 20, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(stamp_s / base), base
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def number_of(picture: Picture) -> int:
    return round((float(picture.pixels.mean()) - 20) / 5)


def passed(frames: Sequence[VideoFrame]) -> tuple[list[tuple[int, float]], FramePass]:
    """Go through a video: index and time of each frame, and the pass; the pictures must be those frames."""
    way, found = FramePass(frames), []
    for frame, picture in way:
        assert number_of(picture) == frame.index
        found.append((frame.index, frame.time_s))
    return found, way


def test_a_pass_gives_the_frames_asked_for(video: Path) -> None:
    frames = sample_frames(video, count=4)
    way = FramePass(frames)
    pairs = list(way)
    assert [(frame.index, frame.time_s) for frame, _ in pairs] == [(5, 0.5), (15, 1.5), (25, 2.5), (35, 3.5)]
    for (_, picture), alone in zip(pairs, read_frames(frames), strict=True):
        np.testing.assert_array_equal(picture.pixels, alone.pixels)
    assert (len(way.waiting), way.reached_s) == (0, 3.5)


def test_a_pass_goes_by_the_time_stamps_of_the_file(tmp_path: Path) -> None:
    stamps = [7.0, 7.1, 7.2, 9.0, 9.1, 10.9]  # of 4 s at 10 frames a second, most of which were never recorded
    path = write_stamped(tmp_path / "clip.mkv", stamps)
    wanted = [VideoFrame(path=path, index=0, time_s=time_s) for time_s in (0.5, 1.5, 2.5, 3.5)]
    found, way = passed(wanted)
    assert [index for index, _ in found] == [3, 5]
    assert [time_s for _, time_s in found] == pytest.approx([2.0, 3.9])
    assert len(way.waiting) == 0


def test_stamps_may_be_rounded(tmp_path: Path) -> None:
    path = write_stamped(tmp_path / "clip.mkv", [round(index / 30 + 0.004, 3) for index in range(45)], fps=30)
    frames = choose_frames(read_header(path), count=9)
    assert [index for index, _ in passed(frames)[0]] == [frame.index for frame in frames]


@pytest.mark.parametrize("rate", [2.0, None])
def test_where_the_file_leaves_stamps_out_the_clock_goes_on(rate: float | None) -> None:
    stamps = [0.0, 0.5, 0.0, 0.0, 2.0, None]
    video = object.__new__(frames_module._Video)
    video.fps = rate or 25.0
    video.frames = lambda: (SimpleNamespace(time=stamp) for stamp in stamps)  # type: ignore[method-assign]
    step = 1 / video.fps
    expected = [0.0, 0.5, 0.5 + step, 0.5 + 2 * step, 2.0, 2.0 + step]
    assert [time_s for time_s, _ in video.timed_frames()] == pytest.approx(expected)


def test_a_video_that_does_not_state_its_length_is_measured(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "live.mkv"), "w", options={"live": "1"}) as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    header = read_header(tmp_path / "live.mkv")
    assert (header.count, header.fps, header.duration_s) == (6, pytest.approx(5.0), pytest.approx(1.2))


def test_a_pass_ends_where_the_video_ends(tmp_path: Path) -> None:
    path = write_stamped(tmp_path / "clip.mkv", [0.0, 0.1, 0.2, 0.3, 0.4])
    wanted = [VideoFrame(path=path, index=2 * n, time_s=0.2 * n) for n in range(20)]
    found, way = passed(wanted)
    assert [index for index, _ in found] == [0, 2, 4]
    assert (len(way.waiting), way.reached_s) == (17, pytest.approx(0.4))


@pytest.mark.parametrize(
    ("codec", "ending"),
    [
        ("libx264", ".mp4"),
        ("libx265", ".mkv"),
        ("libsvtav1", ".mp4"),
        ("libvpx-vp9", ".webm"),
        ("mpeg2video", ".mpg"),
        ("mpeg4", ".avi"),
        ("wmv2", ".wmv"),
    ],
)
def test_codecs_are_read(tmp_path: Path, codec: str, ending: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    stamps = [number / 25 for number in range(30)]
    path = write_stamped(tmp_path / f"clip{ending}", stamps, fps=25, codec=codec, size=(128, 96))
    frames = sample_frames(path, count=3)
    assert len(frames) == 3
    numbers = [number_of(picture) for picture in read_frames(frames)]
    assert numbers == pytest.approx([frame.index for frame in frames], abs=1)  # as far as brightness survives


def test_interlaced_frames_are_their_own_pictures(tmp_path: Path) -> None:
    """OpenCV gives frames that it never filled: those of the video before."""
    bright = write_stamped(tmp_path / "bright.mp4", [n / 10 for n in range(9)], pixels=lambda _: solid(230))
    grey = write_stamped(
        tmp_path / "grey.mp4", [n / 10 for n in range(9)], interlaced=True, pixels=lambda _: solid(100)
    )
    with av.open(str(grey)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    for path, level in ((bright, 230), (grey, 100), (bright, 230), (grey, 100)):
        for picture in read_frames(sample_frames(path, count=3)):
            assert np.abs(picture.pixels.astype(int) - level).max() <= 3


def solid(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


@pytest.mark.parametrize(("aspect", "size_hw"), [(Fraction(2), (48, 128)), (Fraction(3, 4), (64, 64))])
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, size_hw: tuple[int, int]) -> None:
    path = write_stamped(tmp_path / "clip.mkv", [0.0, 0.1, 0.2], aspect=aspect)
    picture = sample_frames(path, count=1)[0].open_picture()
    assert picture.size_hw == size_hw and picture.pixels.shape == (*size_hw, 3)


@pytest.mark.parametrize(("turns", "at"), [(0, (0, 0)), (1, (-1, 0)), (2, (-1, -1)), (3, (0, -1))])
def test_a_turned_video_is_upright(video: Path, turns: int, at: tuple[int, int]) -> None:
    pixels = solid(30)
    pixels[:16, :16] = 250  # above, on the left
    decoded = SimpleNamespace(
        width=64, height=48, rotation={0: 0, 1: 90, 2: -180, 3: -90}[turns], to_ndarray=lambda **_: pixels
    )
    reel = SimpleNamespace(pixel_aspect=Fraction(1))
    picture = frames_module._picture(reel, decoded, VideoFrame(path=video, index=0, time_s=0.0))  # type: ignore[arg-type]
    assert picture.pixels[at].tolist() == [250, 250, 250]
    assert picture.size_hw == ((64, 48) if turns % 2 else (48, 64)) and picture.pixels.flags.c_contiguous


def test_ffmpeg_writes_nothing_to_stderr(tmp_path: Path, video: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(write_stamped(tmp_path / "a.mp4", [n / 10 for n in range(20)]).read_bytes())
    content[600:700] = bytes(100)
    (tmp_path / "b.mp4").write_bytes(content)
    (tmp_path / "c.avi").write_bytes(video.read_bytes()[:9000])
    for path in (tmp_path / "b.mp4", tmp_path / "c.avi"):
        with contextlib.suppress(ImageUnreadable):
            list(FramePass(sample_frames(path, count=4)))
    assert capfd.readouterr() == ("", "")


def test_a_playlist_is_no_video(tmp_path: Path, video: Path) -> None:
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:4,\nfile://{video}\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{video}'\n")
    for name in ("list.mp4", "concat.mp4"):
        with pytest.raises(ImageUnreadable, match="not a video that FFmpeg reads"):
            read_header(tmp_path / name)
