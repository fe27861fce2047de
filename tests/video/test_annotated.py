"""Test the annotated copy of a video: its times, its boxes between scored frames, and that no half file is left."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deepfake_detect import Detector, InvalidOption, MissingExtra, VideoPrediction
from deepfake_detect.cli.main import main
from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.faces.face import Face
from deepfake_detect.video import annotated, encode
from deepfake_detect.video.motion import HOLD_S, PATIENCE_S, Motion, Sighting, Stage, follow_boxes
from tests.small_world import PORTRAIT, small_bundle
from tests.video.test_predict import detector

TIMES_MS = [0, 40, 80, 200, 240, 280, 320, 500, 540, 580, 620, 660]
SPEED = 0.06  # pixels in a millisecond


def write_moving(path: Path, *, size_wh: tuple[int, int] = (322, 258)) -> Path:
    """Write the portrait as it moves to the right, in frames of uneven length."""
    head = Image.open(PORTRAIT).convert("RGB").resize((256, 256))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_ms in TIMES_MS:
            picture = Image.new("RGB", size_wh, (90, 100, 110))
            picture.paste(head, (round(SPEED * time_ms), 0))
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.time for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moving(tmp_path_factory.mktemp("clip") / "moving.mp4")


@pytest.fixture(scope="module")
def prediction(clip: Path) -> VideoPrediction:
    return detector().predict_video(clip, max_frames=2)


def test_every_frame_keeps_its_time_and_its_box(clip: Path, prediction: VideoPrediction, tmp_path: Path) -> None:
    prediction.save(tmp_path / "out.mp4")
    times_s, drawn = read(tmp_path / "out.mp4")
    assert times_s == pytest.approx([time_ms / 1000 for time_ms in TIMES_MS], abs=1e-4)
    assert drawn[0].shape[0] % 2 == drawn[0].shape[1] % 2 == 0
    (face,) = prediction.frames[0].faces
    colour = np.array(COLOURS[str(face.label)])
    start_ms = TIMES_MS[prediction.frames[0].index]
    for time_ms, picture in zip(TIMES_MS, drawn, strict=True):  # frames are drawn at twice their size
        middle = (face.box_xyxy[1] + face.box_xyxy[3]) / 2
        centre = face.box_xyxy[0] + face.box_xyxy[2] + 2 * SPEED * (time_ms - start_ms)
        row = np.abs(picture[round(2 * middle)].astype(int) - colour).sum(1)
        found = np.flatnonzero(row < 90)
        assert len(found) and abs((found.min() + found.max()) / 2 - centre) < 8, time_ms
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_cursor_moves_along_the_scores(prediction: VideoPrediction, tmp_path: Path) -> None:
    prediction.save(tmp_path / "out.mp4")
    _, drawn = read(tmp_path / "out.mp4")
    strips = [picture[-200:-60].astype(int).mean((0, 2)) for picture in drawn]
    places = [int(strip[52:].argmin()) for strip in strips]
    assert places == sorted(places) and places[-1] - places[0] > 0.8 * (drawn[0].shape[1] - 80)


@pytest.mark.parametrize(("scored", "boxes"), [("none", 1), ("auto", 0)])
def test_frames_without_a_face_and_whole_frames_are_drawn(tmp_path: Path, scored: Any, boxes: int) -> None:
    path = write_moving(tmp_path / "tall.mp4", size_wh=(64, 96))
    prediction = detector().predict_video(path, max_frames=2, faces=scored, save=tmp_path / "out.mp4", threshold=0.0)
    assert len(prediction.frames[0].faces) == boxes
    _, drawn = read(tmp_path / "out.mp4")
    assert len(drawn) == len(TIMES_MS) and drawn[0].shape[1] == 480
    orange = np.abs(drawn[5][:480].astype(int) - COLOURS["fake"]).sum(2) < 90
    assert orange.any() == bool(boxes)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    prediction: VideoPrediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    target, count, write = tmp_path / "out.mp4", 0, encode.VideoWriter.write
    target.write_bytes(b"before")

    def fail(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise error
        write(*arguments)

    monkeypatch.setattr(annotated.VideoWriter, "write", fail)
    with pytest.raises(error):
        prediction.save(target)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"] and target.read_bytes() == b"before"


def test_a_target_that_cannot_be_written_is_refused_before_scoring(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = {tmp_path / "out.avi": r"ends in \.mp4", tmp_path / "no" / "out.mp4": "no folder", clip: "itself"}
    for target, words in targets.items():
        with pytest.raises(InvalidOption, match=words):
            Detector.predict_video(None, clip, save=target)  # type: ignore[arg-type]
    monkeypatch.setattr(encode, "ENCODERS", {"no-such-encoder": {}})
    with pytest.raises(MissingExtra, match="no-such-encoder"):
        Detector.predict_video(None, clip, save=tmp_path / "out.mp4")  # type: ignore[arg-type]


def test_a_video_that_ffmpeg_cannot_write_as_h264_is_written_as_vp9(
    prediction: VideoPrediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "ENCODERS", {"libvpx-vp9": encode.ENCODERS["libvpx-vp9"]})
    prediction.save(tmp_path / "out.mp4")
    assert len(read(tmp_path / "out.mp4")[0]) == len(TIMES_MS)


def sighting(time_s: float, left: float, face: Face | None = None) -> Sighting:
    return Sighting(time_s=time_s, box_xyxy=(left, 0, left + 10, 10), face=face)


def scored(score: float) -> Face:
    return Face(box_xyxy=(0, 0, 1, 1), landmarks_xy=np.zeros((5, 2), np.float32), confidence=1, score=score)


def test_faces_are_followed_by_where_they_stand() -> None:
    moments = [(time_s, [sighting(time_s, 40 * time_s), sighting(time_s, 100)]) for time_s in (0.0, 0.1, 0.2)]
    first, second = follow_boxes(moments)
    assert first.box_at(0.05) == pytest.approx((2, 0, 12, 10)) and second.box_at(0.05) == (100, 0, 110, 10)
    assert first.box_at(0.2 + HOLD_S) == (8, 0, 18, 10) and first.box_at(0.2 + 1.1 * HOLD_S) is None
    gone = 0.2 + PATIENCE_S
    assert len(follow_boxes([*moments, (gone - 0.01, [sighting(gone - 0.01, 8)])])) == 2
    assert len(follow_boxes([*moments, (gone + 0.01, [sighting(gone + 0.01, 8)])])) == 3
    assert len(follow_boxes([(0.0, [sighting(0.0, 0)]), (0.1, [sighting(0.1, 9)])])) == 2  # too far away


def test_the_verdict_is_the_nearest_in_time() -> None:
    motion = Motion([sighting(0, 0, scored(0.1)), sighting(1, 0), sighting(2, 0, scored(0.9))])
    assert [motion.face_at(time_s).score for time_s in (-1, 0.9, 1.1, 5)] == [0.1, 0.1, 0.9, 0.9]  # type: ignore[union-attr]
    assert Motion([sighting(0, 0)]).face_at(0) is None


def test_only_what_is_there_is_on_the_stage() -> None:
    motions = [Motion([sighting(float(start), 0), sighting(start + 0.4, 0)]) for start in (2, 0, 1)]
    stage = Stage(motions)
    assert [len(stage.at(time_s)) for time_s in (0.0, 0.2, 0.45, 0.7, 1.0, 2.6)] == [1, 1, 1, 0, 1, 0]


def test_the_command_writes_one_file_or_refuses(clip: Path, tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    run: Callable[..., Any] = lambda *words: CliRunner().invoke(  # noqa: E731
        main, ["video", "--model", str(bundle), "--max-frames", "1", *map(str, words)]
    )
    done = run(clip, "--save", tmp_path / "out.mp4", "--jsonl")
    assert done.exit_code == 0 and done.stderr == "" and len(read(tmp_path / "out.mp4")[0]) == len(TIMES_MS)
    several = run(clip, clip, "--save", tmp_path / "out.mp4")
    assert several.exit_code == 2 and "name a folder" in several.stderr
    (tmp_path / "file").touch()
    assert run(clip, "--save", tmp_path / "file").exit_code == 2


def test_a_video_of_uneven_frames_is_scored_to_its_end(prediction: VideoPrediction) -> None:
    assert prediction.duration_s == pytest.approx(0.7, abs=0.05)
    assert [frame.time_s for frame in prediction.frames] == pytest.approx([0.2, 0.5], abs=0.05)
