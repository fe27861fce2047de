"""Test that faces are found, and that the right pixels are cut out."""

from __future__ import annotations

import pickle
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deepfake_detect
from deepfake_detect.errors import UnknownWeights, WeightsCorrupted
from deepfake_detect.faces.crop import crop_face, crop_square, whole_picture
from deepfake_detect.faces.finder import FaceFinder, _starts, find_faces
from tests.hub_server import serving

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.jpg"


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.asarray(Image.open(PORTRAIT).convert("RGB"))


def test_portrait_has_one_face_with_eyes_over_the_mouth(finder: FaceFinder, portrait: np.ndarray) -> None:
    (face,) = finder.find(portrait)
    x1, y1, x2, y2 = face.box_xyxy
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks_xy
    assert x1 < right_eye[0] < nose[0] < left_eye[0] < x2
    assert y1 < right_eye[1] < nose[1] < right_mouth[1] < y2
    assert right_mouth[0] < left_mouth[0]
    assert 0.3 < face.confidence <= 1


def test_faces_come_largest_first(finder: FaceFinder, portrait: np.ndarray) -> None:
    small = np.asarray(Image.fromarray(portrait).resize((200, 200)))
    canvas = np.full((512, 800, 3), 127, np.uint8)
    canvas[:200, :200] = small
    canvas[:, 288:] = portrait
    faces = finder.find(canvas)
    assert len(faces) == 2
    assert faces[0].box_xyxy[0] > 288 > faces[1].box_xyxy[2]


def test_mirrored_picture_has_a_mirrored_box(finder: FaceFinder, portrait: np.ndarray) -> None:
    (face,), (mirrored,) = finder.find(portrait), finder.find(portrait[:, ::-1])
    width = portrait.shape[1]
    x1, y1, x2, y2 = mirrored.box_xyxy
    np.testing.assert_allclose(face.box_xyxy, (width - x2, y1, width - x1, y2), atol=0.08 * (x2 - x1))


def test_colour_order_is_rgb(finder: FaceFinder, portrait: np.ndarray) -> None:
    (face,) = find_faces(str(PORTRAIT))
    (again,) = finder.find(portrait)
    np.testing.assert_allclose(face.box_xyxy, again.box_xyxy)


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_box_scales_with_the_picture(finder: FaceFinder, portrait: np.ndarray, scale: float) -> None:
    side = round(512 * scale)
    (face,) = finder.find(np.asarray(Image.fromarray(portrait).resize((side, side))))
    (original,) = finder.find(portrait)
    size = original.box_xyxy[2] - original.box_xyxy[0]
    np.testing.assert_allclose(np.divide(face.box_xyxy, scale), original.box_xyxy, atol=0.12 * size)
    np.testing.assert_allclose(face.landmarks_xy / scale, original.landmarks_xy, atol=0.12 * size)


def test_border_finds_a_face_that_overflows_the_picture(finder: FaceFinder, portrait: np.ndarray) -> None:
    (face,) = finder.find(portrait)
    x1, y1, x2, y2 = (round(value) for value in face.box_xyxy)
    inset = round(0.34 * (x2 - x1))
    left, top, right, bottom = x1 + inset, y1 + inset, x2 - inset, y2 - inset
    tight = Image.fromarray(portrait[top:bottom, left:right])
    pixels = np.asarray(tight.resize((3 * tight.width, 3 * tight.height)))
    assert finder.find(pixels) == []
    (found,) = finder.find(pixels, border=True)
    assert found.box_xyxy == (0, 0, 3 * tight.width, 3 * tight.height)
    expected = (face.landmarks_xy - [left, top]) * 3
    np.testing.assert_allclose(found.landmarks_xy, expected, atol=0.12 * 3 * (x2 - x1))


@pytest.mark.parametrize("size_hw", [(1, 60_000), (60_000, 2)])
def test_a_border_around_a_strip_stays_small(
    finder: FaceFinder, monkeypatch: pytest.MonkeyPatch, size_hw: tuple[int, int]
) -> None:
    pixels_seen = []
    look = finder._look
    monkeypatch.setattr(finder, "_look", lambda pixels: pixels_seen.append(pixels[..., 0].size) or look(pixels))
    assert finder.find(np.full((*size_hw, 3), 90, np.uint8), border=True) == []
    assert len(pixels_seen) == 2
    assert max(pixels_seen) < 12_000_000  # a third of the longer side was some 1.7 billion


def test_a_border_around_a_large_picture_leaves_faces_where_they_are(finder: FaceFinder, portrait: np.ndarray) -> None:
    upright = Image.fromarray(portrait).resize((4000, 2000))
    rows = finder._look_with_border(np.asarray(upright))
    (face,) = finder.find(portrait)
    scale_xy = np.array([4000 / portrait.shape[1], 2000 / portrait.shape[0]])
    tolerance = 0.12 * (face.box_xyxy[2] - face.box_xyxy[0]) * scale_xy.max()
    np.testing.assert_allclose(rows[0, 4:14].reshape(5, 2), face.landmarks_xy * scale_xy, atol=tolerance)


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 300), (64, 64)])
def test_nothing_is_found_where_nothing_is(finder: FaceFinder, size_hw: tuple[int, int]) -> None:
    assert finder.find(np.full((*size_hw, 3), 90, np.uint8), border=True) == []


def test_threads_agree(finder: FaceFinder, portrait: np.ndarray) -> None:
    boxes: list[tuple[float, ...]] = []
    threads = [threading.Thread(target=lambda: boxes.append(finder.find(portrait)[0].box_xyxy)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(boxes) == 4 and len(set(boxes)) == 1


def test_finder_survives_pickling(finder: FaceFinder, portrait: np.ndarray) -> None:
    again = pickle.loads(pickle.dumps(finder))
    assert again.find(portrait)[0].box_xyxy == finder.find(portrait)[0].box_xyxy


def test_other_finders_by_path_and_by_bytes(tmp_path: Path, portrait: np.ndarray) -> None:
    packaged = Path(deepfake_detect.__file__).parent / "pretrained" / "dd-yunet@1" / "finder.onnx"
    by_path, by_bytes = FaceFinder(packaged), FaceFinder(packaged.read_bytes())
    assert by_path.name == "finder.onnx" and by_bytes.name == "<bytes>"
    assert by_path.find(portrait)[0].box_xyxy == by_bytes.find(portrait)[0].box_xyxy


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the Hub's client, by the client
def test_finder_on_the_hub(tmp_path: Path, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = Path(deepfake_detect.__file__).parent / "pretrained" / "dd-yunet@1" / "finder.onnx"
    with serving(monkeypatch, tmp_path) as hub:
        hub.commit("owner/faces", {"onnx/finder.onnx": packaged.read_bytes()})
        finder = FaceFinder("hf://owner/faces/onnx/finder.onnx")
    assert finder.name == "hf://owner/faces/onnx/finder.onnx"
    assert finder.find(portrait)[0].box_xyxy == FaceFinder().find(portrait)[0].box_xyxy
    with pytest.raises(UnknownWeights, match="names no file on the Hub"):
        FaceFinder("hf://owner/faces")


def test_damaged_or_missing_finder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(WeightsCorrupted, match=r"bad\.onnx \(13 bytes\)"):
        FaceFinder(tmp_path / "bad.onnx")
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx"):
        FaceFinder(tmp_path / "gone.onnx")


def test_square_is_centred_moved_or_shrunk() -> None:
    assert crop_square((40, 30, 60, 70), margin=1.5, size_hw=(100, 100)) == (20, 20, 80, 80)
    assert crop_square((90, 90, 100, 100), margin=2, size_hw=(100, 200)) == (85, 80, 105, 100)
    assert crop_square((0, 0, 50, 80), margin=2, size_hw=(90, 60)) == (0, 10, 60, 70)


def test_crop_without_scaling_copies_pixels() -> None:
    pixels = np.arange(60 * 80 * 3).astype(np.uint8).reshape(60, 80, 3)
    crop = crop_face(pixels, (20, 10, 40, 30), margin=1.0, size_px=20)
    np.testing.assert_array_equal(crop, pixels[10:30, 20:40])


def test_crop_of_a_ramp_is_a_ramp() -> None:
    ramp = np.repeat(np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, 0), 3, 2)
    crop = crop_face(ramp, (60, 60, 140, 140), margin=1.0, size_px=20, interpolation="bilinear")
    np.testing.assert_allclose(crop[10, :, 0], 60 + 4 * (np.arange(20) + 0.5) - 0.5, atol=1)


def test_crop_does_not_depend_on_what_lies_far_away() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (500, 700, 3)).astype(np.uint8)
    direct = np.asarray(
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC, box=(301.5, 200.25, 401.5, 300.25))
    )
    crop = crop_face(pixels, (301.5, 200.25, 401.5, 300.25), margin=1.0, size_px=32)
    np.testing.assert_array_equal(crop, direct)


def test_whole_picture_keeps_the_corners() -> None:
    pixels = np.zeros((50, 100, 3), np.uint8)
    pixels[:25, 50:] = 255
    small = whole_picture(pixels, size_px=10)
    assert small.shape == (10, 10, 3)
    assert small[0, -1].min() == 255 and small[-1, 0].max() == 0


# Large pictures with small faces, and turned ones


def crowd(portrait: np.ndarray, *, side: int, size_hw: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Lay copies of the portrait, its face a fifth of the side, in rows on a grey picture."""
    small = np.asarray(Image.fromarray(portrait).resize((side, side)))
    canvas = np.full((*size_hw, 3), (120, 130, 140), np.uint8)
    places = [(y, x) for y in range(0, size_hw[0] - side, side + 10) for x in range(0, size_hw[1] - side, side + 10)]
    for y, x in places:
        canvas[y : y + side, x : x + side] = small
    return canvas, len(places)


def test_small_faces_of_a_large_picture_are_found_by_both_backends(portrait: np.ndarray) -> None:
    canvas, count = crowd(portrait, side=250, size_hw=(2000, 3000))  # 55 px: 14 px in the second look
    assert len(FaceFinder()._look(canvas)) < count // 2
    found = FaceFinder().find(canvas)
    assert len(found) == count
    for face in found:
        assert 40 < face.box_xyxy[3] - face.box_xyxy[1] < 75
        assert (face.landmarks_xy[:, 0] > face.box_xyxy[0] - 5).all()
        assert (face.landmarks_xy[:, 1] < face.box_xyxy[3] + 5).all()
    pytest.importorskip("openvino")
    again = FaceFinder(backend="openvino").find(canvas)
    boxes = [np.array([face.box_xyxy for face in faces]) for faces in (again, found)]
    distances = np.abs(boxes[0][:, None] - boxes[1][None]).max(2)
    assert (distances.min(0) < 0.05).all() and (distances.min(1) < 0.05).all()


def test_a_face_in_a_long_screenshot_is_found(finder: FaceFinder, portrait: np.ndarray) -> None:
    page = np.full((9000, 1080, 3), 255, np.uint8)
    page[4000:4512, 300:812] = portrait
    (face,) = finder.find(page, border=True)
    (alone,) = finder.find(portrait)
    moved = np.add(alone.box_xyxy, (300, 4000, 300, 4000))
    np.testing.assert_allclose(face.box_xyxy, moved, atol=15)


def test_a_large_face_spares_the_closer_look(portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    large = np.asarray(Image.fromarray(portrait).resize((2400, 2400)))
    expected = FaceFinder().find(large)
    monkeypatch.setattr(FaceFinder, "_look_closer", None)
    assert [face.box_xyxy for face in FaceFinder().find(large)] == [face.box_xyxy for face in expected]


def test_faces_found_at_first_stay_as_they_are(portrait: np.ndarray) -> None:
    canvas = np.full((2000, 3000, 3), 120, np.uint8)
    canvas[:700, :700] = np.asarray(Image.fromarray(portrait).resize((700, 700)))  # 153 px: 39 px in the second look
    canvas[1500:1700, 2500:2700] = np.asarray(Image.fromarray(portrait).resize((200, 200)))
    finder = FaceFinder()
    (first,) = finder._look(canvas)
    faces = finder.find(canvas)
    assert len(faces) == 2
    np.testing.assert_array_equal(faces[0].landmarks_xy, first[4:14].reshape(5, 2))
    assert faces[0].confidence == pytest.approx(float(first[14]))


@pytest.mark.parametrize("length", [1, 700, 768, 769, 1408, 1409, 3000])
def test_tiles_cover_everything_and_overlap(length: int) -> None:
    starts = _starts(length, 768, 640)
    seen = np.zeros(length, int)
    for start in starts:
        assert 0 <= start <= max(0, length - 768)
        seen[start : start + 768] += 1
    assert seen.min() >= 1 and len(starts) == len(set(starts))
    assert all(later - earlier <= 640 for earlier, later in pairwise(starts))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_has_no_false_face(finder: FaceFinder, portrait: np.ndarray, turns: int) -> None:
    turned = np.ascontiguousarray(np.rot90(portrait, turns))
    assert len(finder._look(turned)) > 0  # the network sees something that is none
    assert finder.find(turned, border=True) == []


def test_a_flipped_picture_has_no_false_face(finder: FaceFinder, portrait: np.ndarray) -> None:
    assert finder.find(np.ascontiguousarray(portrait[::-1]), border=True) == []
