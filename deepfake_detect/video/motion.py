"""Follow faces between the frames that were scored, so that a box and its verdict can be drawn on every frame."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from deepfake_detect.faces.face import Box, Face, overlap

SAME_FACE: Final = 0.3
"""Intersection over union from which two boxes are one face."""

PATIENCE_S: Final = 0.5
"""A face is looked for so long after it was seen last."""

HOLD_S: Final = 0.1
"""A box is drawn so long before it is seen first and after it is seen last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sighting:
    """A face at one time.

    Attributes:
        time_s: From the beginning of the video.
        box_xyxy: In pixels of the frame as it is drawn.
        face: With its score and label; None where this frame was not scored.
    """

    time_s: float
    box_xyxy: Box
    face: Face | None = None


class Motion:
    """One face through a video: where it stands at any time, and what was said of it nearest to that time.

    Args:
        sightings: In the order of time, at least one.
        hold_s: How long the box is drawn before the first and after the last of them.

    Example:
        >>> sightings = [Sighting(time_s=0.0, box_xyxy=(0, 0, 8, 8)), Sighting(time_s=1.0, box_xyxy=(8, 0, 16, 8))]
        >>> Motion(sightings).box_at(0.25), Motion(sightings).box_at(2.0)
        ((2.0, 0.0, 10.0, 8.0), None)
    """

    def __init__(self, sightings: Sequence[Sighting], *, hold_s: float = HOLD_S) -> None:
        self.sightings = sightings
        self.first_s, self.last_s = sightings[0].time_s - hold_s, sightings[-1].time_s + hold_s
        self._times_s = [sighting.time_s for sighting in sightings]
        self._scored = [sighting for sighting in sightings if sighting.face is not None]
        self._scored_s = [sighting.time_s for sighting in self._scored]

    def box_at(self, time_s: float) -> Box | None:
        """Return the box, between two sightings in a straight line from one to the other; None where there is none."""
        if not self.first_s <= time_s <= self.last_s:
            return None
        after = bisect.bisect_right(self._times_s, time_s)
        if after == 0 or after == len(self.sightings):
            return self.sightings[0 if after == 0 else -1].box_xyxy
        one, other = self.sightings[after - 1], self.sightings[after]
        share = (time_s - one.time_s) / (other.time_s - one.time_s)
        x1, y1, x2, y2 = (a + share * (b - a) for a, b in zip(one.box_xyxy, other.box_xyxy, strict=True))
        return x1, y1, x2, y2

    def face_at(self, time_s: float) -> Face | None:
        """Return the face as it was scored nearest to a time; None where it never was."""
        after = bisect.bisect_right(self._scored_s, time_s)
        nearest = min(self._scored[max(0, after - 1) : after + 1], key=lambda s: abs(s.time_s - time_s), default=None)
        return nearest.face if nearest is not None else None


def follow_boxes(moments: Iterable[tuple[float, Sequence[Sighting]]]) -> list[Motion]:
    """Join the sightings of each face, by the overlap of the boxes from one moment to the next.

    Args:
        moments: Time and the faces that were seen then, in the order of time.

    Returns:
        The motions, in the order in which they begin.
    """
    motions: list[list[Sighting]] = []
    alive: list[list[Sighting]] = []
    for time_s, sightings in moments:
        alive = [motion for motion in alive if time_s - motion[-1].time_s <= PATIENCE_S]
        new = _join(alive, sightings)
        motions += new
        alive += new
    return [Motion(motion) for motion in motions]


class Stage:
    """The motions that are in the picture, at times that rise.

    Args:
        motions: In any order.
    """

    def __init__(self, motions: Sequence[Motion]) -> None:
        self._waiting = deque(sorted(motions, key=lambda motion: motion.first_s))
        self._shown: list[Motion] = []

    def at(self, time_s: float) -> list[Motion]:
        """Return those that are there at a time no earlier than the one before."""
        while self._waiting and self._waiting[0].first_s <= time_s:
            self._shown.append(self._waiting.popleft())
        self._shown = [motion for motion in self._shown if time_s <= motion.last_s]
        return self._shown


def _join(alive: Sequence[list[Sighting]], sightings: Sequence[Sighting]) -> list[list[Sighting]]:
    """Add each sighting to the motion whose last box it covers most; return the motions that begin."""
    pairs = [(overlap(motion[-1].box_xyxy, one.box_xyxy), motion, one) for motion in alive for one in sightings]
    left, taken = list(sightings), set()
    for share, motion, one in sorted(pairs, key=lambda pair: -pair[0]):
        if share >= SAME_FACE and id(motion) not in taken and any(one is free for free in left):
            motion.append(one)
            taken.add(id(motion))
            left = [free for free in left if free is not one]
    return [[one] for one in left]
