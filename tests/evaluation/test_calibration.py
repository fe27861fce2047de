"""Tests of calibrated cards: what is fitted, written and judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepfake_detect.datasets.read import Sample
from deepfake_detect.errors import DatasetError, DeepfakeDetectError
from deepfake_detect.evaluation.calibration import calibrate, keep_band
from deepfake_detect.metrics.classification import expected_calibration_error
from deepfake_detect.predict.prediction import Prediction
from deepfake_detect.predict.verdict import judge
from deepfake_detect.weights.card import Card
from tests.small_world import CARD


class Said:
    """Answers with the logit that is written in the picture's name; None has no face."""

    def __init__(self, card: Card = CARD) -> None:
        self.card = card

    def predict_many(self, images: Iterable[Any], *, on_error: str) -> Iterator[Prediction]:
        assert on_error == "yield"
        for image in images:
            missing = {"none": "no-face", "torn": "error"}.get(str(image))
            logit = None if missing else float(str(image))
            score, label = (None, missing) if logit is None else judge(logit, card=self.card)
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
    assert card.threshold == 0.5
    calibration = card.calibration
    assert (calibration["method"], calibration["n"], calibration["temperature"]) == ("platt", 4000, card.temperature)
    assert calibration["ece_after"] < 0.03 < 0.1 < calibration["ece_before"]
    assert Card.from_json(card.to_json()) == card


def test_the_error_afterwards_is_of_pictures_left_out() -> None:
    few = labelled(30, seed=3)
    card = fitted(few)
    logit, label = np.array([float(s.image) for s in few]), np.array([s.label for s in few])
    inside = expected_calibration_error(label, 1 / (1 + np.exp(-(logit / card.temperature + card.bias))))
    assert card.calibration["ece_after"] > 1.1 * inside
    assert fitted(labelled(30)[:6]).calibration["ece_after"] is None


def two_kinds(reals: int, fakes: int, *, seed: int = 0) -> list[Sample]:
    """Give real photographs around the logit -1 and fakes around 2, each a group of its own."""
    random = np.random.default_rng(seed)
    logits = [*random.normal(-1, 1.5, reals), *random.normal(2, 1.5, fakes)]
    return [Sample(image=repr(float(logit)), label=int(n >= reals)) for n, logit in enumerate(logits)]


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_a_band_is_fitted_where_the_pictures_are_enough(method: str) -> None:
    data, fresh = two_kinds(2000, 2000), two_kinds(20_000, 20_000, seed=1)
    card = fitted(data, method=method)
    assert card.uncertain is not None and card.calibration["band"] == "fitted"
    labels = np.array([judge(float(s.image), card=card)[1] for s in fresh]).reshape(2, -1)
    assert np.mean(labels[0] == "fake") == pytest.approx(0.02, abs=0.006)
    at_widest = card.uncertain[0] == 0.3
    assert at_widest or np.mean(labels[1] == "real") == pytest.approx(0.1, abs=0.015)
    assert card.calibration["uncertain_rate"] == pytest.approx(np.mean(labels[0] == "uncertain"), abs=0.02)
    assert f"{card.uncertain[0]:.3f} to {card.uncertain[1]:.3f} are uncertain: at most 2%" in card.calibration["note"]
    assert Card.from_json(card.to_json()) == card


def test_a_band_is_never_narrower_or_wider_than_it_says() -> None:
    apart = [Sample(image=repr(value), label=int(value > 0)) for value in np.r_[-9:-8:99j, 8:9:99j].tolist()]
    assert fitted(apart).uncertain == (0.49, 0.51)
    mixed = [Sample(image=repr(value), label=n % 2) for n, value in enumerate(np.linspace(-1, 1, 400).tolist())]
    assert fitted(two_kinds(900, 900)).uncertain[0] >= 0.3  # type: ignore[index]
    low, high = fitted(mixed).uncertain or (0, 0)
    assert 0.3 <= low <= 0.49 and 0.51 <= high <= 0.95


@pytest.mark.parametrize(("reals", "fakes", "band"), [(49, 9, "fitted"), (48, 9, "kept"), (49, 8, "kept")])
def test_the_band_before_is_kept_where_the_pictures_are_too_few(reals: int, fakes: int, band: str) -> None:
    data, before = two_kinds(reals, fakes), replace(CARD, uncertain=(0.3, 0.8791), temperature=1.2, bias=-0.3)
    card = fitted(data, card=before)
    assert card.calibration["band"] == band
    assert (card.uncertain == (0.3, 0.8791)) == (band == "kept")
    if band == "kept":
        assert f"as before this fit: {reals} groups of real and {fakes} of fake pictures" in card.calibration["note"]
        assert fitted(data).uncertain is None and fitted(data).calibration["band"] == "none"
        assert "there was none before" in fitted(data).calibration["note"]
    grouped = [replace(sample, group=str(n // 2)) for n, sample in enumerate(two_kinds(2 * reals, 2 * fakes))]
    assert fitted(grouped, card=before).calibration["band"] == band


def test_a_kept_band_holds_the_threshold() -> None:
    for before, kept in (((0.6, 0.9), (0.49, 0.9)), ((0.1, 0.4), (0.1, 0.51))):
        card = replace(CARD, uncertain=before, threshold=0.9)
        assert fitted(two_kinds(9, 9), card=card).uncertain == kept
        assert keep_band(replace(card, threshold=0.5)).uncertain == kept
    assert keep_band(CARD) == CARD
    alone = keep_band(replace(CARD, uncertain=(0.3, 0.8)))
    assert alone.calibration["band"] == "kept" and "not calibrated" in alone.calibration["note"]


def test_uncertain_pictures_stay_uncertain_after_a_fit_to_18_that_are_easy() -> None:
    """A fit without smoothing calls every one of the 18 sure, and so 33 doubtful pictures too."""
    easy = [Sample(image=repr(value), label=int(value > 0)) for value in np.r_[-4:-2:9j, 2:4:9j].tolist()]
    before = replace(CARD, uncertain=(0.3, 0.88))
    doubtful = np.linspace(-0.8, 1.4, 33).tolist()
    assert all(judge(value, card=before)[1] == "uncertain" for value in doubtful)
    card = fitted(easy, card=before)
    after = [judge(value, card=card)[1] for value in doubtful]
    assert after.count("uncertain") > 20


def test_the_band_of_platt_and_conformal_is_that_of_conformal() -> None:
    calibration = fitted(two_kinds(2000, 2000), method="platt+conformal", max_false_alarm=0.05).calibration
    assert calibration["band"] == "fitted" and calibration["note"].count("uncertain") == 1


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
    calibration = card.calibration
    assert labels.count("fake") == calibration["false_alarms_seen"] == int(rate * 501) - 1
    uncertain = int(min(0.5, 5 * rate) * 501) - int(rate * 501)
    assert labels.count("uncertain") == pytest.approx(uncertain, abs=1)
    assert (card.temperature, card.bias) == (1.7, -0.3)
    assert f"at most {rate:.2%}" in calibration["note"]
    assert rate < calibration["false_alarm_bound_95"] < 3 * rate
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
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / "notes.txt").write_text("")
    asked: list[str] = []
    monkeypatch.setattr(Said, "predict_many", lambda self, images, on_error: asked.extend(map(str, images)) or iter([]))
    with pytest.raises((DatasetError, ValueError)):
        fitted(tmp_path)
    assert [Path(name).name for name in asked] == ["0.jpg", "1.jpg", "2.jpg"]


def test_labels_are_never_overlooked(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("file,label\n1.jpg,fake\n")
    with pytest.raises(DatasetError, match="no real photographs"):
        fitted(tmp_path)
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "2.jpg").write_bytes(b"")
    with pytest.raises(DatasetError):  # class folders, and a stray picture among them
        fitted(tmp_path)


def test_the_edges_of_the_band_are_exact() -> None:
    """Every photograph at hand gets the label that its rank asks for, also where logits lie close together."""
    start = replace(CARD, temperature=1.3, bias=0.2)
    for step in (1e-3, 1e-7):
        logits = 2 + step * np.arange(500)
        card = fitted([repr(float(value)) for value in logits], card=start, max_false_alarm=0.02)
        labels = [judge(float(value), card=card)[1] for value in logits]
        assert labels == ["real"] * 451 + ["uncertain"] * 40 + ["fake"] * 9, step  # 49 and 9 lie above a threshold
        assert card.calibration["uncertain_rate"] == 40 / 500


def test_scores_that_saturate_never_raise_more_alarms_than_promised() -> None:
    """Logits of 33 and 36 differ, their scores hardly: ties go to the reals."""
    logits = np.linspace(30, 38, 400)
    with pytest.raises(DatasetError, match="have the score 1"):
        fitted([repr(float(value)) for value in logits], max_false_alarm=0.05)
    logits = np.linspace(28, 36, 400)
    card = fitted([repr(float(value)) for value in logits], max_false_alarm=0.3)
    labels = [judge(float(value), card=card)[1] for value in logits]
    assert labels.count("fake") == card.calibration["false_alarms_seen"] <= 0.3 * 401 - 1


def test_no_band_where_both_thresholds_are_one() -> None:
    card = fitted(["-1.0"] * 200)
    assert card.uncertain is None and card.calibration["uncertain_rate"] == 0
    assert judge(-1.0, card=card)[1] == "real"


def test_platt_and_conformal_together() -> None:
    data = labelled(2000)
    both, platt = fitted(data, method="platt+conformal", max_false_alarm=0.05), fitted(data)
    assert (both.temperature, both.bias) == (platt.temperature, platt.bias)
    calibration = both.calibration
    assert calibration["method"] == "platt+conformal"
    assert (calibration["ece_before"], calibration["ece_after"]) == (
        platt.calibration["ece_before"],
        platt.calibration["ece_after"],
    )
    assert calibration["note"].startswith("The score is a probability") and "at most 5.00%" in calibration["note"]
    reals = [sample for sample in data if sample.label == 0]
    assert calibration["n"] == len(reals) and calibration["n_groups"] == len({sample.group for sample in reals})
    alone = fitted(reals, max_false_alarm=0.05)
    same = [(judge(float(s.image), card=both)[1], judge(float(s.image), card=alone)[1]) for s in data]
    assert all(one == other for one, other in same)  # the fit leaves the order as it is
    assert Card.from_json(both.to_json()) == both


def test_a_second_calibration_replaces_the_first() -> None:
    data = [sample for sample in labelled(2000) if sample.label == 0]
    once = fitted(data, max_false_alarm=0.05)
    assert fitted(data, card=once, max_false_alarm=0.05) == once
    over = fitted(data, card=fitted(labelled()), max_false_alarm=0.05)
    assert over.calibration["method"] == "conformal" and over.calibration["ece_after"] is None
    assert over.calibration["note"].startswith("The next real photograph")
    assert over.calibration["temperature"] == over.temperature


def test_the_promise_holds_for_people_with_many_photographs() -> None:
    """One of each group is drawn: all of them would hide how few people there are."""
    random = np.random.default_rng(5)
    rates = []
    for _ in range(150):
        people = random.normal(0, 2, 60)
        data = [
            Sample(image=repr(float(person + noise)), label=0, group=f"p{number}")
            for number, person in enumerate(people)
            for noise in random.normal(0, 0.3, 1 + 3 * (number % 4))
        ]
        card = fitted(data, max_false_alarm=0.1)
        others = random.normal(0, 2, 500) + random.normal(0, 0.3, 500)
        rates.append(np.mean([judge(float(value), card=card)[1] == "fake" for value in others]))
    error = 3 * np.std(rates) / np.sqrt(len(rates))
    assert 0.1 - 1 / 61 - error < np.mean(rates) < 0.1 + error


def test_one_photograph_of_each_group_counts() -> None:
    samples = [Sample(image=repr(float(n % 7)), label=0, group=f"person {n // 10}") for n in range(1000)]
    card = fitted(samples, max_false_alarm=0.05)
    assert (card.calibration["n"], card.calibration["n_groups"]) == (1000, 100)
    with pytest.raises(DatasetError, match="1 real photographs allow 50"):
        fitted([Sample(image=repr(n / 9), label=0, group="one") for n in range(200)])
    assert fitted([replace(sample, group="") for sample in samples]).calibration["n_groups"] == 1000


def test_pictures_without_a_face_are_counted_and_left_out() -> None:
    card = fitted(["none"] * 5 + ["torn"] * 2 + [repr(value / 20) for value in range(99)])
    calibration = card.calibration
    assert (calibration["n"], calibration["no_face"], calibration["unreadable"]) == (99, 5, 2)
    with pytest.raises(DatasetError, match="of 3 pictures, 2 have no face and 1 cannot be"):
        fitted(["none", "none", "torn"])
    for nothing in ([], [Sample(image="1.0", label=1)]):
        with pytest.raises(DatasetError, match="no real photographs"):
            fitted(nothing)


def test_what_cannot_be_done_says_what_is_needed() -> None:
    with pytest.raises(DatasetError, match="needs labelled pictures of both classes"):
        fitted(["1.0"] * 9, method="platt")
    with pytest.raises(ValueError, match="method is 'isotonic'"):
        fitted(["1.0"] * 9, method="isotonic")
    with pytest.raises(DeepfakeDetectError, match="did you mean 'platt'"):
        fitted(["1.0"] * 9, method="plat")
    with pytest.raises(DeepfakeDetectError, match="max_false_alarm is 2, expected"):
        fitted(["1.0"] * 9, max_false_alarm=2)
    with pytest.raises(DatasetError, match="have the score 1"):
        fitted(["999.0"] * 200)
