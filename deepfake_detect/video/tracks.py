"""Follow faces from frame to frame, and judge each by its mean logit."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from deepfake_detect.faces.face import Box, Face, overlap, worst_face
from deepfake_detect.predict.verdict import judge
from deepfake_detect.weights.card import Card

OVERLAP: Final = 0.3
"""Least intersection over union of two boxes for them to be the same face."""

PATIENCE: Final = 2
"""Number of frames after the last detection of a face in which it is still matched."""

ENOUGH: Final = 0.25
"""Share of the frames with a face in which a face must be detected to get a verdict of its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameScore:
    """The verdict on one frame of a video.

    Attributes:
        index: Number of the frame, counted from 0.
        time_s: Time since the first frame, by the clock of the file.
        faces: Faces of the frame, the largest first.
        tracks: Number of the `Track` that each face belongs to; None for a face that was detected too rarely.
    """

    index: int
    time_s: float
    faces: tuple[Face, ...]
    tracks: tuple[int | None, ...] = ()

    @property
    def worst(self) -> Face | None:
        """Return the face with the highest score; None without a face."""
        return worst_face(self.faces)

    @property
    def score(self) -> float | None:
        """Return the highest score of the faces; None without a face."""
        return self.worst.score if self.worst else None

    @property
    def logit(self) -> float | None:
        """Return the logit of the face with the highest score; None without a face."""
        return self.worst.logit if self.worst else None

    @property
    def label(self) -> str:
        """Return the label of the face with the highest score, or ``"no-face"``."""
        return (self.worst.label or "") if self.worst else "no-face"

    def to_dict(self) -> dict[str, Any]:
        """Return the frame as plain JSON values."""
        faces = zip(self.faces, self.tracks, strict=True)
        return {
            "index": self.index,
            "time_s": self.time_s,
            "label": self.label,
            "score": self.score,
            "logit": self.logit,
            "faces": [{**face.to_dict(), "track": number} for face, number in faces],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One face through the frames of a video, followed by its position: a place in the picture, not a person.

    Attributes:
        number: Number in the order of appearance, from 0. None for all faces together that were detected too rarely to
            get a verdict of their own; of these the highest logit in each frame counts.
        frames: Number of frames in which it was detected.
        first_s: Time of the first of these frames.
        last_s: Time of the last of these frames.
        logit: Mean logit over these frames.
        score: Score of the mean logit, calibrated as the card says.
        label: Label of that score.
    """

    number: int | None
    frames: int
    first_s: float
    last_s: float
    logit: float
    score: float
    label: str

    def to_dict(self) -> dict[str, Any]:
        """Return the track as plain JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def follow_faces(
    frames: Sequence[FrameScore], *, card: Card, threshold: float | None = None
) -> tuple[tuple[FrameScore, ...], tuple[Track, ...]]:
    """Follow faces from frame to frame by the overlap of their boxes, and judge each by its mean logit.

    A face that is detected in at least a quarter of the frames with a face gets a verdict of its own, so that one
    forged face among real ones is not lost in a mean over all. Faces that are detected more rarely, after a cut or a
    fast move, are judged together, if they make up a quarter of these frames: a single frame among many decides
    nothing.

    Args:
        frames: Frames in the order of time, with scored faces.
        card: Card whose calibration turns a mean logit into score and label.
        threshold: Threshold to use in place of the card's.

    Returns:
        The frames with the numbers of their tracks, and the tracks, the most suspicious first.
    """
    numbers = _numbers([[face.box_xyxy for face in frame.faces] for frame in frames])
    enough = max(1, math.ceil(ENOUGH * sum(1 for frame in frames if frame.faces)))
    often = Counter(number for row in numbers for number in row)
    long = {number: place for place, number in enumerate(n for n, count in often.items() if count >= enough)}
    numbered = tuple(
        replace(frame, tracks=tuple(long.get(number) for number in row))
        for frame, row in zip(frames, numbers, strict=True)
    )
    tracks = [_track(number, logits, card, threshold) for number, logits in _timed_logits(numbered).items()]
    kept = [track for track in tracks if track.number is not None or track.frames >= enough]
    return numbered, tuple(sorted(kept, key=lambda track: -track.logit))


def _numbers(frames: Sequence[Sequence[Box]]) -> list[list[int]]:
    """Number the boxes of every frame, equal numbers for the same face; boxes are matched by falling overlap."""
    last: dict[int, tuple[int, Box]] = {}  # number of a face: the frame in which it was last detected, and its box
    numbers: list[list[int]] = []
    for at, boxes in enumerate(frames):
        known = {number: box for number, (frame, box) in last.items() if at - frame <= PATIENCE}
        pairs = (
            (overlap(box, other), here, number) for here, box in enumerate(boxes) for number, other in known.items()
        )
        row: dict[int, int] = {}
        for shared, here, number in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
            if shared >= OVERLAP and here not in row and number not in row.values():
                row[here] = number
        for here, box in enumerate(boxes):
            number = row.setdefault(here, len(last))
            last[number] = (at, box)
        numbers.append([row[here] for here in range(len(boxes))])
    return numbers


def _timed_logits(frames: Sequence[FrameScore]) -> dict[int | None, list[tuple[float, float]]]:
    """Return time and logit of every track in each of its frames, the highest logit where there are several."""
    timed: dict[int | None, list[tuple[float, float]]] = defaultdict(list)
    for frame in frames:
        here: dict[int | None, float] = {}
        for face, number in zip(frame.faces, frame.tracks, strict=True):
            here[number] = max(_logit(face), here.get(number, -math.inf))
        for number, logit in here.items():
            timed[number].append((frame.time_s, logit))
    return timed


def _track(number: int | None, timed: Sequence[tuple[float, float]], card: Card, threshold: float | None) -> Track:
    logit = math.fsum(value for _, value in timed) / len(timed)
    score, label = judge(logit, card=card, threshold=threshold)
    first_s, last_s = timed[0][0], timed[-1][0]
    return Track(
        number=number, frames=len(timed), first_s=first_s, last_s=last_s, logit=logit, score=score, label=label
    )


def _logit(face: Face) -> float:
    return -math.inf if face.logit is None else face.logit
