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
"""Least share of two boxes that both cover, intersection over union, for them to be one face."""

PATIENCE: Final = 2
"""A face is looked for in so many frames after the last one in which it was seen."""

ENOUGH: Final = 0.25
"""Least share of the frames with a face in which a face must be seen to be judged by itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameScore:
    """What was said of one frame of a video.

    Attributes:
        index: Of the frame, counted from 0.
        time_s: Since the first frame, by the clock of the file.
        faces: Largest first.
        tracks: Number of the `Track` that each face belongs to; None for one that was seen too seldom.
    """

    index: int
    time_s: float
    faces: tuple[Face, ...]
    tracks: tuple[int | None, ...] = ()

    @property
    def worst(self) -> Face | None:
        """Give the face with the highest score; None without a face."""
        return worst_face(self.faces)

    @property
    def score(self) -> float | None:
        """Give the highest score of the faces; None without a face."""
        return self.worst.score if self.worst else None

    @property
    def logit(self) -> float | None:
        """Give what the model said of that face."""
        return self.worst.logit if self.worst else None

    @property
    def label(self) -> str:
        """Give the label of that face, or ``"no-face"``."""
        return (self.worst.label or "") if self.worst else "no-face"

    def to_dict(self) -> dict[str, Any]:
        """Give the frame as plain JSON values."""
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
    """One face through the frames of a video, followed by where it stands: a place in the picture, not a person.

    Attributes:
        number: In the order of appearance, from 0; None for all the faces together that were seen too seldom to be
            judged by themselves, of which the highest in each frame counts.
        frames: In how many it was seen.
        first_s: When it was seen first.
        last_s: When it was seen last.
        logit: Mean over these frames.
        score: Of that mean, by the card.
        label: By the card.
    """

    number: int | None
    frames: int
    first_s: float
    last_s: float
    logit: float
    score: float
    label: str

    def to_dict(self) -> dict[str, Any]:
        """Give the track as plain JSON values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def follow_faces(
    frames: Sequence[FrameScore], *, card: Card, threshold: float | None = None
) -> tuple[tuple[FrameScore, ...], tuple[Track, ...]]:
    """Follow faces from frame to frame by the overlap of their boxes, and judge each by its mean logit.

    A face that is seen in at least a quarter of the frames with a face is judged by itself, so that one forged face
    among real ones is not lost in a mean over all. What is seen more seldom, after a cut or a fast move, is judged
    together, if it makes up a quarter of these frames, too: a single frame among many decides nothing.

    Args:
        frames: In the order of time, their faces scored.
        card: Turns a mean logit into score and label.
        threshold: In place of the card's.

    Returns:
        The frames, with the numbers of their tracks; and the tracks, the worst first.
    """
    numbers = _numbers([[face.box_xyxy for face in frame.faces] for frame in frames])
    enough = max(1, math.ceil(ENOUGH * sum(1 for frame in frames if frame.faces)))
    often = Counter(number for row in numbers for number in row)
    long = {number: place for place, number in enumerate(n for n, seen in often.items() if seen >= enough)}
    told = tuple(
        replace(frame, tracks=tuple(long.get(number) for number in row))
        for frame, row in zip(frames, numbers, strict=True)
    )
    tracks = [_track(number, seen, card, threshold) for number, seen in _seen(told).items()]
    kept = [track for track in tracks if track.number is not None or track.frames >= enough]
    return told, tuple(sorted(kept, key=lambda track: -track.logit))


def _numbers(frames: Sequence[Sequence[Box]]) -> list[list[int]]:
    """Give the boxes of every frame numbers, the same one where it is the same face; the best overlap goes first."""
    last: dict[int, tuple[int, Box]] = {}  # number of a face: the frame in which it was seen last, and where
    numbers: list[list[int]] = []
    for at, boxes in enumerate(frames):
        known = {number: box for number, (seen, box) in last.items() if at - seen <= PATIENCE}
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


def _seen(frames: Sequence[FrameScore]) -> dict[int | None, list[tuple[float, float]]]:
    """Give time and logit of every track in each frame, the highest where there are several."""
    seen: dict[int | None, list[tuple[float, float]]] = defaultdict(list)
    for frame in frames:
        here: dict[int | None, float] = {}
        for face, number in zip(frame.faces, frame.tracks, strict=True):
            here[number] = max(_logit(face), here.get(number, -math.inf))
        for number, logit in here.items():
            seen[number].append((frame.time_s, logit))
    return seen


def _track(number: int | None, seen: Sequence[tuple[float, float]], card: Card, threshold: float | None) -> Track:
    logit = math.fsum(value for _, value in seen) / len(seen)
    score, label = judge(logit, card=card, threshold=threshold)
    first_s, last_s = seen[0][0], seen[-1][0]
    return Track(number=number, frames=len(seen), first_s=first_s, last_s=last_s, logit=logit, score=score, label=label)


def _logit(face: Face) -> float:
    return -math.inf if face.logit is None else face.logit
