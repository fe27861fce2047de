"""Test that a case is of the very bytes that were scored, and what it holds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from deepfake_detect import Detector, ImageUnreadable, InvalidOption
from deepfake_detect.inputs.image import Picture, open_image
from deepfake_detect.predict import predictor as predicting
from deepfake_detect.predict.evidence import fingerprint_card, fingerprint_input
from deepfake_detect.predict.prediction import Prediction, Predictions
from deepfake_detect.provenance.inspector import inspect_metadata
from deepfake_detect.weights.card import Card
from tests.small_world import CARD, PORTRAIT, empty_scene, small_bundle

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "case.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def detector(bundle: Path) -> Detector:
    return Detector.from_pretrained(bundle, device="cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return Path(shutil.copy(PORTRAIT, tmp_path / "photo.jpg"))


def test_a_case_follows_its_schema_and_names_file_and_weights(detector: Detector, bundle: Path) -> None:
    record = detector.predict(PORTRAIT).to_case()
    jsonschema.Draft202012Validator(SCHEMA).validate(record)
    assert record["input"]["sha256"] == hashlib.sha256(PORTRAIT.read_bytes()).hexdigest()
    assert record["input"]["bytes"] == PORTRAIT.stat().st_size
    assert record["weights"]["sha256"] == hashlib.sha256((bundle / "model.safetensors").read_bytes()).hexdigest()
    assert record["environment"]["versions"]["numpy"] == np.__version__
    assert record["settings"]["threshold"] is None
    assert record["metadata"]["format"] == "JPEG"


def swap(photo: Path) -> None:
    Image.fromarray(empty_scene()).save(photo)


def append(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes() + b"x")


def replace_and_keep_times(photo: Path) -> None:
    times = (photo.stat().st_atime_ns, photo.stat().st_mtime_ns)
    content = bytearray(photo.read_bytes())
    content[-1] ^= 1
    photo.write_bytes(content)
    os.utime(photo, ns=times)


@pytest.mark.parametrize("change", [swap, append, replace_and_keep_times, Path.unlink])
def test_a_file_that_is_another_one_by_now_is_not_recorded_or_drawn(
    detector: Detector, photo: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    predictions = [detector.predict(photo), *detector.predict_many([photo], workers=1, faces="none")]
    change(photo)
    for prediction in predictions:
        for use in (
            prediction.to_case,
            prediction.plot,
            partial(prediction.save, tmp_path / "case.json"),
            partial(prediction.save_crops, tmp_path / "crops"),
        ):
            with pytest.raises(ImageUnreadable, match=r"is not the file that was scored|no such file"):
                use()
    assert not (tmp_path / "case.json").exists() and not (tmp_path / "crops").exists()
    tile = np.asarray(Predictions(predictions[:1]).plot())
    assert len(np.unique(tile.reshape(-1, 3), axis=0)) < 1000  # an empty tile


def test_a_fresh_file_that_a_generator_overwrites_is_not_recorded(detector: Detector, tmp_path: Path) -> None:
    frame = tmp_path / "frame.png"

    def frames() -> Any:
        for picture in (Image.open(PORTRAIT), Image.fromarray(empty_scene())):
            picture.save(frame)
            yield frame

    first, second = detector.predict_many(frames())
    assert (len(first.faces), len(second.faces)) == (1, 0)
    with pytest.raises(ImageUnreadable, match="is not the file that was scored"):
        first.to_case()
    assert second.to_case()["input"]["sha256"] == hashlib.sha256(frame.read_bytes()).hexdigest()


def test_the_content_of_another_file_is_not_given(
    detector: Detector, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "classify_content", lambda _: pytest.fail("classified another file"))
    score, failed = predicting._classified, []

    def swap_first(prediction: Prediction, on_error: Any) -> Prediction:
        swap(photo)
        failed.append(prediction)
        return score(prediction, on_error)

    monkeypatch.setattr(predicting, "_classified", swap_first)
    (answer,) = detector.predict_many([photo], content=True, on_error="yield")
    assert failed[0].label != "error" and answer.label == "error" and answer.score is None
    assert isinstance(answer.error, ImageUnreadable) and answer.settings is None


@dataclasses.dataclass
class Changing:
    """A picture that is another one each time."""

    name: str = "changing"
    times: int = 0

    def open_picture(self) -> Picture:
        self.times += 1
        return Picture(pixels=np.full((64, 64, 3), self.times, np.uint8), size_hw=(64, 64), name=self.name)


def test_a_picture_that_is_decoded_anew_is_not_recorded(detector: Detector) -> None:
    with pytest.raises(ImageUnreadable, match="nothing tells what was scored"):
        detector.predict(Changing()).to_case()


def test_what_is_in_memory_is_recorded_as_it_was_scored(detector: Detector) -> None:
    pixels = open_image(PORTRAIT).pixels.copy()
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    predictions = [detector.predict(pixels), detector.predict(Image.fromarray(pixels))]
    pixels[:] = 0
    assert [prediction.to_case()["input"]["sha256"] for prediction in predictions] == [digest] * 2


def test_what_cannot_be_recorded_raises_and_writes_nothing(detector: Detector, photo: Path, tmp_path: Path) -> None:
    prediction = detector.predict(photo)
    (broken,) = detector.predict_many([b"no picture"], on_error="yield")
    by_hand = dataclasses.replace(prediction, settings=None)
    for unrecordable, reason in (
        (broken, "<bytes>"),
        (by_hand, "holds no weights"),
        (dataclasses.replace(prediction, source=None), "holds no picture"),
    ):
        with pytest.raises(ImageUnreadable, match=reason):
            unrecordable.save(tmp_path / "case.json")
    assert not (tmp_path / "case.json").exists()
    for name in ("missing/case.json", "missing/plot.png"):
        with pytest.raises(InvalidOption, match="cannot be written"):
            prediction.save(tmp_path / name)


def test_stability_and_metadata_of_another_picture_are_refused(detector: Detector) -> None:
    prediction = detector.predict(PORTRAIT)
    stability = {"score": prediction.score, "model": prediction.model, "threshold": prediction.threshold}
    assert prediction.to_case(stability=stability)["stability"]["name"] == str(PORTRAIT)
    assert prediction.score is not None
    for change in ({"score": abs(prediction.score - 0.5)}, {"score": None}, {"model": "b@1"}, {"threshold": 0.9}):
        with pytest.raises(InvalidOption, match="stability is that of another verdict"):
            prediction.to_case(stability={**stability, **change})
    with pytest.raises(InvalidOption, match="metadata are of a file of"):
        prediction.to_case(metadata=inspect_metadata(PORTRAIT.read_bytes() + b"x").to_dict())


def test_pixels_have_the_fingerprint_of_their_upright_values() -> None:
    pixels = open_image(PORTRAIT).pixels
    assert fingerprint_input(pixels)["sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert fingerprint_input(Image.fromarray(pixels)) | {"name": ""} == fingerprint_input(pixels) | {"name": ""}


def test_the_fingerprint_of_a_card_is_that_of_what_decides() -> None:
    assert fingerprint_card(CARD) == fingerprint_card(dataclasses.replace(CARD, licence="other", name="b"))
    changes: list[Card] = [
        dataclasses.replace(CARD, threshold=0.51),
        dataclasses.replace(CARD, bias=0.1),
        dataclasses.replace(CARD, preprocessing=dataclasses.replace(CARD.preprocessing, margin=1.31)),
    ]
    assert len({fingerprint_card(card) for card in [CARD, *changes]}) == 4
