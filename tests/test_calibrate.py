"""Does a calibrated card say what it was fitted on, and judge accordingly?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_world import CARD

from deepfake_detect.calibrate import calibrate
from deepfake_detect.card import Card
from deepfake_detect.data import Sample
from deepfake_detect.errors import DatasetError
from deepfake_detect.metrics import expected_calibration_error
from deepfake_detect.results import Prediction
from deepfake_detect.scoring import judge


class Said:
    """Answers with the logit that is written in the picture's name; None has no face."""

    def __init__(self, card: Card = CARD) -> None:
        self.card = card

    def predict_many(self, images: Iterable[Any], *, on_error: str) -> Iterator[Prediction]:
        assert on_error == "yield"
        for image in images:
            logit = None if str(image) == "none" else float(str(image))
            score, label = (None, "no-face") if logit is None else judge(logit, card=self.card)
            yield Prediction(name=str(image), label=label, score=score, logit=logit, threshold=0.5, size_hw=(1, 1),
                             model="said@0", seconds=0.0)  # fmt: skip


def fitted(data: Any, *, card: Card = CARD, **options: Any) -> Card:
    return calibrate(Said(card), data, **options)  # type: ignore[arg-type]


def labelled(count: int = 600, *, scale: float = 3.0, shift: float = 1.0, seed: int = 0) -> list[Sample]:
    """Give logits that are too sure by a factor, and shifted."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, count)
    label = random.random(count) < 1 / (1 + np.exp(-true))
    return [
        Sample(image=repr(float(scale * (value + shift))), label=int(fake), group=f"g{number // 2}")
        for number, (value, fake) in enumerate(zip(true, label, strict=True))
    ]


def test_platt_finds_scale_and_shift() -> None:
    card = fitted(labelled(4000))
    assert card.temperature == pytest.approx(3.0, rel=0.1)
    assert card.bias == pytest.approx(-1.0, abs=0.12)
    assert (card.threshold, card.uncertain) == (0.5, None)
    told = card.calibration
    assert (told["method"], told["n"], told["temperature"]) == ("platt", 4000, card.temperature)
    assert told["ece_after"] < 0.03 < 0.1 < told["ece_before"]
    assert Card.from_json(card.to_json()) == card


def test_the_error_afterwards_is_of_pictures_left_out() -> None:
    few = labelled(30, seed=3)
    card = fitted(few)
    logit, label = np.array([float(s.image) for s in few]), np.array([s.label for s in few])
    inside = expected_calibration_error(label, 1 / (1 + np.exp(-(logit / card.temperature + card.bias))))
    assert card.calibration["ece_after"] > 1.1 * inside
    assert fitted(labelled(30)[:6]).calibration["ece_after"] is None


def test_temperature_alone_has_no_bias() -> None:
    card = fitted(labelled(4000, shift=0.0), method="temperature", card=replace(CARD, bias=0.7, temperature=2.0))
    assert card.temperature == pytest.approx(3.0, rel=0.1)
    assert card.bias == 0.0


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3])
def test_conformal_labels_as_it_promises(rate: float) -> None:
    start = replace(CARD, temperature=1.7, bias=-0.3)
    logits = np.random.default_rng(2).normal(-2, 2, 500)
    card = fitted([repr(float(value)) for value in logits], card=start, max_false_alarm=rate)
    labels = [judge(float(value), card=card)[1] for value in logits]
    told = card.calibration
    assert labels.count("fake") == told["false_alarms_seen"] == int(rate * 501) - 1
    uncertain = int(min(0.5, 5 * rate) * 501) - int(rate * 501)
    assert labels.count("uncertain") == pytest.approx(uncertain, abs=1)
    assert (card.temperature, card.bias) == (1.7, -0.3)
    assert f"at most {rate:.2%}" in told["note"]
    assert rate < told["false_alarm_bound_95"] < 3 * rate
    assert Card.from_json(card.to_json()) == card


def test_what_counts_as_real_photographs(tmp_path: Path) -> None:
    logits = [repr(float(value)) for value in np.linspace(-5, 0, 120)]
    plain = fitted(logits)
    assert fitted(iter(logits)) == fitted(tuple(logits)) == plain
    assert fitted([Sample(image=logit, label=0) for logit in logits]).threshold == plain.threshold
    mixed = [(logit, "real") for logit in logits] + [("9.0", "fake")]
    assert fitted(mixed, method="conformal").threshold == plain.threshold  # the fake does not count
    with pytest.raises(DatasetError):  # a folder of pictures is read as real ones; these are none
        fitted(tmp_path)


def test_a_folder_of_photographs_is_all_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    asked: list[str] = []
    monkeypatch.setattr(Said, "predict_many", lambda self, images, on_error: asked.extend(map(str, images)) or iter([]))
    with pytest.raises((DatasetError, ValueError)):
        fitted(tmp_path)
    assert [Path(name).name for name in asked] == ["0.jpg", "1.jpg", "2.jpg"]


def test_one_photograph_of_each_group_counts() -> None:
    samples = [Sample(image=repr(float(n % 7)), label=0, group=f"person {n // 10}") for n in range(1000)]
    card = fitted(samples, max_false_alarm=0.05)
    assert card.calibration["n"] == 100


def test_pictures_without_a_face_are_counted_and_left_out() -> None:
    card = fitted(["none"] * 5 + [repr(value / 20) for value in range(99)])
    assert (card.calibration["n"], card.calibration["left_out"]) == (99, 5)
    with pytest.raises(DatasetError, match="no face in any of 3 pictures"):
        fitted(["none"] * 3)


def test_what_cannot_be_done_says_what_is_needed() -> None:
    with pytest.raises(DatasetError, match="needs labelled pictures of both classes"):
        fitted(["1.0"] * 9, method="platt")
    with pytest.raises(ValueError, match="method is 'isotonic'"):
        fitted(["1.0"] * 9, method="isotonic")
    with pytest.raises(DatasetError, match="have the score 1"):
        fitted(["999.0"] * 200)
