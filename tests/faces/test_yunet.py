"""Test that OpenVINO finds the faces that OpenCV finds, in the same places."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepfake_detect import Detector
from deepfake_detect.faces.face import Face
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.predict import predictor as predictor_room
from tests.small_world import PORTRAIT, empty_scene, group, portrait, small_detector


def assert_same(found: list[Face], expected: list[Face]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.box_xyxy, other.box_xyxy, atol=2e-3)
        np.testing.assert_allclose(one.landmarks_xy, other.landmarks_xy, atol=2e-3)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


PICTURES = {
    "portrait": portrait(),
    "large": np.asarray(Image.fromarray(portrait()).resize((1100, 1100))),
    "uneven": np.ascontiguousarray(portrait()[:511, 37:490]),
    "wide": np.ascontiguousarray(portrait()[100:300]),
    "group": group(6),
    "turned": np.ascontiguousarray(np.rot90(portrait())),
    "empty": empty_scene(),
    "small": np.ascontiguousarray(portrait()[::9, ::9]),
    "one pixel": np.zeros((1, 1, 3), np.uint8),
}


@pytest.fixture(scope="module")
def finders() -> tuple[FaceFinder, FaceFinder]:
    return FaceFinder(backend="openvino"), FaceFinder()


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("border", [False, True])
def test_the_same_faces_in_the_same_places(finders: tuple[FaceFinder, FaceFinder], name: str, border: bool) -> None:
    ours, theirs = (finder.find(PICTURES[name], border=border) for finder in finders)
    assert_same(ours, theirs)
    assert len(theirs) == {"group": 6, "empty": 0, "one pixel": 0}.get(name, len(theirs))


def test_doubtful_faces_are_dropped_alike() -> None:
    many = group(4)
    for threshold in (0.05, 0.3, 0.9, 0.99):
        ours, theirs = FaceFinder(backend="openvino", threshold=threshold), FaceFinder(threshold=threshold)
        assert_same(ours.find(many), theirs.find(many))


def test_threads_find_the_same(finders: tuple[FaceFinder, FaceFinder]) -> None:
    finder, sizes = finders[0], [PICTURES[name] for name in ("portrait", "group", "uneven")]
    expected = [finder.find(pixels) for pixels in sizes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: finder.find(sizes[number % 3]), range(24)))
    for number, faces in enumerate(found):
        assert_same(faces, expected[number % 3])


def test_small_and_large_pictures_have_a_graph_each() -> None:
    finder = FaceFinder(backend="openvino")
    assert finder._yunet is not None
    finder.find(np.ascontiguousarray(portrait()[::3, ::3]))
    assert set(finder._yunet._requests._compiled) == {False}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(finder.find, [portrait()] * 8))
    assert set(finder._yunet._requests._compiled) == {False, True}
    small, large = finder._yunet._requests._compiled[False], finder._yunet._requests._compiled[True]
    finder.find(portrait())
    assert (finder._yunet._requests._compiled[False], finder._yunet._requests._compiled[True]) == (small, large)
    assert finder._yunet._requests.prepare(True) is large is not small


def test_several_threads_use_it_and_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Watched(FaceFinder):
        def __init__(self, *args: Any, **more: Any) -> None:
            made.append(more.get("backend", "opencv"))
            super().__init__(*args, **more)

    monkeypatch.setattr(predictor_room, "FaceFinder", Watched)
    detector = small_detector().to("cpu", backend="openvino")
    alone = detector.predict(PORTRAIT)
    assert made == ["opencv"]
    many = list(detector.predict_many([PORTRAIT] * 3, workers=2))
    assert made == ["opencv", "openvino"]
    for one in many:
        assert_same(list(one.faces), list(alone.faces))
        assert one.logit == pytest.approx(alone.logit, abs=1e-3)
    list(small_detector().to("cpu", backend="torch").predict_many([PORTRAIT], workers=2))
    assert made == ["opencv", "openvino", "opencv"]


def test_a_finder_of_one_s_own_is_kept() -> None:
    class Blind(FaceFinder):
        def find(self, pixels: np.ndarray, *, border: bool = False) -> list[Face]:
            return []

    small = small_detector()
    detector = Detector(model=small.model, card=small.card, device="cpu", backend="openvino", finder=Blind())
    assert [one.label for one in detector.predict_many([PORTRAIT] * 2, workers=2)] == ["no-face"] * 2


def test_a_network_that_openvino_cannot_run_goes_to_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such output")

    monkeypatch.setattr("deepfake_detect.faces.finder.YuNet", broken)
    detector = small_detector().to("cpu", backend="openvino")
    assert next(detector.predict_many([PORTRAIT], workers=2)).faces
