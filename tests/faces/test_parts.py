"""Test that the parts of a face lie where the landmarks say."""

import numpy as np
import pytest

from deepfake_detect import find_faces
from deepfake_detect.faces.parts import OUTLINES, OVALS, PARTS, face_axes, face_outline, oval, part_masks
from tests.small_world import PORTRAIT, portrait

STRAIGHT = np.array([(30, 35), (60, 35), (45, 50), (33, 65), (57, 65)], float)


def test_every_pixel_is_in_one_part() -> None:
    for landmarks in (STRAIGHT, STRAIGHT[:, ::-1], STRAIGHT * 0.1, STRAIGHT + 400):
        masks = part_masks(landmarks, (90, 110))
        assert tuple(masks) == PARTS
        assert (np.sum(list(masks.values()), axis=0) == 1).all()


def test_each_landmark_lies_in_its_part() -> None:
    face = find_faces(PORTRAIT)[0]
    masks = part_masks(face.landmarks_xy, portrait().shape[:2])
    names = ("right eye", "left eye", "nose", "mouth", "mouth")
    for name, (x, y) in zip(names, face.landmarks_xy, strict=True):
        assert masks[name][round(float(y)), round(float(x))], name
    x1, y1, x2, y2 = (round(value) for value in face.box_xyxy)
    assert masks["skin"][y1:y2, x1:x2].mean() > 0.3
    assert masks["hair and background"][0, 0] and masks["hair and background"][-1, -1]
    assert masks["hair and background"][y1:y2, (x1 + x2) // 2].mean() < 0.1


def test_the_right_eye_is_the_persons_own() -> None:
    masks = part_masks(STRAIGHT, (90, 90))
    assert np.argwhere(masks["right eye"])[:, 1].mean() < 45 < np.argwhere(masks["left eye"])[:, 1].mean()


def test_parts_turn_and_grow_with_the_face() -> None:
    turned = (STRAIGHT - 45) @ np.array([[0, 2.0], [-2.0, 0]]) + 90
    small, large = part_masks(STRAIGHT, (90, 90)), part_masks(turned, (180, 180))
    for name in OVALS:
        back = np.rot90(large[name], 1)[::2, ::2]
        shared = (back & small[name]).sum() / (back | small[name]).sum()
        assert shared > 0.85 and large[name].sum() == pytest.approx(4 * small[name].sum(), rel=0.05)


def test_odd_landmarks_still_give_axes() -> None:
    for landmarks in (np.zeros((5, 2)), np.ones((5, 2)) * [3, 4]):
        origin, axes = face_axes(landmarks)
        assert np.isfinite(origin).all() and abs(np.linalg.det(axes)) > 1


def test_other_than_five_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 2\), expected \(5, 2\)"):
        part_masks(STRAIGHT[:4], (90, 90))


def test_an_outline_is_narrower_on_the_side_that_is_turned_away() -> None:
    turned = STRAIGHT.copy()
    turned[2, 0] += 8
    for name in OUTLINES:
        straight, aside = face_outline(name, STRAIGHT), face_outline(name, turned)
        assert straight[:, 0].max() == pytest.approx(-straight[:, 0].min())
        assert aside[:, 0].max() < 0.9 * straight[:, 0].max()
        assert aside[:, 0].min() == pytest.approx(straight[:, 0].min())


def test_an_oval_is_one() -> None:
    x, y, across, down = OVALS["mouth"]
    corners = oval("mouth", corners=400)
    assert corners.mean(0) == pytest.approx((x, y), abs=1e-9)
    assert np.ptp(corners, 0) == pytest.approx((2 * across, 2 * down), rel=1e-3)
