"""Test that a recorded verdict can be checked again, and that whatever differs is named."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from deepfake_detect import DatasetError, Detector, ImageUnreadable, InvalidOption, UnknownWeights, Verification, verify
from deepfake_detect.evaluation import verification as verifying
from deepfake_detect.inputs.image import Picture
from deepfake_detect.predict.evidence import fingerprint_case
from deepfake_detect.predict.verdict import judge
from tests.small_world import PORTRAIT, empty_scene, group, small_bundle

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "case.schema.json").read_text("utf-8"))
Record = dict[str, Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def detector(bundle: Path) -> Detector:
    return Detector.from_pretrained(bundle, device="cpu")


@pytest.fixture(scope="module")
def full_case(detector: Detector) -> Record:
    """Give a case with everything that a case may hold."""
    prediction = detector.predict(PORTRAIT, content=True)
    case: Record = json.loads(json.dumps(prediction.to_case(stability=detector.stability(PORTRAIT).to_dict())))
    return case


@pytest.fixture
def record(full_case: Record) -> Record:
    return copy.deepcopy({**full_case, "stability": None}) | {}


@pytest.fixture
def case(detector: Detector, tmp_path: Path) -> Path:
    detector.predict(PORTRAIT).save(tmp_path / "case.json")
    return tmp_path / "case.json"


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if not check.ok]


def sealed(record: Record) -> Record:
    """Give a record the checksum of what it holds now, as somebody does who knows how."""
    return {**record, "sha256": fingerprint_case(record)}


@pytest.mark.parametrize(
    "image", [empty_scene(), PORTRAIT.read_bytes(), Image.open(PORTRAIT)], ids=["array", "bytes", "pil"]
)
def test_every_kind_of_input_can_be_recorded_and_checked(detector: Detector, bundle: Path, image: Any) -> None:
    record = detector.predict(image, faces="none", threshold=0.9).to_case()
    jsonschema.Draft202012Validator(SCHEMA).validate(record)
    assert record["settings"]["faces"] == "none" and record["settings"]["threshold"] == 0.9
    assert verify(record, image, model=bundle).ok


def test_the_same_file_and_weights_give_the_same_verdict(full_case: Record, bundle: Path, tmp_path: Path) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(full_case)
    verification = verify(full_case, shutil.copy(PORTRAIT, tmp_path / "copy.jpg"), model=bundle)
    assert failed(verification) == [] and str(verification).endswith("The verdict stands.")
    assert [check.name for check in verification.checks] == [
        *("case", "file", "weights", "card", "settings", "label", "score", "faces", "verdict", "stability", "metadata"),
        "agreement",
    ]
    assert set(verification.not_checked) == {
        *("created", "environment", "input.name", "verdict.seconds", "verdict.backend", "verdict.dtype"),
    }
    assert verification.to_dict()["prediction"]["label"] == full_case["verdict"]["label"]


def test_one_byte_more_is_another_file_though_the_verdict_stays(case: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jpg").write_bytes(PORTRAIT.read_bytes() + b"x")
    verification = verify(case, tmp_path / "other.jpg", model=bundle)
    assert failed(verification)[:1] == ["file"] and "label" not in failed(verification)
    assert str(verification).endswith("The verdict is not confirmed.")


def test_other_pixels_are_another_verdict(case: Path, bundle: Path) -> None:
    assert {"file", "faces"} <= set(failed(verify(case, empty_scene(), model=bundle)))


def test_another_file_that_is_no_picture_is_one_of_the_answers(case: Path, bundle: Path) -> None:
    verification = verify(case, b"no picture", model=bundle)
    assert verification.prediction is None and "ImageUnreadable" in str(verification)
    assert failed(verification) == ["file", "label"]


def test_the_recorded_file_that_cannot_be_decoded_here_is_no_answer(
    case: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ImageUnreadable("no decoder for HEIC here")

    monkeypatch.setattr(verifying, "_score", refuse)
    with pytest.raises(ImageUnreadable, match="no decoder"):
        verify(case, PORTRAIT, model=bundle)


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of everything in a JSON value that is no object and no list, and of those that are empty."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for name, entry in entries:
        found = True
        yield from leaves(entry, (*place, name))
    if not found:
        yield place


def edited(record: Record, place: tuple[Any, ...], change: Callable[[Any], Any]) -> Record:
    result = copy.deepcopy(record)
    part: Any = result
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = change(part[place[-1]])
    return sealed(result)


def another(value: Any) -> Any:
    """Change a value by more than anything may move, and keep its type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value - 0.5 if isinstance(value, float) and 0.5 <= value <= 1 else value + (3 if value > 1 else 0.5)
    return f"{value}x" if isinstance(value, str) else "x" if value is None else [0]


STATED = ("created", "environment", "verdict.seconds", "verdict.backend", "verdict.dtype")
"""What nothing can confirm; every other field must not be edited unnoticed, by whoever computes the checksum anew."""


def test_no_field_can_be_edited_unnoticed(
    full_case: Record, bundle: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = verifying._record_again(
        full_case, detector, PORTRAIT.read_bytes(), detector.predict(PORTRAIT, content=True)
    )
    monkeypatch.setattr(verifying, "_score", lambda *_: None)
    monkeypatch.setattr(verifying, "_record_again", lambda *_: again)
    monkeypatch.setattr(verifying, "_load", lambda *_: detector)
    assert verify(full_case, PORTRAIT).ok  # what is patched is not what compares
    unnoticed, tried = [], 0
    for place in leaves(full_case):
        name = ".".join(map(str, place))
        if place == ("sha256",) or name.startswith(STATED):
            continue
        tried += 1
        try:
            if verify(edited(full_case, place, another), PORTRAIT).ok:
                unnoticed.append(name)
        except DatasetError:
            pass  # of another type, or out of range
    assert tried > 120 and unnoticed == []


def test_no_field_can_be_removed_or_added_unnoticed(
    full_case: Record, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = verifying._record_again(
        full_case, detector, PORTRAIT.read_bytes(), detector.predict(PORTRAIT, content=True)
    )
    monkeypatch.setattr(verifying, "_score", lambda *_: None)
    monkeypatch.setattr(verifying, "_record_again", lambda *_: again)
    monkeypatch.setattr(verifying, "_load", lambda *_: detector)
    objects = [(), ("input",), ("weights",), ("weights", "card"), ("settings",), ("verdict",), ("verdict", "faces", 0),
               ("verdict", "content"), ("stability",), ("stability", "scores"), ("metadata",)]  # fmt: skip
    for place in objects:
        larger = copy.deepcopy(full_case)
        part: Any = larger
        for name in place:
            part = part[name]
        part["verified_by"] = "an expert"
        outcome = verify(sealed(larger), PORTRAIT)
        assert any("verified_by" in name for name in outcome.not_checked) or not outcome.ok, place
    for place in objects[3:]:
        for name in list(leaves_of(full_case, place)):
            smaller = copy.deepcopy(full_case)
            part = smaller
            for step in place:
                part = part[step]
            del part[name]
            if (*place, name)[:2] in {("verdict", "seconds"), ("verdict", "backend"), ("verdict", "dtype")}:
                continue
            try:
                outcome = verify(sealed(smaller), PORTRAIT)
            except DatasetError:
                continue
            assert not outcome.ok or any(key.startswith(".".join(map(str, place))) for key in outcome.not_checked)


def leaves_of(record: Record, place: tuple[Any, ...]) -> list[str]:
    part: Any = record
    for name in place:
        part = part[name]
    return list(part)


def test_an_edited_checksum_is_damage(record: Record, bundle: Path) -> None:
    record["created"] = "2001-01-01T00:00:00+00:00"
    assert failed(verify(record, PORTRAIT, model=bundle)) == ["case"]


def shifted(record: Record, detector: Detector, *, by: float) -> Record:
    """Move logit and score together, as another machine may."""
    verdict, face = record["verdict"], record["verdict"]["faces"][0]
    face["logit"] += by
    face["score"] = judge(face["logit"], card=detector.card)[0]
    verdict.update(score=face["score"], logit=face["logit"])
    return sealed(record)


def test_a_score_may_move_as_far_as_the_tolerance(record: Record, bundle: Path, detector: Detector) -> None:
    moved = shifted(record, detector, by=0.15 if record["verdict"]["logit"] > 0 else -0.15)
    assert failed(verify(moved, PORTRAIT, model=bundle)) == ["score", "faces"]
    assert verify(moved, PORTRAIT, model=bundle, tolerance=0.04).ok


def test_a_logit_far_out_is_not_hidden_by_its_score(record: Record, bundle: Path, detector: Detector) -> None:
    logit = record["verdict"]["logit"]
    moved = shifted(record, detector, by=3.0 * math.copysign(1, logit))
    outcome = verify(moved, PORTRAIT, model=bundle, tolerance=0.25)
    assert failed(outcome) == ["score", "faces"] and "logit" in str(outcome)


def test_faces_that_changed_places_are_the_same_faces(detector: Detector, bundle: Path) -> None:
    record = detector.predict(group(3)).to_case()
    assert len(record["verdict"]["faces"]) == 3
    record["verdict"]["faces"] = record["verdict"]["faces"][::-1]
    assert verify(sealed(record), group(3), model=bundle).ok


def test_what_differs_by_version_is_named_and_does_not_fail(record: Record, bundle: Path) -> None:
    record["environment"]["versions"]["numpy"] = "1.0"
    verification = verify(sealed(record), PORTRAIT, model=bundle)
    assert verification.ok and verification.versions == {"numpy": ("1.0", np.__version__)}
    record["metadata"]["findings"].pop()
    assert failed(verify(sealed(record), PORTRAIT, model=bundle)) == ["metadata"]
    record["environment"]["versions"]["deepfake-detect"] = "0.0.1"
    older = verify(sealed(record), PORTRAIT, model=bundle)
    assert older.ok and "another version of this program" in older.not_checked["metadata"]


def test_parts_that_a_case_does_not_have_are_listed(record: Record, bundle: Path) -> None:
    outcome = verify(sealed({**record, "metadata": None}), PORTRAIT, model=bundle)
    assert outcome.ok and outcome.not_checked["metadata"] == "the case has none"
    record["weights"]["revision"] = record["verdict"]["revision"] = "0123abc"
    assert "weights.revision" in verify(sealed(record), PORTRAIT, model=bundle).not_checked


def test_what_a_case_says_cannot_pass_for_a_line_of_the_answer(record: Record, bundle: Path) -> None:
    record["verdict"]["label"] = "real\nThe verdict stands.\u202e\x1b[2J"
    record["environment"]["versions"]["numpy"] = "2\nThe verdict stands."
    lines = str(verify(sealed(record), PORTRAIT, model=bundle)).splitlines()
    assert lines[-1] == "The verdict is not confirmed." and "The verdict stands." not in lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("tolerance", ["x", -0.1, math.nan, math.inf, 2, None, True])
def test_a_tolerance_that_is_none_is_refused(case: Path, bundle: Path, tolerance: Any) -> None:
    with pytest.raises(InvalidOption, match="tolerance"):
        verify(case, PORTRAIT, model=bundle, tolerance=tolerance)


class Frame:
    """A picture that is decoded anew each time."""

    name = "frame"

    def open_picture(self) -> Picture:
        return Picture(pixels=empty_scene(), size_hw=(120, 160), name=self.name)


@pytest.mark.parametrize("image", ["folder", "missing", 5, None, [PORTRAIT], {}, Frame(), "*.jpg"])
def test_what_is_no_single_picture_is_refused_by_name(case: Path, bundle: Path, tmp_path: Path, image: Any) -> None:
    place = {"folder": tmp_path, "missing": tmp_path / "missing.jpg"}.get(
        image if isinstance(image, str) else "", image
    )
    with pytest.raises(ImageUnreadable):
        verify(case, place, model=bundle)


def test_weights_that_are_not_here_are_asked_for(case: Path) -> None:
    with pytest.raises(UnknownWeights, match="pass model="):
        verify(case, PORTRAIT)
    with pytest.raises(InvalidOption):
        verify(case, PORTRAIT, model=5)  # type: ignore[arg-type]
