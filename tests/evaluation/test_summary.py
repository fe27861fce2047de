import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deepfake_detect.evaluation.scored import Row, scores_of
from deepfake_detect.evaluation.summary import break_down, compare_delivery, compare_generators, measure
from deepfake_detect.metrics import classification


def row(label: str, score: float | None, **more: Any) -> Row:
    predicted = more.pop("predicted", "no-face" if score is None else "fake" if score >= 0.5 else "real")
    return Row(name="a.jpg", label=label, score=score, predicted=predicted, **more)


def rows(reals: list[float], fakes: list[float], **more: Any) -> list[Row]:
    return [*(row("real", score, **more) for score in reals), *(row("fake", score, **more) for score in fakes)]


def test_figures_are_those_of_the_measures() -> None:
    scored = rows([0.1, 0.2, 0.3, 0.6, 0.8], [0.4, 0.55, 0.7, 0.9, 0.95, 0.99])
    figures = measure(scored, threshold=0.65, rounds=50)
    y, score = [0] * 5 + [1] * 6, [entry.score for entry in scored]
    assert (figures.n, figures.real, figures.fake, figures.paired, figures.collapsed) == (11, 5, 6, False, None)
    assert figures.confusion == (4, 1, 4, 2)
    assert figures.accuracy == pytest.approx(8 / 11) and figures.majority == pytest.approx(6 / 11)
    assert figures.balanced_accuracy == pytest.approx((4 / 5 + 4 / 6) / 2)
    assert (figures.precision, figures.recall, figures.f1) == pytest.approx((4 / 5, 4 / 6, 8 / 11))
    assert (figures.false_alarms, figures.missed) == pytest.approx((1 / 5, 2 / 6))
    assert figures.auc == pytest.approx(roc_auc_score(y, score))
    assert figures.ap == classification.average_precision(y, score) and figures.eer == classification.equal_error_rate(
        y, score
    )
    assert figures.ece == classification.expected_calibration_error(y, score)
    assert figures.log_loss == classification.log_loss(y, score)
    names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "ap", "eer", "ece", "log_loss")
    assert set(figures.intervals) == set(names)
    for name in names:
        low, high = figures.intervals[name]
        assert low <= getattr(figures, name) <= high, name
    expected = classification.bootstrap_interval(classification.roc_auc, y, score, rounds=50)  # type: ignore[arg-type]
    assert figures.intervals["auc"] == pytest.approx(expected)


def test_what_has_no_score_is_counted_and_left_out() -> None:
    beside = [row("fake", None), row("real", None, predicted="error", error="cut off"), row("real", None)]
    unsure = row("real", 0.52, predicted="uncertain")
    figures = measure([*rows([0.1], [0.9]), *beside, unsure], threshold=0.5)
    assert (figures.n, figures.no_face, figures.unreadable, figures.uncertain) == (3, 2, 1, 1)
    assert figures.accuracy == pytest.approx(2 / 3)  # the unsure one by its side of the threshold


def test_no_pictures_are_no_error() -> None:
    figures = measure([row("fake", None)], threshold=0.5)
    assert figures.n == 0 and math.isnan(figures.auc) and math.isnan(figures.majority)
    assert figures.confusion == (0, 0, 0, 0) and figures.collapsed is None
    assert math.isnan(figures.false_alarms) and math.isnan(figures.missed)


@pytest.mark.parametrize(("threshold", "only"), [(0.95, "real"), (0.05, "fake"), (0.5, None)])
def test_a_collapse_is_named(threshold: float, only: str | None) -> None:
    assert measure(rows([0.1, 0.3], [0.6, 0.9]), threshold=threshold).collapsed == only
    assert measure(rows([], [0.6, 0.9]), threshold=threshold).collapsed is None  # one answer is right there


def test_a_class_of_few_groups_has_no_interval() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.6]
    reals = [row("real", score) for score in scores]
    four = [row("fake", score, group=f"p{min(place, 3)}") for place, score in enumerate(scores)]
    five = [row("fake", score, group=f"p{place}") for place, score in enumerate(scores)]
    few, enough = (measure([*reals, *fakes], threshold=0.5, rounds=20).intervals for fakes in (four, five))
    turned = [
        row("real" if entry.label == "fake" else "fake", entry.score, group=entry.group) for entry in [*reals, *four]
    ]
    assert math.isnan(measure(turned, threshold=0.5, rounds=20).intervals["auc"][0])
    assert math.isnan(few["auc"][0]) and math.isnan(few["recall"][1]) and not math.isnan(few["accuracy"][0])
    assert not np.isnan([enough[name] for name in ("auc", "recall", "ece")]).any()


def test_interval_of_the_calibration_error_is_not_shifted_by_chance() -> None:
    random = np.random.default_rng(0)
    score = random.uniform(size=300)
    own = [row("fake" if random.uniform() < value else "real", float(value)) for value in score]
    figures = measure(own, threshold=0.5)
    low, high = figures.intervals["ece"]
    of = scores_of(own)
    plain = classification.bootstrap_interval(classification.expected_calibration_error, of.y, of.score)
    assert low < figures.ece - 0.01 and figures.ece + 0.01 < high and plain[0] > low + 0.01


def test_one_class_is_paired_with_the_other() -> None:
    others = rows([0.2, 0.7], [0.1])
    figures = measure(rows([], [0.6, 0.3]), threshold=0.5, others=others)
    assert figures.paired and (figures.n, figures.real, figures.fake) == (2, 0, 2)
    assert figures.auc == pytest.approx(2 / 4)  # .6 > .2, .3 > .2
    assert figures.balanced_accuracy == pytest.approx(0.5) and figures.precision == pytest.approx(1 / 2)
    assert (figures.accuracy, figures.recall, figures.missed) == (0.5, 0.5, 0.5)
    assert figures.confusion == (1, 0, 0, 1) and math.isnan(figures.false_alarms)
    assert not measure(rows([0.1], [0.9]), threshold=0.5, others=others).paired
    assert not measure(rows([0.1], []), threshold=0.5, others=[row("fake", None)]).paired


def test_break_down_by_whatever_is_named() -> None:
    web = rows([0.1, 0.6], [0.4], source="web", generator="gan")
    easy = [row("fake", 0.9, source="lab", generator="swap", tags={"difficulty": "easy", "id": "1", "source": "x"})]
    hard = [row("fake", 0.2, source="lab", generator="swap", tags={"difficulty": "hard", "id": "2"})]
    plain = [row("real", 0.3, source="lab", tags={"difficulty": "real"})]
    tables = break_down([*web, *easy, *hard, *plain], threshold=0.5, rounds=10)
    assert list(tables) == ["source", "generator", "difficulty", "id"]
    assert list(tables["difficulty"]) == ["easy", "hard", "real"]
    assert [tables["source"][name].n for name in ("lab", "web")] == [3, 3]
    assert tables["source"]["web"].auc == 0.5 and not tables["source"]["web"].paired
    assert tables["difficulty"]["easy"].paired and tables["difficulty"]["easy"].auc == 1.0
    assert tables["difficulty"]["hard"].auc == 0.0  # against the real picture of its own source alone
    assert tables["generator"]["swap"].auc == 0.5


def test_difficulties_rise() -> None:
    words = ("hard", "mid", "easy", "real", "a")
    own = [row("fake", 0.5, tags={"difficulty": word}) for word in words]
    assert list(break_down(own, threshold=0.5, rounds=5)["difficulty"]) == ["easy", "mid", "hard", "a", "real"]


def test_a_source_of_one_class_is_held_against_all_others() -> None:
    own = [*rows([0.1, 0.5], [0.9], source="web"), *rows([0.2], [], source="phone"), *rows([], [0.3], source="gan")]
    table = break_down(own, threshold=0.5, rounds=10)["source"]
    assert table["gan"].auc == pytest.approx(2 / 3) and table["phone"].auc == 1.0


def test_keys_that_tell_pictures_apart_are_left_out() -> None:
    many = [row("real", 0.1, source=f"s{place}", tags={"id": str(place)}) for place in range(20)]
    tables = break_down(many, threshold=0.5, rounds=5)
    assert list(tables) == ["source"] and len(tables["source"]) == 20
    assert break_down(rows([0.1], [0.9]), threshold=0.5) == {}


def test_each_generator_against_each_source() -> None:
    own = [
        *rows([0.1, 0.5], [], source="web", generator="camera"),
        *rows([0.4], [], source="phone", generator="camera"),
        *rows([], [0.3, 0.6], source="lab", generator="swap"),
        *rows([], [0.45], source="gan"),
        row("fake", None, generator="swap"),
    ]
    table = compare_generators(own, rounds=10)
    assert list(table) == ["gan", "swap"] and list(table["gan"]) == ["phone", "web", "all"]
    assert table["swap"]["web"][0] == pytest.approx(3 / 4) and table["swap"]["web"][3:] == (2, 2)
    assert table["swap"]["phone"].auc == 0.5 and table["gan"]["all"].auc == pytest.approx(2 / 3)
    assert compare_generators(rows([], [0.5])) == {}
    assert compare_generators(rows([0.2], [0.5]))["unnamed"]["unnamed"].auc == 1.0


def test_loss_of_a_delivery_is_over_pictures_scored_both_times() -> None:
    before = rows([0.1, 0.2, 0.3, 0.4, 0.5, 0.9], [0.6, 0.7, 0.8, 0.85, 0.95, 0.15])
    after = [row(old.label, 0.5 if old.label == "fake" else old.score) for old in before]
    after[5] = row("real", None)  # the 0.9
    loss = compare_delivery(before, after, threshold=0.5, rounds=100)
    assert (loss.n, loss.no_face) == (11, 1)
    assert loss.auc == pytest.approx((6 * 4 + 6 * 0.5) / 30)
    assert loss.lost_auc == pytest.approx((5 * 5 + 1) / 30 - loss.auc)
    low, high = loss.intervals["lost_auc"]
    assert low <= loss.lost_auc <= high and set(loss.intervals) == {"auc", "balanced_accuracy", "lost_auc"}


def test_loss_leaves_out_what_was_found_only_then() -> None:
    before = [row("real", None), *rows([0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.85, 0.95])]
    after = [row("real", 0.99), *(row(old.label, 0.4) for old in before[1:])]
    loss = compare_delivery(before, after, threshold=0.5, rounds=50)
    assert loss.auc == pytest.approx(5 / 12) and loss.lost_auc == 0.5
    assert loss.intervals["lost_auc"] == (0.5, 0.5)


def test_what_costs_nothing_has_lost_nothing_in_any_draw() -> None:
    scored = rows([0.1, 0.2, 0.3, 0.4, 0.75], [0.6, 0.7, 0.8, 0.85, 0.35])
    same = compare_delivery(scored, scored, threshold=0.5, rounds=50)
    assert same.lost_auc == 0 and same.intervals["lost_auc"] == (0, 0)


def test_rows_without_a_group_are_their_own() -> None:
    of = scores_of([row("real", 0.1), row("fake", 0.2), row("fake", 0.3, group="0"), row("fake", 0.4, group="0")])
    assert len(set(of.group)) == 3 and of.group[2] == of.group[3]
    assert of.y.tolist() == [0, 1, 1, 1]


def test_row_is_told_without_its_picture() -> None:
    values = row("real", 0.25, tags={"a": "b"}, box_xyxy=(0.0, 1.0, 2.0, 3.0), image=object()).to_dict()
    assert values["box_xyxy"] == [0, 1, 2, 3] and values["tags"] == {"a": "b"} and "image" not in values
