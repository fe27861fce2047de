"""Is a video scored by the frames that were asked for, in little memory, and is nothing made up?"""

from __future__ import annotations

import json
import math
import re
import shutil
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from deepfake_detect import Card, Detector, ImageUnreadable, Preprocessing, VideoPrediction
from deepfake_detect.cli.main import main
from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.inputs import frames as video_room
from deepfake_detect.inputs.frames import read_frames, sample_frames
from deepfake_detect.predict import predictor as predictor_room
from deepfake_detect.video.predict import AHEAD, predict_video
from deepfake_detect.video.timeline import Mark, clock, draw_timeline
from tests.small_world import PORTRAIT, empty_scene, group, small_bundle

FAKE = PORTRAIT.with_name("portrait_fake.jpg")
RULE = Card(name="rule", version=3, architecture="meso4", preprocessing=Preprocessing(size_px=64), uncertain=(0.4, 0.6))


class Redness(torch.nn.Module):
    """The logit is how much redder than green a crop is."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return 20 * (batch[:, 0] - batch[:, 1]).mean((1, 2))


def detector(card: Card = RULE) -> Detector:
    return Detector(model=Redness(), card=card, device="cpu")


def write(path: Path, pictures: Sequence[np.ndarray], *, fps: float = 10.0) -> Path:
    """Write RGB pictures of one size as Motion JPEG, or as MPEG-4 where the name ends in .mp4."""
    height, width = pictures[0].shape[:2]
    code = cv2.VideoWriter.fourcc(*("mp4v" if path.suffix == ".mp4" else "MJPG"))
    writer = cv2.VideoWriter(str(path), code, fps, (width, height))
    for pixels in pictures:
        writer.write(np.ascontiguousarray(pixels[..., ::-1]))
    writer.release()
    return path


def plain(*reds: int) -> list[np.ndarray]:
    """Give a small picture for each value of red; green and blue are 100."""
    return [np.full((48, 64, 3), (red, 100, 100), np.uint8) for red in reds]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write `turn.avi`: two seconds of the portrait and two of the fake; `red.avi`: 60 plain frames, ever redder."""
    folder = tmp_path_factory.mktemp("clips")
    write(folder / "turn.avi", [pixels(PORTRAIT)] * 20 + [pixels(FAKE)] * 20)
    write(folder / "red.avi", plain(*range(60, 180, 2)))
    write(folder / "empty.avi", [empty_scene()] * 4)
    content = (folder / "red.avi").read_bytes()
    (folder / "cut.avi").write_bytes(content[: len(content) // 2])
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def turn(clips: Path) -> VideoPrediction:
    return Detector.from_pretrained("xception-fakefaces", device="cpu").predict_video(clips / "turn.avi", max_frames=8)


def test_each_frame_is_scored_as_its_picture_is(clips: Path) -> None:
    video = predict_video(detector(), clips / "red.avi", max_frames=6, faces="none")
    pictures = list(read_frames(sample_frames(clips / "red.avi", count=6)))
    alone = [detector().predict(picture, faces="none") for picture in pictures]
    assert [frame.index for frame in video.frames] == [5, 15, 25, 35, 45, 55]
    assert [frame.time_s for frame in video.frames] == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    assert [frame.logit for frame in video.frames] == pytest.approx([one.logit for one in alone], abs=1e-5)
    assert [frame.score for frame in video.frames] == pytest.approx([one.score for one in alone], abs=1e-6)
    assert [frame.label for frame in video.frames] == [one.label for one in alone]
    assert len({frame.label for frame in video.frames}) > 1


def test_the_score_is_that_of_the_mean_logit_by_the_card(clips: Path) -> None:
    card = replace(RULE, temperature=2.5, bias=0.3)
    video = predict_video(detector(card), clips / "red.avi", max_frames=7, faces="none")
    mean = sum(frame.logit for frame in video.frames) / 7
    assert video.logit == pytest.approx(mean)
    assert video.score == pytest.approx(1 / (1 + math.exp(-(mean / 2.5 + 0.3))))
    assert video.score != pytest.approx(sum(frame.score for frame in video.frames) / 7, abs=1e-3)
    assert (video.threshold, video.uncertain, video.label) == (0.5, (0.4, 0.6), verdict(video.score))
    assert predict_video(detector(), clips / "red.avi", faces="none", threshold=0.0).label == "fake"
    strict = predict_video(detector(), clips / "red.avi", faces="none", threshold=1.0)
    assert (strict.label, strict.threshold, strict.uncertain) == ("real", 1.0, None)


def verdict(score: float) -> str:
    return "uncertain" if 0.4 < score < 0.6 else "fake" if score >= 0.5 else "real"


def test_a_video_that_turns_says_when(turn: VideoPrediction) -> None:
    assert [frame.label for frame in turn.frames[4:]] == ["fake"] * 4
    assert "fake" not in [frame.label for frame in turn.frames[:4]]
    assert (turn.share_fake, turn.frames_with_face, len(turn.tracks)) == (0.5, 8, 1)
    assert all(frame.time_s >= 2 for frame in turn.worst[:4])
    assert [frame.score for frame in turn.worst] == sorted((frame.score for frame in turn.frames), reverse=True)[:5]
    low, high = min(frame.logit for frame in turn.frames), max(frame.logit for frame in turn.frames)
    assert low < turn.logit < high
    assert (turn.size_hw, turn.duration_s, turn.lost_frames, turn.error) == ((512, 512), 4.0, 0, None)
    assert (turn.model, turn.dtype, turn.revision) == ("xception-fakefaces@1", "float32", None)
    assert 0 < turn.seconds < 60


@pytest.mark.parametrize("name", ["two.avi", "two.mp4"])
def test_one_forged_person_of_two_is_found(tmp_path: Path, name: str) -> None:
    both = group(2).copy()
    both[:, :210, 0] //= 2  # the left one is blue, the right one stays red
    video = detector().predict_video(write(tmp_path / name, [both] * 12), max_frames=6)
    assert [len(frame.faces) for frame in video.frames] == [2] * 6
    worst, other = video.tracks
    assert (worst.frames, other.frames) == (6, 6)
    assert video.logit == worst.logit > 0 > other.logit
    boxes = [face.box_xyxy for frame in video.frames for face, track in zip(frame.faces, frame.tracks, strict=True)
             if track == worst.number]  # fmt: skip
    assert len(boxes) == 6
    assert all(left > 200 for left, *_ in boxes)
    assert (video.label, video.share_fake) == ("fake", 1.0)
    assert [mark.score for mark in video.marks() if mark.joined] == [frame.score for frame in video.frames]


def test_frames_without_a_face_do_not_count(tmp_path: Path) -> None:
    empty = np.asarray(Image.fromarray(empty_scene()).resize((512, 512)))
    video = detector().predict_video(write(tmp_path / "clip.avi", [pixels(PORTRAIT)] * 3 + [empty] * 5))
    assert (len(video.frames), video.frames_with_face, video.share_fake) == (8, 3, 1.0)
    assert [mark.score is None for mark in video.marks()] == [False] * 3 + [True] * 5
    assert (video.tracks[0].frames, video.label, len(video.worst)) == (3, "fake", 3)
    assert video.logit == pytest.approx(sum(frame.logit for frame in video.frames[:3]) / 3)


def test_which_frames_there_are(clips: Path) -> None:
    def times(**options: Any) -> list[float]:
        video = predict_video(detector(), clips / "red.avi", **{"faces": "none", **options})
        return [round(frame.time_s, 3) for frame in video.frames]

    assert len(times()) == 32
    assert times(every_s=2.0) == [0.0, 2.0, 4.0]
    assert times(every_s=1.0, max_frames=3) == [1.0, 3.0, 5.0]
    assert times(max_frames=1) == [3.0]
    assert len(times(max_frames=500)) == 60
    for options in ({"max_frames": 0}, {"every_s": 0.0}, {"faces": "some"}, {"threshold": 2.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            times(**options)


def test_only_the_frames_asked_for_are_decoded_in_one_pass(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"opened": 0, "decoded": 0, "converted": 0}
    opened, decoded, converted = video_room._open, video_room._Video.frames, video_room._picture

    def count(name: str) -> None:
        counted[name] += 1

    def frames(video: Any) -> Any:
        for frame in decoded(video):
            count("decoded")
            yield frame

    monkeypatch.setattr(video_room, "_open", lambda path: count("opened") or opened(path))
    monkeypatch.setattr(video_room._Video, "frames", frames)
    monkeypatch.setattr(video_room, "_picture", lambda *arguments: count("converted") or converted(*arguments))
    predict_video(detector(), clips / "red.avi", max_frames=5, faces="none")
    assert counted == {"opened": 2, "decoded": 55, "converted": 5}  # once for the header; the last one is frame 54


def test_few_frames_are_alive_at_a_time(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most, decode, look, workers = 0, 0, video_room._picture, predictor_room.look_at, 2

    def counted(*arguments: Any) -> Any:
        nonlocal alive, most
        picture = decode(*arguments)
        alive += 1
        most = max(most, alive)
        weakref.finalize(picture.pixels, gone)
        return picture

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.004)
        return look(*arguments, **options)

    monkeypatch.setattr(video_room, "_picture", counted)
    monkeypatch.setattr(predictor_room, "look_at", slow)
    monkeypatch.setattr(predictor_room, "count_processors", lambda: workers)
    found = predict_video(detector(), clips / "red.avi", max_frames=60, faces="none")
    assert len(found.frames) == 60
    assert alive == 0
    assert 2 <= most <= AHEAD + workers + 1


def test_no_face_is_no_score(clips: Path) -> None:
    video = detector().predict_video(clips / "empty.avi")
    assert (video.label, video.score, video.logit, video.share_fake) == ("no-face", None, None, None)
    assert (video.frames_with_face, video.worst, video.tracks, len(video.frames)) == (0, (), (), 4)
    assert repr(video) == "VideoPrediction(no-face, no score, 4 frames, rule@3, empty.avi)"
    assert video.plot().height > 240
    assert json.loads(video.to_json())["worst_s"] == []


def test_a_cut_video_is_scored_as_far_as_it_goes(clips: Path) -> None:
    video = predict_video(detector(), clips / "cut.avi", max_frames=20, faces="none")
    whole = predict_video(detector(), clips / "red.avi", max_frames=20, faces="none")
    kept = len(video.frames)
    assert 5 < kept < 15
    assert (video.lost_frames, video.duration_s) == (20 - kept, 6.0)
    assert [frame.logit for frame in video.frames[:-1]] == [frame.logit for frame in whole.frames[: kept - 1]]
    said = rf"cut\.avi: the video ends or is damaged at (\d\.\d\d) s, before {20 - kept} of 20 frames"
    ended = re.search(said, str(video.error))
    assert ended
    assert video.frames[-1].time_s <= float(ended[1]) < video.frames[-1].time_s + 0.3
    assert f"{20 - kept} lost" in repr(video)
    assert video.to_dict()["error"] == {"type": "ImageUnreadable", "message": str(video.error)}


def test_bad_videos_are_errors_that_name_the_file(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, words in (("none.mp4", "no video at"), ("text.mp4", "not a video"), ("", "no video at")):
        with pytest.raises(ImageUnreadable, match=words) as caught:
            detector().predict_video(clips / name)
        assert str(clips / name) in str(caught.value)
    monkeypatch.setattr(video_room._Video, "frames", lambda _: iter(()))
    with pytest.raises(ImageUnreadable, match=r"red\.avi: none of 32 frames can be decoded"):
        detector().predict_video(clips / "red.avi")


def test_an_error_while_scoring_is_raised_and_does_not_hang(clips: Path) -> None:
    class Broken(Redness):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        Detector(model=Broken(), card=RULE, device="cpu").predict_video(clips / "red.avi", faces="none")


def test_what_the_result_tells(turn: VideoPrediction, tmp_path: Path) -> None:
    values = json.loads(turn.to_json())
    assert values == json.loads(json.dumps(turn.to_dict()))
    assert values["worst_s"] == [frame.time_s for frame in turn.worst]
    assert [frame["time_s"] for frame in values["frames"]] == [frame.time_s for frame in turn.frames]
    assert values["frames"][0]["faces"][0]["track"] == values["tracks"][0]["number"] == 0
    assert repr(turn) == (
        f"VideoPrediction({turn.label}, score {turn.score:.3f}, 8 frames, 50% of 8 with a face fake, "
        "xception-fakefaces@1, turn.avi)"
    )
    turn.save(tmp_path / "turn.json")
    assert json.loads((tmp_path / "turn.json").read_text()) == values
    turn.save(tmp_path / "turn.png")
    with Image.open(tmp_path / "turn.png") as drawn:
        assert drawn.size == turn.plot().size
    with pytest.raises(ValueError, match="expected"):
        turn.save(tmp_path / "turn.txt")
    assert turn._repr_html_().startswith('<figure><img src="data:image/png;base64,')


def test_the_picture_shows_the_worst_faces_and_all_scores(turn: VideoPrediction) -> None:
    drawn = np.asarray(turn.plot()).astype(int)
    tile = drawn[46 + 20 : 46 + 148, 12 + 20 : 12 + 148]
    assert tile.std() > 20  # a face, not an empty tile
    tiles = turn._tiles()
    assert [tile.note for tile in tiles] == sorted(f"at {clock(frame.time_s)}" for frame in turn.worst)
    alone = {frame.time_s: frame.score for frame in turn.worst}
    assert [tile.caption.split()[1] for tile in tiles] == [f"{alone[time_s]:.3f}" for time_s in sorted(alone)]
    orange = (np.abs(drawn - COLOURS["fake"]).sum(2) == 0).sum()
    assert orange > 1000


def test_a_video_that_is_gone_still_has_its_words(clips: Path, tmp_path: Path) -> None:
    shutil.copy(clips / "turn.avi", tmp_path / "mine.avi")
    video = detector().predict_video(tmp_path / "mine.avi", max_frames=2)
    (tmp_path / "mine.avi").unlink()
    with pytest.raises(ImageUnreadable, match="no video at"):
        video.plot()
    assert video._repr_html_().startswith("<p>")


def test_a_timeline_puts_scores_where_they_belong() -> None:
    marks = [
        Mark(time_s=time_s, score=score, colour=COLOURS["real" if score < 0.5 else "fake"])
        for time_s, score in ((0.0, 0.0), (5.0, 1.0), (10.0, 0.25))
    ]
    drawn = np.asarray(draw_timeline(marks, duration_s=10.0, threshold=0.9, uncertain=(0.3, 0.6), width=500))
    for mark, (x, y) in zip(marks, ((52, 196), (266, 16), (480, 151)), strict=True):
        assert tuple(drawn[y, x]) == mark.colour
    assert tuple(drawn[115, 100]) == (240, 240, 240)
    assert tuple(drawn[34, 100]) == COLOURS["fake"]
    ticked = np.asarray(draw_timeline([Mark(time_s=5.0, score=None, colour=(1, 2, 3))], duration_s=10.0, threshold=0.9))
    assert (ticked == (1, 2, 3)).all(2).sum() == 0


@pytest.mark.parametrize(("time_s", "words"), [(0.0, "0 s"), (59.9, "59.9 s"), (60.0, "1:00"), (7322.0, "2:02:02")])
def test_clock(time_s: float, words: str) -> None:
    assert clock(time_s) == words


@pytest.fixture
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    bundle = small_bundle(tmp_path_factory.mktemp("bundle"))

    def ask(*arguments: object) -> Result:
        words = ["video", "--model", str(bundle), "--device", "cpu", "--max-frames", "2", *map(str, arguments)]
        result = CliRunner().invoke(main, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return ask


def test_the_command_scores_a_folder(ask: Callable[..., Result], clips: Path, tmp_path: Path) -> None:
    shutil.copy(clips / "turn.avi", tmp_path / "one.avi")
    shutil.copy(clips / "empty.avi", tmp_path / "two.avi")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "still.jpg").write_bytes(PORTRAIT.read_bytes())
    done = ask(tmp_path, "--json", "--save", tmp_path / "kept")
    one, two = json.loads(done.stdout)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [Path(row["name"]).name for row in (one, two)] == ["one.avi", "two.avi"]
    assert (len(one["frames"]), one["model"], one["error"], two["label"]) == (2, "small@0", None, "no-face")
    kept = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert kept == ["one.json", "one.mp4", "one.png", "two.json", "two.mp4", "two.png"]
    assert json.loads((tmp_path / "kept" / "one.json").read_text())["path"] == str(tmp_path / "one.avi")


def test_the_command_names_what_it_cannot_score(ask: Callable[..., Result], clips: Path) -> None:
    done = ask(clips / "text.mp4", clips / "empty.avi", "--jsonl")
    bad, good = map(json.loads, done.stdout.splitlines())
    assert (done.exit_code, bad["label"], good["label"]) == (1, "error", "no-face")
    assert "not a video" in bad["error"]["message"] and str(clips / "text.mp4") in done.stderr
    lost = ask(clips / "cut.avi", "--jsonl")
    assert (lost.exit_code, json.loads(lost.stdout)["lost_frames"]) == (1, 1)
    assert "the video ends or is damaged" in lost.stderr
    assert ask(clips / "red.avi", "--every-s", "0").exit_code == 2
    assert ask(clips / "red.avi", "--json", "--jsonl").exit_code == 2


def test_the_command_in_words_and_as_a_table(ask: Callable[..., Result], clips: Path) -> None:
    words = ask(clips / "turn.avi", clips / "text.mp4", clips / "empty.avi").stdout.splitlines()
    assert words[0].endswith(str(clips / "turn.avi"))
    assert words[1].startswith(" " * 19 + "2 frames, 2 with a face, ")
    assert words[2].startswith(" " * 19 + "highest at ")
    assert words[3].startswith("error")
    assert words[5] == " " * 19 + "2 frames, 0 with a face"
    head, row, error = ask(clips / "turn.avi", clips / "text.mp4", "--csv").stdout.splitlines()
    assert head.startswith("name,label,score,logit,threshold,frames,frames_with_face,share_fake,lost_frames,duration_s")
    assert row.split(",")[5:7] == ["2", "2"]
    assert row.split(",")[9:12] == ["4.0", "512", "512"]
    assert error.split(",")[1] == "error"
