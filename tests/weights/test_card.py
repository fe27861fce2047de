"""Does a card come back as it was written, and is a wrong one refused by name?"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.weights.bundle import find_bundle, list_pretrained
from deepfake_detect.weights.card import SCHEMA, Card, Preprocessing

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
        (changed(temperature=0), "temperature 0"),
        (changed(temperature=float("nan")), "temperature nan"),
        (changed(threshold=1.5), "threshold 1.5"),
        (changed(classes=["fake", "real"]), "classes"),
        (changed(uncertain=[0.6, 0.4]), r"uncertain \(0.6, 0.4\), expected two scores"),
        (changed(uncertain=[0.5, 0.5]), "uncertain"),
        (changed(uncertain=[-0.1, 0.5]), "uncertain"),
        (changed(uncertain=[0.5, 1.1]), "uncertain"),
        (changed(uncertain=[0.5]), "uncertain"),
        (changed(uncertain=[0.5, None]), "does not fit schema"),
        (changed(uncertain=0.5), "does not fit schema"),
        (changed(calibration=None), "has a NoneType for calibration"),
        (changed(schema=3), "card schema 3, this library reads up to 2"),
        (changed(preprocessing={"size_px": 3}), "preprocessing: unknown fields none, missing fields"),
    ],
)
def test_wrong_cards_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(WeightsMismatch, match=message):
        Card.from_json(text, where="card.json")


def test_a_card_of_the_first_layout_has_no_calibration() -> None:
    old = json.loads(CARD.to_json())
    del old["calibration"]
    assert Card.from_json(json.dumps({**old, "schema": 1})) == CARD
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
