"""Test that a face is followed through frames, and judged by the mean of its logits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from deepfake_detect.faces.face import Face, overlap
from deepfake_detect.video.tracks import FrameScore, Track, follow_faces
from tests.small_world import CARD

Boxed = tuple[float, float]  # where a face of 100 x 100 px begins, and its logit


def frame(number: int, faces: Sequence[Boxed]) -> FrameScore:
    """Give a frame with faces in one row."""
    made = tuple(
        Face(
            box_xyxy=(left, 0.0, left + 100.0, 100.0),
            landmarks_xy=np.zeros((5, 2), np.float32),
            confidence=1.0,
            score=1 / (1 + math.exp(-logit)),
            logit=logit,
            label="fake" if logit >= 0 else "real",
        )
        for left, logit in faces
    )
    return FrameScore(index=number, time_s=number / 2, faces=made)


def followed(rows: Sequence[Sequence[Boxed]]) -> tuple[list[tuple[int | None, ...]], Mapping[int | None, Track]]:
    frames, tracks = follow_faces([frame(number, row) for number, row in enumerate(rows)], card=CARD)
    assert [track.logit for track in tracks] == sorted((track.logit for track in tracks), reverse=True)
    return [one.tracks for one in frames], {track.number: track for track in tracks}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((5, 5, 15, 15), 1 / 7),
        ((2, 2, 7, 7), 0.25),
        ((10, 0, 20, 10), 0.0),
        ((12, 12, 20, 20), 0.0),
        ((3, 3, 3, 3), 0.0),
    ],
)
def test_overlap_is_intersection_over_union(other: tuple[float, float, float, float], expected: float) -> None:
    assert overlap((0, 0, 10, 10), other) == overlap(other, (0, 0, 10, 10)) == pytest.approx(expected)
    assert overlap((4, 4, 4, 4), (4, 4, 4, 4)) == 0


def test_a_face_is_judged_by_the_mean_of_its_logits() -> None:
    numbers, tracks = followed([[(0, 1.0)], [(10, 2.0)], [(20, -6.0)], [(30, 1.0)]])
    assert numbers == [(0,)] * 4
    assert tracks[0].logit == -0.5
    assert tracks[0].score == pytest.approx(1 / (1 + math.exp(0.5)))
    assert (tracks[0].label, tracks[0].frames, tracks[0].first_s, tracks[0].last_s) == ("real", 4, 0.0, 1.5)


def test_one_forged_face_among_real_ones_is_found() -> None:
    rows = [[(0, -4.0), (300, 3.0 + step), (600, -4.0)][:: 1 if step % 2 else -1] for step in range(4)]
    numbers, tracks = followed(rows)
    assert {number: track.logit for number, track in tracks.items()} == {0: -4.0, 1: 4.5, 2: -4.0}
    assert numbers == [(0, 1, 2), (2, 1, 0), (0, 1, 2), (2, 1, 0)]


def test_the_best_overlap_goes_first() -> None:
    numbers, _ = followed([[(0, 0.0), (60, 0.0)], [(50, 0.0), (0, 0.0)], [(55, 0.0), (5, 0.0)]])
    assert numbers == [(0, 1), (1, 0), (1, 0)]


def test_two_faces_of_one_frame_are_two() -> None:
    numbers, _ = followed([[(0, 0.0)], [(10, 0.0), (20, 0.0)], [(10, 0.0), (20, 0.0)]])
    assert numbers == [(0,), (0, 1), (0, 1)]


def test_a_face_may_be_missed_for_a_frame_but_not_for_longer() -> None:
    once, _ = followed([[(0, 0.0)], [], [(0, 0.0)], [(0, 0.0)]])
    assert once == [(0,), (), (0,), (0,)]
    long, _ = followed([[(0, 0.0)], [], [], [(0, 0.0)]])
    assert long == [(0,), (), (), (1,)]


def test_a_single_frame_decides_nothing() -> None:
    numbers, tracks = followed([[(0, -3.0)] for _ in range(7)] + [[(0, -3.0), (500, 9.0)]])
    assert numbers[-1] == (0, None)
    assert set(tracks) == {0}


def test_what_moves_too_fast_is_judged_together_by_the_highest_of_each_frame() -> None:
    rows: list[list[Boxed]] = [[(300.0 * step, step), (300.0 * step + 150, -9.0)] for step in range(8)]
    numbers, tracks = followed(rows)
    assert numbers == [(None, None)] * 8
    assert set(tracks) == {None}
    assert (tracks[None].logit, tracks[None].frames) == (3.5, 8)
    some, both = followed([[(0, -3.0)]] * 6 + [[(0, -3.0), (500, 2.0)], [(0, -3.0), (900, 4.0)]])
    assert some[-1] == (0, None)
    assert both[None].logit == 3.0  # two of eight frames are enough


def test_no_face_is_no_track() -> None:
    assert followed([[], []]) == ([(), ()], {})
    assert frame(0, []).label == "no-face"
    assert frame(0, []).score is None


def test_a_frame_tells_its_worst_face() -> None:
    (found,), _ = follow_faces([frame(3, [(0, -1.0), (200, 2.0)])], card=CARD)
    assert found.worst is found.faces[1]
    told = found.to_dict()
    assert (told["index"], told["time_s"], told["label"], told["logit"]) == (3, 1.5, "fake", 2.0)
    assert [(face["track"], face["logit"]) for face in told["faces"]] == [(0, -1.0), (1, 2.0)]


def test_a_threshold_of_the_caller_counts() -> None:
    _, (track,) = follow_faces([frame(0, [(0, 2.0)])], card=CARD, threshold=0.95)
    assert (track.label, track.score) == ("real", pytest.approx(0.8807970779778823))
    told = track.to_dict()
    assert told == {"number": 0, "frames": 1, "first_s": 0.0, "last_s": 0.0, "logit": 2.0} | {
        "score": track.score,
        "label": "real",
    }
