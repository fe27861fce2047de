"""Test that a router asks the detector for what a picture shows, in order and with the same results."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepfake_detect import Content, ContentRouter, Detector, ImageUnreadable, InvalidOption
from deepfake_detect.predict import router as routing
from tests.small_world import PORTRAIT, empty_scene, portrait, small_bundle


@pytest.fixture
def detectors(tmp_path: Path) -> dict[str, Detector]:
    names = ("face", "vehicle")
    return {name: Detector.from_pretrained(small_bundle(tmp_path / name, name=f"for-{name}")) for name in names}


@pytest.fixture
def by_brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call what is white a vehicle, what is black an animal, and all else a face."""

    def classify(image: Any) -> Content:
        mean = float(np.mean(image)) if isinstance(image, np.ndarray) else 100.0
        label = "vehicle" if mean == 255 else "animal" if mean == 0 else "face"
        return Content(label=label, scores={label: 1.0}, size_hw=(64, 64), model="content-classes@1")

    monkeypatch.setattr(routing, "classify_content", classify)


WHITE, BLACK = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64, 3), np.uint8)


@pytest.mark.usefixtures("by_brightness")
def test_every_picture_goes_to_its_detector_in_order(detectors: dict[str, Detector]) -> None:
    images = [WHITE, portrait(), BLACK, WHITE, PORTRAIT]
    answers = list(ContentRouter(detectors).predict_many(images))
    models = [detectors[name].card.id if name in detectors else name for name in
              ("vehicle", "face", "content-classes@1", "vehicle", "face")]  # fmt: skip
    assert [answer.model for answer in answers] == models
    shown = [answer.content.label for answer in answers if answer.content]
    assert shown == ["vehicle", "face", "animal", "vehicle", "face"]
    assert answers[1].score == pytest.approx(detectors["face"].predict(portrait()).score, abs=1e-6)
    assert answers[0].score == pytest.approx(detectors["vehicle"].predict(WHITE, faces="none").score, abs=1e-6)
    assert answers[2].label == "no-face" and answers[2].score is None
    assert answers[2].to_dict()["content"]["label"] == "animal"


@pytest.mark.usefixtures("by_brightness")
def test_a_face_without_a_detector_is_not_a_picture_without_a_face(detectors: dict[str, Detector]) -> None:
    router = ContentRouter({"vehicle": detectors["vehicle"]})
    face, animal = router.predict([portrait(), BLACK])
    assert (face.label, animal.label) == ("no-detector", "no-face")
    assert face.score is None and face.error is None and face.to_dict()["content"]["label"] == "face"
    with pytest.raises(ImageUnreadable, match="no detector scored it"):
        face.to_case()


@pytest.mark.usefixtures("by_brightness")
def test_faces_and_several_pictures_are_taken_as_by_a_detector(detectors: dict[str, Detector], tmp_path: Path) -> None:
    router = ContentRouter(detectors)
    whole = router.predict(portrait(), faces="none")
    assert whole.score == detectors["face"].predict(portrait(), faces="none").score
    Image.fromarray(portrait()).save(tmp_path / "a.png")
    for several in ([PORTRAIT], (PORTRAIT,), tmp_path, str(tmp_path / "*.png"), portrait()[None]):
        (answer,) = router.predict(several)
        assert answer.label != "error" and answer.content is not None
    with pytest.raises(InvalidOption, match="faces"):
        router.predict(PORTRAIT, faces="most")  # type: ignore[call-overload]
    with pytest.raises(InvalidOption, match="threshold"):
        router.predict_many([PORTRAIT], threshold=2)  # before the first is pulled


def test_class_and_score_come_from_the_same_bytes(
    detectors: dict[str, Detector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PORTRAIT.read_bytes())
    os.utime(photo, (0, 0))
    classify = routing.classify_content

    def change_then_classify(image: Any) -> Content:
        Image.fromarray(WHITE).save(photo)
        return classify(image)

    monkeypatch.setattr(routing, "classify_content", change_then_classify)
    answer = ContentRouter(detectors).predict(photo)
    assert answer.content is not None and answer.content.label == "face"
    assert answer.score == detectors["face"].predict(PORTRAIT).score and answer.source == photo
    with pytest.raises(ImageUnreadable, match="is not the file that was scored"):
        answer.to_case()


@pytest.mark.usefixtures("by_brightness")
def test_pictures_are_pulled_a_chunk_at_a_time(detectors: dict[str, Detector]) -> None:
    pulled = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal pulled
        while True:
            pulled += 1
            yield BLACK

    next(ContentRouter(detectors).predict_many(endless()))
    assert pulled == routing.CHUNK


def test_no_thread_is_left_behind(detectors: dict[str, Detector]) -> None:
    assert len(list(ContentRouter(detectors).predict_many([PORTRAIT, portrait()]))) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deepfake-detect")]


def test_the_packaged_classifier_finds_the_face_in_a_stream(detectors: dict[str, Detector]) -> None:
    answer = ContentRouter(detectors).predict(io.BytesIO(PORTRAIT.read_bytes()))
    assert answer.content is not None and answer.content.label == "face"
    assert answer.score == detectors["face"].predict(PORTRAIT).score


def test_a_bad_picture_is_an_error_in_its_place(detectors: dict[str, Detector]) -> None:
    router = ContentRouter(detectors)
    answers = list(router.predict_many([PORTRAIT, b"no picture", empty_scene()], on_error="yield"))
    assert isinstance(answers[1].error, ImageUnreadable) and answers[1].label == "error"
    assert answers[1].content is None and answers[0].error is None and answers[2].error is None
    with pytest.raises(ImageUnreadable):
        router.predict(b"no picture")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "no detectors"),
        ({"fish": None}, "no content class 'fish'"),
        ({"face": "xception"}, "is a str"),
        ([1], "expected a mapping"),
        (None, "expected a mapping"),
    ],
)
def test_wrong_detectors_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        ContentRouter(choice)
