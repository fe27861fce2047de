"""Does a card come back as it was written, and is a wrong one refused by name?"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from deepfake_detect.card import SCHEMA, Card, Preprocessing
from deepfake_detect.errors import WeightsMismatch
from deepfake_detect.weights import find_bundle, list_pretrained

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
        (changed(preprocessing={"size_px": 3}), "preprocessing: unknown fields none, missing fields"),
    ],
)
def test_wrong_cards_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(WeightsMismatch, match=message):
        Card.from_json(text, where="card.json")


def test_numbers_that_json_cannot_hold_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(CARD, metrics={"auc": float("nan")}).to_json()


@pytest.mark.parametrize("name", list_pretrained())
def test_packaged_cards_say_what_a_user_needs(name: str) -> None:
    card = find_bundle(name).card
    assert card.id == name
    assert card.licence != "unknown" and card.training_data and card.recipe and card.limits
    assert len(card.sha256) == 64 and card.golden
    for source, figures in card.metrics["test"].items():
        low, high = figures["auc_interval"]
        assert 0 <= low <= figures["auc"] <= high <= 1, source
