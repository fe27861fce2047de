"""Score a video by some of its frames, and follow its faces through them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Final

import numpy as np
from PIL import Image

from deepfake_detect._options import check_flag, check_number, check_type
from deepfake_detect.drawing.annotate import COLOURS, Colour
from deepfake_detect.drawing.gallery import Tile, draw_gallery
from deepfake_detect.drawing.result import DrawnResult, short_name
from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable
from deepfake_detect.inputs.frames import FramePass, VideoFrame, VideoHeader, choose_frames, read_frames, read_header
from deepfake_detect.inputs.image import Picture
from deepfake_detect.predict.look import FaceChoice, check_faces
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.system.progress import progress_bar
from deepfake_detect.video.annotated import ScoredVideo, check_target, write_annotated
from deepfake_detect.video.timeline import Mark, clock, draw_timeline
from deepfake_detect.video.tracks import FrameScore, Track, follow_faces

AHEAD: Final = 4
"""Frames that are decoded before a thread takes them; each thread holds one more."""

SHOWN: Final = 5
"""Frames that are named and drawn as those to look at."""


def predict_video(
    predictor: Predictor,
    path: str | os.PathLike[str],
    *,
    max_frames: int = 32,
    every_s: float | None = None,
    faces: FaceChoice = "auto",
    threshold: float | None = None,
    save: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> VideoPrediction:
    """Score a video by evenly spaced frames.

    The video is gone through once; frames are decoded while others are scored, and only a few are held at a time,
    however many there are. See `follow_faces` for how the scores of the frames become one, and `VideoPrediction`
    for what that means.

    Args:
        predictor: A `Detector`.
        path: A video file that FFmpeg reads.
        max_frames: Maximum number of frames: the video is divided into as many stretches of equal length, and the
            middle frame of each is scored.
        every_s: Seconds from one frame to the next, in place of that; where these would be more than ``max_frames``,
            evenly spaced ones of them are scored.
        faces: As for `Predictor.predict`, in each frame.
        threshold: As for `Predictor.predict`.
        save: Where to write a copy of the video with its faces framed, and the scores over time below; ends in .mp4.
        progress: Show a progress bar, where standard error is a terminal.

    Returns:
        The verdict, and what was said of each frame. Where the file ends early, or is damaged, the frames before that
        are scored, and `VideoPrediction.lost_frames` counts those that are not there.

    Raises:
        ImageUnreadable: No video, or one in which no frame can be read; the message says what was found.
        InvalidOption: An argument out of range, or ``save`` cannot be written.
        MissingExtra: FFmpeg has no encoder for ``save``.
    """
    check_faces(faces, threshold=threshold)
    check_number("max_frames", max_frames, low=1, whole=True)
    check_number("every_s", every_s, above=0, optional=True)
    check_type("save", save, (str, os.PathLike, NoneType), expected="a path that ends in .mp4, or None")
    check_flag("progress", progress)
    if save is not None:
        check_target(save, source=os.fspath(path))
    start = time.perf_counter()
    header = read_header(path)
    reel = _Reel(_chosen(header, max_frames=max_frames, every_s=every_s))
    with closing(predictor.predict_many(reel, faces=faces, threshold=threshold)) as predictions:
        show = None if progress else False
        scored = list(progress_bar(predictions, total=reel.asked, title="score", unit="frame", show=show))
    if not scored:
        raise ImageUnreadable(f"{path}: none of {reel.asked} frames can be decoded; get a whole copy of it")
    scores = [
        FrameScore(index=frame.index, time_s=frame.time_s, faces=prediction.faces)
        for frame, prediction in zip(reel.given, scored, strict=True)
    ]
    frames, tracks = follow_faces(scores, card=predictor.card, threshold=threshold)
    worst = tracks[0] if tracks else None
    prediction = VideoPrediction(
        name=str(path),
        label=worst.label if worst else "no-face",
        score=worst.score if worst else None,
        logit=worst.logit if worst else None,
        uncertain=predictor.card.uncertain if threshold is None else None,
        frames=frames,
        tracks=tracks,
        duration_s=header.duration_s,
        lost_frames=reel.lost,
        error=reel.error,
        seconds=time.perf_counter() - start,
        **_common(scored[0]),
    )
    if save is not None:
        write_annotated(prediction.to_scored_video(), save, progress=progress)
    return prediction


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class VideoPrediction(DrawnResult):
    """The verdict on a video, by some of its frames.

    The score is that of the worst `Track`: by the card, of the mean of that face's logits over its frames. The card was
    calibrated on single pictures, so this is no probability that the video is forged: it puts videos in an order, and a
    threshold for them is best set on videos of one's own. Frames of one video are alike; thirty-two of them are not
    thirty-two opinions.

    A video that is forged for a short while can be ``"real"`` in the mean: see `share_fake` and `worst`, too.

    Attributes:
        name: Path of the video.
        label: ``"real"``, ``"fake"``, ``"uncertain"``, or ``"no-face"`` where no frame has a face.
        score: Of the worst track, 0..1; None without a face.
        logit: Mean of its logits; positive means fake.
        threshold: Score at and above which the label is ``"fake"``.
        uncertain: Scores between which the label is ``"uncertain"``; None where there is no such interval.
        frames: What was said of each, in the order of time; fewer than asked for where one is shown at several times.
        tracks: The faces that were followed, the worst first.
        size_hw: Height and width of the upright frames in pixels.
        duration_s: As the file says.
        lost_frames: How many of the frames asked for are not in the file, since it ends early or is damaged.
        model: The weights, such as ``"xception-fakefaces@1"``.
        revision: Their commit on the Hub; None for packaged or local weights.
        backend: As for `Prediction`.
        dtype: As for `Prediction`.
        seconds: Time that the video took.
        error: Why frames are lost; None where none is.
    """

    name: str
    label: str
    score: float | None
    logit: float | None
    threshold: float
    uncertain: tuple[float, float] | None = None
    frames: tuple[FrameScore, ...]
    tracks: tuple[Track, ...]
    size_hw: tuple[int, int]
    duration_s: float
    lost_frames: int = 0
    model: str
    revision: str | None = None
    backend: str = "torch"
    dtype: str = "float32"
    seconds: float
    error: DeepfakeDetectError | None = None

    @property
    def frames_with_face(self) -> int:
        """Count the frames in which there is a face."""
        return sum(1 for frame in self.frames if frame.faces)

    @property
    def share_fake(self) -> float | None:
        """Give the share of the frames with a face in which a face is called fake; None without a face."""
        fake = sum(1 for frame in self.frames if frame.label == "fake")
        return fake / self.frames_with_face if self.frames_with_face else None

    @property
    def worst(self) -> tuple[FrameScore, ...]:
        """Give the frames to look at: up to five with the highest scores, the highest first."""
        scored = [frame for frame in self.frames if frame.logit is not None]
        return tuple(sorted(scored, key=lambda frame: -(frame.logit or 0.0))[:SHOWN])

    def to_dict(self) -> dict[str, Any]:
        """Give the verdict as plain JSON values; pictures are not among them."""
        return {
            "name": self.name,
            "label": self.label,
            "score": self.score,
            "logit": self.logit,
            "threshold": self.threshold,
            "uncertain": None if self.uncertain is None else list(self.uncertain),
            "frames_with_face": self.frames_with_face,
            "share_fake": self.share_fake,
            "lost_frames": self.lost_frames,
            "worst_s": [frame.time_s for frame in self.worst],
            "tracks": [track.to_dict() for track in self.tracks],
            "frames": [frame.to_dict() for frame in self.frames],
            "size_hw": list(self.size_hw),
            "duration_s": self.duration_s,
            "model": self.model,
            "revision": self.revision,
            "backend": self.backend,
            "dtype": self.dtype,
            "seconds": self.seconds,
            "error": self.error and {"type": type(self.error).__name__, "message": str(self.error)},
        }

    def plot(self) -> Image.Image:
        """Draw the scores of every face over time, and the faces with the highest ones below.

        The line joins the frames of the worst track. The video is opened once more, and gone through up to the last of
        the frames that are drawn.

        Returns:
            RGB picture.

        Raises:
            ImageUnreadable: The video is gone.
        """
        faces = draw_gallery([(self._summary(), self._tiles())], columns=SHOWN)
        line = draw_timeline(
            self.marks(),
            duration_s=self.duration_s,
            threshold=self.threshold,
            uncertain=self.uncertain,
            width=faces.width,
        )
        picture = Image.new("RGB", (faces.width, faces.height + line.height), "white")
        picture.paste(faces, (0, 0))
        picture.paste(line, (0, faces.height))
        return picture

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the verdict as JSON, its `plot` as a picture, or the video with its faces framed.

        Args:
            path: Ends in .json; in .png, .jpg, .jpeg or .webp; or in .mp4, for which the video is gone through twice.

        Raises:
            InvalidOption: Any other ending.
            ImageUnreadable: The video is gone.
        """
        if Path(path).suffix.lower() == ".mp4":
            write_annotated(self.to_scored_video(), path)
        else:
            super(VideoPrediction, self).save(path)  # slots=True makes a new class, which bare super() does not know

    def to_scored_video(self) -> ScoredVideo:
        """Return what `write_annotated` draws."""
        score = "" if self.score is None else f" {self.score:.2f}"
        return ScoredVideo(
            name=self.name,
            title=f"Whole video: {self.label}{score}, by {self.model}. An estimate, no proof.",
            frames=self.frames,
            marks=self.marks(),
            threshold=self.threshold,
            uncertain=self.uncertain,
            size_hw=self.size_hw,
            duration_s=self.duration_s,
        )

    def __repr__(self) -> str:
        return f"VideoPrediction({self._summary()}, {self.model}, {short_name(self.name)})"

    def _summary(self) -> str:
        score = "no score" if self.score is None else f"score {self.score:.3f}"
        share = (
            "" if self.share_fake is None else f", {self.share_fake:.0%} of {self.frames_with_face} with a face fake"
        )
        lost = f", {self.lost_frames} lost" if self.lost_frames else ""
        return f"{self.label}, {score}, {len(self.frames)} frames{share}{lost}"

    def marks(self) -> list[Mark]:
        """Return a mark for the score of every face over time; the line joins those of the worst track."""
        worst, marks = self.tracks[0].number if self.tracks else None, []
        for frame in self.frames:
            for face, number in zip(frame.faces, frame.tracks, strict=True):
                marks.append(
                    Mark(time_s=frame.time_s, score=face.score, colour=_colour(face.label), joined=number == worst)
                )
            if not frame.faces:
                marks.append(Mark(time_s=frame.time_s, score=None, colour=_colour(None)))
        return marks

    def _tiles(self) -> list[Tile]:
        shown = sorted(self.worst, key=lambda frame: frame.index)
        frames = [VideoFrame(path=Path(self.name), index=frame.index, time_s=frame.time_s) for frame in shown]
        pictures = read_frames(frames) if frames else iter(())
        tiles = []
        for frame, picture in zip(shown, pictures, strict=True):
            assert frame.worst is not None
            tiles.append(
                Tile(
                    image=picture,
                    box_xyxy=frame.worst.box_xyxy,
                    caption=f"{frame.label} {frame.score:.3f}",
                    colour=_colour(frame.label),
                    note=f"at {clock(frame.time_s)}",
                )
            )
        return tiles


class _Reel:
    """The frames of a video as pictures that a predictor may open, only a few of them decoded at a time."""

    def __init__(self, frames: Sequence[VideoFrame]) -> None:
        self.asked, self.lost = len(frames), 0
        self.given: list[VideoFrame] = []
        self.error: ImageUnreadable | None = None
        self._frames, self._room = frames, threading.Semaphore(AHEAD)

    def __iter__(self) -> Iterator[_Decoded]:
        reel = FramePass(self._frames)
        self._room.acquire()
        for frame, picture in reel:
            self.given.append(frame)
            yield _Decoded(frame, picture, self._room)
            del picture
            self._room.acquire()
        self.lost = len(reel.waiting)
        if self.lost:
            self.error = ImageUnreadable(
                f"{self._frames[0].path}: the video ends or is damaged at {reel.reached_s:.2f} s, "
                f"before {self.lost} of {self.asked} frames; get a whole copy of it"
            )


class _Decoded:
    """A frame that is there until it is opened, and is decoded anew by who asks again."""

    def __init__(self, frame: VideoFrame, picture: Picture, room: threading.Semaphore) -> None:
        self.name, self._frame, self._room = frame.name, frame, room
        self._picture: Picture | None = picture

    def open_picture(self) -> Picture:
        picture, self._picture = self._picture, None
        if picture is None:
            return self._frame.open_picture()
        self._room.release()
        return picture


def _chosen(header: VideoHeader, *, max_frames: int, every_s: float | None) -> Sequence[VideoFrame]:
    frames = choose_frames(header, count=max_frames, every_s=every_s)
    if len(frames) <= max_frames:
        return frames
    places = ((np.arange(max_frames) + 0.5) * len(frames) / max_frames).astype(int)
    return [frames[place] for place in places]


def _common(first: Prediction) -> dict[str, Any]:
    assert first.size_hw is not None
    names = ("threshold", "size_hw", "model", "revision", "backend", "dtype")
    return {name: getattr(first, name) for name in names}


def _colour(label: str | None) -> Colour:
    return COLOURS.get(label or "", COLOURS["uncertain"])
