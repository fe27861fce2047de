"""Test that a card is read as it was written, and that a wrong, damaged or edited one is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from deepfake_detect.errors import WeightsCorrupted, WeightsMismatch
from deepfake_detect.weights.bundle import find_bundle, list_packaged, list_pretrained
from deepfake_detect.weights.card import SCHEMA, Card, Preprocessing
from tests.small_world import LOOK

CARD = Card(
    name="mine",
    version=3,
    architecture="meso4",
    preprocessing=Preprocessing(size_px=64, mean=(0.1, 0.2, 0.3)),
    uncertain=(0.4, 0.6),
    training_data=("a", "b"),
    metrics={"test": {"auc": 0.75}},
    golden={"ramp": -1.25},
)


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **values})


def with_look(**values: Any) -> str:
    card = json.loads(replace(CARD, texture=LOOK).to_json())
    return json.dumps({**card, "texture": {**card["texture"], **values}})


def test_a_second_look_takes_a_layout_of_its_own() -> None:
    card = replace(CARD, texture=LOOK)
    assert Card.from_json(card.to_json()) == card
    assert json.loads(card.to_json())["schema"] == 4
    assert Card.from_json(changed(schema=4, texture=None, checksum="")) == CARD
    with pytest.raises(WeightsMismatch, match="is no detector"):
        replace(card, classes=("cat", "dog"))


@pytest.mark.parametrize("name", list_packaged())
def test_a_card_with_one_look_is_written_as_before(name: str) -> None:
    text = (find_bundle(name).folder / "card.json").read_text("utf-8")
    if json.loads(text)["schema"] == 3:
        assert Card.from_json(text).to_json() == text


def test_round_trip() -> None:
    assert Card.from_json(CARD.to_json()) == CARD
    assert Card.from_json(CARD.to_json().encode()) == CARD
    assert CARD.id == "mine@3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a list, expected an object"),
        (changed(schema=SCHEMA + 98), "pip install --upgrade deepfake-detect"),
        (changed(schema=None), "card schema None"),
        (changed(colour="red"), r"unknown fields \['colour'\]"),
        (json.dumps({"schema": SCHEMA, "name": "x"}), "missing fields"),
        (changed(temperature=0), "temperature is 0, expected a number within 0.001..1000"),
        (changed(temperature=float("nan")), "temperature is nan"),
        (changed(temperature=5e-324), "temperature is 5e-324"),
        (changed(temperature="1"), "temperature is '1'"),
        (changed(temperature=True), "temperature is True"),
        (changed(bias=-1e30), "bias is -1e[+]30"),
        (changed(threshold=1.5), "threshold is 1.5, expected a number within 0..1"),
        (changed(threshold=None), "threshold is None"),
        (changed(name=7), "name is 7, expected a text of 1 to 200 characters"),
        (changed(name="x" * 201), "name is 'xxx"),
        (changed(name="\ud800"), "a text of Unicode characters"),
        (changed(version=-1), "version is -1"),
        (changed(version=1.0), r"version is 1\.0, expected a whole number"),
        (changed(architecture=["meso4"]), r"architecture is \('meso4',\)"),
        (changed(sha256="abc"), "sha256 is 'abc', expected 64 hexadecimal digits"),
        (changed(hub_repo=7), "hub_repo is 7"),
        (changed(licence=None), "licence is None"),
        (changed(limits="none"), "limits is 'none', expected a list"),
        (changed(training_data=[7]), r"training_data\[0\] is 7"),
        (changed(metrics={"auc": float("inf")}), r"metrics\.auc is inf"),
        (changed(metrics=[]), r"metrics is \(\), expected an object"),
        (changed(golden={"ramp": "high"}), r"golden\.ramp is 'high'"),
        (changed(classes=7), "classes is 7"),
        (changed(classes=["real", 7]), r"classes\[1\] is 7"),
        (changed(classes=["fake", "real"]), "classes"),
        (changed(uncertain=[0.6, 0.4]), r"uncertain is \(0.6, 0.4\), expected the lower"),
        (changed(uncertain=[0.5, 0.5]), "uncertain"),
        (changed(uncertain=[-0.1, 0.5]), "uncertain"),
        (changed(uncertain=[0.5, 1.1]), "uncertain"),
        (changed(uncertain=[0.5]), "uncertain"),
        (changed(uncertain=[0.5, None]), r"uncertain\[1\] is None"),
        (changed(uncertain=0.5), "uncertain is 0.5, expected 2 numbers"),
        (changed(calibration=None), "calibration is None, expected an object"),
        (changed(schema=5), "card schema 5, this library reads 1 to 4"),
        (changed(schema=4), r"missing fields \['texture'\]"),
        (changed(schema=4, texture={"architecture": "cnn4"}), "texture: unknown fields none, missing fields"),
        (with_look(patch_px=7), "texture.patch_px is 7"),
        (with_look(min_side_px=31), "texture.min_side_px is 31, expected a whole number within 32"),
        (with_look(patches=10), "texture.patches is 10"),
        (with_look(min_detail=float("nan")), "texture.min_detail is nan"),
        (with_look(weight="2"), "texture.weight is '2'"),
        (with_look(weight=-1.0), "texture.weight is -1.0"),
        (with_look(unsure=[1.0, -1.0]), r"texture.unsure is \(1.0, -1.0\), expected the lower"),
        (with_look(mean=[0.5, 0.5]), "texture.mean is"),
        (with_look(sha256="abc"), "texture.sha256 is 'abc'"),
        (with_look(architecture=None), "texture.architecture is None"),
        (changed(schema=True), "card schema True"),
        (changed(schema=2), r"unknown fields \['checksum'\]"),
        (changed(preprocessing={"size_px": 3}), "preprocessing: unknown fields none, missing fields"),
    ],
)
def test_wrong_cards_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(WeightsMismatch, match=message):
        Card.from_json(text, where="card.json")


def test_a_card_of_the_first_layout_has_no_calibration() -> None:
    old = json.loads(CARD.to_json())
    checksum = old.pop("checksum")
    assert Card.from_json(json.dumps({**old, "schema": 2})) == CARD
    del old["calibration"]
    assert Card.from_json(json.dumps({**old, "schema": 1})) == CARD
    old["checksum"] = checksum
    with pytest.raises(WeightsMismatch, match=r"missing fields \['calibration'\]"):
        Card.from_json(json.dumps(old))
    with pytest.raises(WeightsMismatch, match="missing fields"):
        Card.from_json(json.dumps({key: value for key, value in old.items() if key != "metrics"} | {"schema": 1}))


def test_a_calibration_comes_back_as_it_was_written() -> None:
    card = replace(CARD, calibration={"method": "conformal", "n": 99, "ece_before": None, "note": "At most 1 %."})
    assert Card.from_json(card.to_json()).calibration == card.calibration


def test_numbers_that_json_cannot_hold_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(CARD, metrics={"auc": float("nan")}).to_json()


@pytest.mark.parametrize("name", list_pretrained())
def test_packaged_cards_say_what_a_user_needs(name: str) -> None:
    card = find_bundle(name).card
    assert card.id == name
    assert card.licence != "unknown" and card.training_data and card.recipe and card.limits
    assert len(card.sha256) == 64 and card.golden
    told = {source: figures["auc_interval"] for source, figures in card.metrics["test"].items()}
    unknown = [source for source, ends in told.items() if ends == [None, None]]
    assert set(unknown) <= {"caltech"}  # too few groups for an interval
    for source in told.keys() - unknown:
        low, high = told[source]
        assert 0 <= low <= card.metrics["test"][source]["auc"] <= high <= 1, source


SIZES = {
    "size_px": (0, -1, 1025, 30_000, 256.5, float("nan"), "64", None, True),
    "margin": (0, -1.3, 1e6, float("nan"), float("inf"), "1.3", None),
    "std": ([0, 1, 1], [1e-300, 1, 1], [1, 1], 1, [1, 1, None], [1, 1, float("inf")]),
    "mean": ([1e30, 0, 0], [0, 0], "000", {}, [0, 0, float("nan")]),
    "interpolation": ("nearest", 3, None),
    "finder": (7, None, "x" * 1001, "/etc/passwd", "../finder.onnx", "\0", "/dev/zero", "hf://owner", "finder.onnx"),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in SIZES.items() for value in values])
def test_a_wrong_preprocessing_is_refused_by_name(field: str, value: Any) -> None:
    preprocessing = {**json.loads(CARD.to_json())["preprocessing"], field: value}
    with pytest.raises(WeightsMismatch, match=rf"card.json: {field}(\[\d\])? is "):
        Card.from_json(changed(preprocessing=preprocessing))


def test_a_card_of_a_stranger_costs_little() -> None:
    deep = '{"metrics": ' + "[" * 100_000 + "]" * 100_000 + "}"
    with pytest.raises(WeightsMismatch, match="nested too deeply"):
        Card.from_json(deep)
    nested: Any = 1
    for _ in range(20):
        nested = {"a": nested}
    with pytest.raises(WeightsMismatch, match="at most 16 levels"):
        Card.from_json(changed(metrics=nested))
    with pytest.raises(WeightsMismatch, match="a whole number of 5000 digits"):
        Card.from_json(changed(version=1).replace('"version": 1', '"version": ' + "9" * 5000))
    with pytest.raises(WeightsMismatch, match=r"has 2,\d+,\d+ bytes, expected a card of at most 1,048,576"):
        Card.from_json(changed(recipe="x" * 2**21))


def test_every_flipped_bit_is_noticed() -> None:
    content = CARD.to_json().encode()
    loaded = []
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            try:
                loaded.append(Card.from_json(bytes(damaged)))
            except (WeightsMismatch, WeightsCorrupted):
                continue
    assert loaded == []


def test_an_edited_card_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(WeightsCorrupted, match=r'mine\.json is damaged or was edited.*set "checksum": ""'):
        Card.from_json(changed(threshold=0.25), where="mine.json")
    assert Card.from_json(changed(threshold=0.25, checksum=""), where="mine.json").threshold == 0.25
    assert "mine.json was edited by hand" in caplog.text


@pytest.mark.parametrize("name", list_packaged())
def test_packaged_cards_have_a_checksum(name: str) -> None:
    values = json.loads((find_bundle(name).folder / "card.json").read_text("utf-8"))
    assert values["schema"] in (3, SCHEMA) and len(values["checksum"]) == 64
