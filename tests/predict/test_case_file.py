"""Test that case files are read strictly, written whole, and never in the place of another case."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepfake_detect import DatasetError, InvalidOption
from deepfake_detect.predict.case_file import CaseIdentity, case_paths, holds_case, read_case, write_case
from deepfake_detect.predict.evidence import fingerprint_case
from tests.small_world import PORTRAIT, small_detector


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    case: dict[str, Any] = json.loads(json.dumps(small_detector().predict(PORTRAIT).to_case()))
    return case


@pytest.fixture
def record(recorded: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(recorded)


def test_a_flipped_byte_anywhere_in_a_case_is_found(record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    write_case(record, path)
    assert read_case(path) == record
    text, random = path.read_bytes(), np.random.default_rng(0)
    for place in random.integers(len(text), size=120).tolist():
        damaged = bytearray(text)
        damaged[place] ^= 1 << int(random.integers(7))
        path.write_bytes(damaged)
        with contextlib.suppress(DatasetError):
            read = read_case(path)
            same = json.loads(damaged) == json.loads(text)  # white space alone
            assert same == (read["sha256"] == fingerprint_case(read)), f"byte {place}: {damaged[place]:#x}"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("verdict.faces", [{}]),
        ("verdict.faces", 7),
        ("verdict.faces.0.box_xyxy", [1, 2, 3, "4"]),
        ("verdict.faces.0.box_xyxy", [1, 2, 3, 10**400]),
        ("verdict.faces.0.box_xyxy", [1, 2, 3, 1e300]),
        ("verdict.faces.0.landmarks_xy", [[1]]),
        ("verdict.faces.0.logit", None),
        ("verdict.faces.0.score", 1.5),
        ("verdict.score", "0.9"),
        ("verdict.logit", -(10**400)),
        ("verdict.size_hw", [512]),
        ("verdict.size_hw", [512, 0.5]),
        ("settings.threshold", True),
        ("settings.faces", ["auto"]),
        ("weights.id", "owner/name"),
        ("weights.card", []),
        ("input.bytes", -1),
        ("metadata", []),
        ("environment.versions", {"numpy": 2}),
    ],
)
def test_fields_of_another_type_are_named(place: str, value: Any, record: dict[str, Any]) -> None:
    *parents, name = place.split(".")
    part: Any = record
    for parent in parents:
        part = part[int(parent) if parent.isdecimal() else parent]
    part[name] = value
    with pytest.raises(DatasetError, match=r"verdict\.faces" if ".0." in place else place):
        read_case(record)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_none_are_refused(number: str, record: dict[str, Any], tmp_path: Path) -> None:
    record["verdict"]["score"] = "HERE"
    (tmp_path / "case.json").write_text(json.dumps(record).replace('"HERE"', number))
    with pytest.raises(DatasetError, match=r"case\.json"):
        read_case(tmp_path / "case.json")


def test_a_field_that_stands_twice_is_refused(record: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(record).replace('"label": ', '"label": "fake", "label": ', 1)
    (tmp_path / "case.json").write_text(text)
    with pytest.raises(DatasetError, match="'label' stands twice"):
        read_case(tmp_path / "case.json")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "other@1"}', '{"schema": "deepfake-detect/case@1"}', "[" * 9999, "\0", "\xff"]
)
def test_what_is_no_case_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text(text, encoding="latin-1")
    with pytest.raises(DatasetError, match=r"case\.json"):
        read_case(tmp_path / "case.json")


@pytest.mark.parametrize("case", [5, None, ["case.json"], 0.5])
def test_what_can_be_no_case_is_an_option_of_the_wrong_type(case: Any) -> None:
    with pytest.raises(InvalidOption, match="expected the path of a case file"):
        read_case(case)


def test_paths_that_hold_no_file_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.json", Path("/dev/zero"), f"{tmp_path}\0.json"):
        with pytest.raises(DatasetError):
            read_case(path)


def test_values_that_are_not_plain_json_are_refused(record: dict[str, Any]) -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    for value in (object(), math.nan, cyclic):
        record["created"] = value
        with pytest.raises(DatasetError, match="plain JSON"):
            read_case(record)


def test_a_case_takes_the_place_of_no_other(record: dict[str, Any], tmp_path: Path) -> None:
    identity = CaseIdentity.of(record)
    first, second = islice(case_paths(tmp_path, identity), 2)
    assert (first.name, second.name) == ("portrait-9de5c39d.json", "portrait-9de5c39d-2.json")
    assert not holds_case(first, identity)
    write_case(record, first)
    assert holds_case(first, identity)
    others = {("input", "name"): "b/portrait.jpg", ("weights", "sha256"): "1" * 64, ("settings", "threshold"): 0.9}
    for (part, name), value in others.items():
        other = copy.deepcopy(record)
        other[part][name] = value
        assert not holds_case(first, CaseIdentity.of(other)), name
    first.write_text("{}")
    assert not holds_case(first, identity)


def test_a_folder_that_is_missing_is_named(record: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"missing/case\.json cannot be written"):
        write_case(record, tmp_path / "missing" / "case.json")
