"""Test that a recorded verdict can be checked again, and that what differs is named."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from deepfake_detect import (
    DatasetError,
    Detector,
    ImageUnreadable,
    InvalidOption,
    UnknownWeights,
    Verification,
    verify,
)
from deepfake_detect.inputs.image import open_image
from deepfake_detect.predict.evidence import fingerprint_card, fingerprint_case, fingerprint_input
from deepfake_detect.predict.verification import read_case
from deepfake_detect.weights.card import Card
from tests.small_world import CARD, PORTRAIT, empty_scene, small_bundle

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "case.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def case(bundle: Path, tmp_path: Path) -> Path:
    Detector.from_pretrained(bundle).predict(PORTRAIT).save(tmp_path / "case.json")
    return tmp_path / "case.json"


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if check.ok is False]


def test_a_case_follows_its_schema_and_names_file_and_weights(case: Path, bundle: Path) -> None:
    record = json.loads(case.read_text("utf-8"))
    jsonschema.Draft202012Validator(SCHEMA).validate(record)
    assert record["input"]["sha256"] == hashlib.sha256(PORTRAIT.read_bytes()).hexdigest()
    assert record["input"]["bytes"] == PORTRAIT.stat().st_size
    assert record["weights"]["sha256"] == hashlib.sha256((bundle / "model.safetensors").read_bytes()).hexdigest()
    assert record["environment"]["versions"]["numpy"] == np.__version__
    assert record["settings"]["threshold"] is None
    assert record["metadata"]["format"] == "JPEG"


@pytest.mark.parametrize(
    "image", [empty_scene(), PORTRAIT.read_bytes(), Image.open(PORTRAIT)], ids=["array", "bytes", "pil"]
)
def test_every_kind_of_input_can_be_recorded_and_checked(bundle: Path, image: Any) -> None:
    record = Detector.from_pretrained(bundle).predict(image, faces="none", threshold=0.9).to_case()
    jsonschema.Draft202012Validator(SCHEMA).validate(record)
    assert record["settings"]["faces"] == "none" and record["settings"]["threshold"] == 0.9
    assert verify(record, image, model=bundle).ok


def test_the_same_file_and_weights_give_the_same_verdict(case: Path, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copy(PORTRAIT, tmp_path / "copy.jpg")
    verification = verify(case, copy, model=bundle)
    assert verification.ok and failed(verification) == [] and str(verification).endswith("The verdict stands.")
    assert [check.name for check in verification.checks] == [
        "case", "file", "weights", "card", "settings", "label", "score", "faces", "verdict", "metadata",
    ]  # fmt: skip
    assert verification.to_dict()["prediction"]["label"] == json.loads(case.read_text("utf-8"))["verdict"]["label"]


def test_one_byte_more_is_another_file_though_the_verdict_stays(case: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jpg").write_bytes(PORTRAIT.read_bytes() + b"x")
    verification = verify(case, tmp_path / "other.jpg", model=bundle)
    assert failed(verification) == ["file", "metadata"] and not verification.ok  # which name the bytes at the end
    assert str(verification).endswith("The verdict is not confirmed.")


def test_other_pixels_are_another_verdict(case: Path, bundle: Path) -> None:
    assert {"file", "faces"} <= set(failed(verify(case, empty_scene(), model=bundle)))


def test_a_damaged_picture_is_one_of_the_answers(case: Path, bundle: Path) -> None:
    verification = verify(case, b"no picture", model=bundle)
    assert verification.prediction is None and "ImageUnreadable" in str(verification)
    assert failed(verification) == ["file", "label", "metadata"]


EDITS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "score": ("score", lambda record: record["verdict"].update(score=record["verdict"]["score"] + 0.02)),
    "label": ("label", lambda record: record["verdict"].update(label="no-face")),
    "box": ("faces", lambda record: record["verdict"]["faces"][0]["box_xyxy"].__setitem__(0, 0.0)),
    "weights": ("weights", lambda record: record["weights"].update(sha256="0" * 64)),
    "settings": ("settings", lambda record: record["settings"].update(preprocessing="0" * 64)),
    "weights' name": ("weights", lambda record: record["weights"].update(id="other@1")),
    "card": ("card", lambda record: record["weights"]["card"].update(limits=["none"])),
    "bytes": ("file", lambda record: record["input"].update(bytes=1)),
    "face's score": ("verdict", lambda record: record["verdict"]["faces"][0].update(score=0.0)),
    "face's label": ("verdict", lambda record: record["verdict"]["faces"][0].update(label="uncertain")),
    "face's logit": ("verdict", lambda record: record["verdict"]["faces"][0].update(logit=9.0)),
    "landmark": ("verdict", lambda record: record["verdict"]["faces"][0]["landmarks_xy"][2].__setitem__(0, 0.0)),
    "threshold": ("verdict", lambda record: record["verdict"].update(threshold=0.9)),
    "model": ("verdict", lambda record: record["verdict"].update(model="other@1")),
    "field more": ("verdict", lambda record: record["verdict"].update(expert="sure")),
    "metadata": ("metadata", lambda record: record["metadata"].update(findings=[])),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_record_that_was_edited_is_not_confirmed(name: str, case: Path, bundle: Path) -> None:
    check, edit = EDITS[name]
    record = json.loads(case.read_text("utf-8"))
    edit(record)
    assert failed(verify(record, PORTRAIT, model=bundle)) == ["case", check]
    record["sha256"] = fingerprint_case(record)  # by somebody who knows how
    assert failed(verify(record, PORTRAIT, model=bundle)) == [check]


def test_what_is_not_computed_again_is_listed(case: Path, bundle: Path) -> None:
    record = json.loads(case.read_text("utf-8"))
    record["stability"] = {"interval": [0.0, 1.0]}
    record["sha256"] = fingerprint_case(record)
    verification = verify(record, PORTRAIT, model=bundle)
    assert verification.ok and [check.name for check in verification.checks if check.ok is None] == ["stability"]
    assert "unchecked  stability" in str(verification) and "unchecked  created, input.name" in str(verification)


@pytest.mark.parametrize("how", ["replaced", "appended to", "touched"])
def test_a_file_that_changed_after_it_was_scored_is_not_recorded(how: str, bundle: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(PORTRAIT, tmp_path / "photo.jpg"))
    prediction = Detector.from_pretrained(bundle).predict(file)
    if how == "replaced":
        (tmp_path / "other").write_bytes(file.read_bytes())
        (tmp_path / "other").replace(file)
    elif how == "appended to":
        file.write_bytes(file.read_bytes() + b"x")
    else:
        os.utime(file, ns=(0, 0))
    with pytest.raises(ImageUnreadable, match="has changed since it was scored"):
        prediction.to_case()
    Detector.from_pretrained(bundle).predict(file).to_case()


def test_a_prediction_without_verdict_has_no_case(bundle: Path, tmp_path: Path) -> None:
    (failure,) = Detector.from_pretrained(bundle).predict_many([b"no picture"], on_error="yield")
    with pytest.raises(ImageUnreadable, match="looks like text"):
        failure.save(tmp_path / "case.json")
    assert not (tmp_path / "case.json").exists()


def test_a_case_that_cannot_be_written_is_named(bundle: Path, tmp_path: Path) -> None:
    prediction = Detector.from_pretrained(bundle).predict(PORTRAIT)
    for name in ("case.json", "plot.png"):
        with pytest.raises(InvalidOption, match=r"nowhere does not exist: make it first"):
            prediction.save(tmp_path / "nowhere" / name)


def test_verify_refuses_what_it_cannot_check(case: Path, bundle: Path, tmp_path: Path) -> None:
    for tolerance in ("x", -1, math.nan, True):
        with pytest.raises(InvalidOption, match="tolerance"):
            verify(case, PORTRAIT, model=bundle, tolerance=tolerance)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="is a int"):
        verify(5, PORTRAIT)  # type: ignore[arg-type]
    with pytest.raises(ImageUnreadable, match="is a folder"):
        verify(case, tmp_path, model=bundle)
    with pytest.raises(ImageUnreadable):
        verify(case, tmp_path / "missing.jpg", model=bundle)


def test_a_score_may_move_as_far_as_the_tolerance(case: Path, bundle: Path) -> None:
    record = json.loads(case.read_text("utf-8"))
    record["verdict"]["score"] += 0.02
    record["sha256"] = fingerprint_case(record)
    assert verify(record, PORTRAIT, model=bundle, tolerance=0.03).ok


def test_other_versions_are_named_and_do_not_fail(case: Path, bundle: Path) -> None:
    record = json.loads(case.read_text("utf-8"))
    record["environment"]["versions"]["numpy"] = "1.0"
    record["sha256"] = fingerprint_case(record)
    verification = verify(record, PORTRAIT, model=bundle)
    assert verification.ok and verification.versions == {"numpy": ("1.0", np.__version__)}


def test_a_flipped_byte_anywhere_in_a_case_is_found(case: Path) -> None:
    text, random = case.read_bytes(), np.random.default_rng(0)
    for place in random.integers(len(text), size=120).tolist():
        damaged = bytearray(text)
        damaged[place] ^= 1 << int(random.integers(7))
        case.write_bytes(damaged)
        with contextlib.suppress(DatasetError):
            record = read_case(case)
            same = json.loads(damaged) == json.loads(text)  # white space alone
            assert same == (record["sha256"] == fingerprint_case(record)), f"byte {place}: {damaged[place]:#x}"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("verdict.faces", [{}]),
        ("verdict.faces", 7),
        ("verdict.faces", [{"box_xyxy": [1, 2, 3, "4"]}]),
        ("verdict.faces", [{"box_xyxy": [1, 2, 3, math.inf]}]),
        ("verdict.faces", [{"box_xyxy": [1, 2, 3, 10**400]}]),
        ("weights.card", []),
        ("verdict.score", "0.9"),
        ("verdict.score", math.nan),
        ("settings.threshold", True),
        ("settings.faces", ["auto"]),
        ("weights.id", "owner/name"),
        ("environment.versions", {"numpy": 2}),
    ],
)
def test_fields_of_another_type_are_named(place: str, value: Any, case: Path) -> None:
    record = json.loads(case.read_text("utf-8"))
    part, name = place.split(".")
    record[part][name] = value
    with pytest.raises(DatasetError, match=place):
        verify(record, PORTRAIT)


def test_a_case_of_no_plain_values_is_refused(case: Path, bundle: Path) -> None:
    record = json.loads(case.read_text("utf-8"))
    record["created"] = object()
    with pytest.raises(DatasetError, match="plain JSON"):
        verify(record, PORTRAIT, model=bundle)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": NaN}', '{"schema": "other@1"}', '{"schema": "deepfake-detect/case@1"}', "[" * 9999],
)
def test_what_is_no_case_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text(text)
    with pytest.raises(DatasetError, match=r"case\.json"):
        verify(tmp_path / "case.json", PORTRAIT)


def test_weights_that_are_not_here_are_asked_for(case: Path) -> None:
    with pytest.raises(UnknownWeights, match="pass model="):
        verify(case, PORTRAIT)


def test_a_picture_that_is_gone_cannot_be_recorded(bundle: Path, tmp_path: Path) -> None:
    file = shutil.copy(PORTRAIT, tmp_path / "gone.jpg")
    prediction = Detector.from_pretrained(bundle).predict(file)
    Path(file).unlink()
    with pytest.raises(ImageUnreadable):
        prediction.save(tmp_path / "case.json")
    with pytest.raises(ImageUnreadable, match="holds no picture"):
        dataclasses.replace(prediction, source=None).to_case()


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
