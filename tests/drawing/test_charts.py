import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from deepfake_detect.drawing import charts
from deepfake_detect.errors import MissingExtra
from deepfake_detect.metrics import classification

Y, SCORE = [0, 0, 0, 1, 1, 1], [0.1, 0.4, 0.6, 0.35, 0.8, 0.9]
HISTORY = [
    {"epoch": 1, "loss": 0.7, "valid_auc": 0.6, "valid_loss": None, "rate": 1e-3},
    {"epoch": 2, "loss": 0.5, "valid_auc": 0.8, "valid_loss": math.nan, "rate": 5e-4},
    {"epoch": 3, "loss": 0.4, "valid_auc": 0.7, "valid_loss": 0.6, "rate": 0.0},
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Give the axes of every chart that is drawn."""
    seen, draw_chart = [], charts.draw_chart

    @contextmanager
    def watched(*args: Any, **options: Any) -> Iterator[Any]:
        with draw_chart(*args, **options) as (axes, finish):
            seen.extend(axes)
            yield axes, finish

    monkeypatch.setattr(charts, "draw_chart", watched)
    return seen


def lines(axis: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}


def words(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_curves_show_what_is_measured(drawn: list[Any]) -> None:
    picture = charts.curves(Y, SCORE, threshold=0.5, title="model")
    assert isinstance(picture, Image.Image) and picture.mode == "RGB" and min(picture.size) > 1000
    roc, precision_recall, reliability, histogram = drawn
    fpr, tpr, _ = classification.roc_curve(Y, SCORE)
    x, y = lines(roc)["AUC 0.778"]
    assert x == fpr.tolist() and y == tpr.tolist()
    assert lines(roc)["threshold 0.5"] == ([1 / 3], [2 / 3])
    assert lines(precision_recall)["threshold 0.5"] == ([2 / 3], [2 / 3])
    recall, precision = lines(precision_recall)["AP 0.867"]
    assert recall[-1] == 1 and precision[1:] == pytest.approx([1, 1, 2 / 3, 2 / 4, 3 / 5, 3 / 6])
    error = classification.expected_calibration_error(Y, SCORE)
    assert reliability.get_legend_handles_labels()[1] == [f"ECE {error:.3f}"]
    assert histogram.get_legend_handles_labels()[1] == ["real, 3", "fake, 3", "threshold 0.5"]
    assert all(sum(patch.get_data().values) == pytest.approx(1) for patch in histogram.patches)


@pytest.mark.parametrize(("y", "score"), [([], []), ([1, 1], [0.2, 0.9]), ([0], [0.5])])
def test_curves_of_one_class_or_none_are_drawn_all_the_same(y: list[int], score: list[float]) -> None:
    assert charts.curves(y, score).size


@pytest.mark.parametrize("chart", [charts.roc, charts.precision_recall, charts.histogram])
def test_each_curve_alone(chart: Callable[..., Image.Image], drawn: list[Any]) -> None:
    without, marked = chart(Y, SCORE), chart(Y, SCORE, threshold=0.5)
    assert len(drawn) == 2 and without.size == marked.size and without != marked


def test_reliability_before_and_after(drawn: list[Any]) -> None:
    charts.reliability({"before": (Y, SCORE), "after": (Y, [0.2] * 6)}, bins=5)
    assert drawn[0].get_legend_handles_labels()[1] == ["before ECE 0.342", "after ECE 0.300"]


def test_training_curves_leave_gaps_and_name_the_best(drawn: list[Any]) -> None:
    charts.training_curves(HISTORY, title="cnn4")
    loss, validation, rate = drawn
    assert set(lines(loss)) == {"training", "validation"} and lines(loss)["training"] == ([1, 2, 3], [0.7, 0.5, 0.4])
    assert np.isnan(lines(loss)["validation"][1]).tolist() == [True, True, False] and words(loss) == ["0.600"]
    assert words(validation) == ["0.800"] and validation.texts[0].xy == (2, 0.8)
    assert lines(rate)["rate"][1] == [1e-3, 5e-4, 0.0]


def test_training_curves_name_training_and_validation_apart(drawn: list[Any]) -> None:
    charts.training_curves([{"train_accuracy": 0.6, "valid_accuracy": 0.5, "valid_auc": 0.7}] * 2)
    assert set(lines(drawn[0])) == {"training accuracy", "validation AUC", "validation accuracy"}


def test_training_curves_show_only_what_is_known(drawn: list[Any]) -> None:
    charts.training_curves([{"loss": 0.7}, {"loss": 0.6}])
    assert len(drawn) == 1 and lines(drawn[0])["training"] == ([1, 2], [0.7, 0.6])
    assert charts.training_curves([]).size


def test_comparison(drawn: list[Any]) -> None:
    charts.comparison(
        {"cnn4": (0.6, 0.5, 0.7), "vgg16": (0.8, math.nan, math.nan), "none": (math.nan,) * 3}, baseline=0.5
    )
    axis = drawn[0]
    assert words(axis) == ["0.600", "0.800"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cnn4", "vgg16", "none"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first one on top
    assert charts.comparison({}).size


def test_robustness(drawn: list[Any]) -> None:
    charts.robustness({"AUC": {"clean": (0.9, 0.8, 1.0), "blur": (0.7, 0.6, math.nan)}})
    assert lines(drawn[0])["AUC"][1] == [0.9, 0.7]
    assert [label.get_text() for label in drawn[0].get_xticklabels()] == ["clean", "blur"]
    assert charts.robustness({}).size


def test_ablation_has_a_panel_for_each_setting_that_varies(drawn: list[Any]) -> None:
    trials = [
        ({"lr": 10.0 ** -(place % 8), "model": "ab"[place % 2], "layers": place % 3, "seed": 0}, 0.5 + 0.01 * place)
        for place in range(16)
    ]
    charts.ablation([*trials, ({"model": "c"}, math.nan)])
    named = {axis.get_title(loc="left"): axis for axis in drawn}
    assert set(named) == {"lr", "model", "layers"} and named["lr"].get_xscale() == "log"
    assert words(named["model"]) == ["0.640", "0.650"]  # the best of each
    assert [patch.get_height() for patch in named["model"].patches] == pytest.approx([0.64, 0.65])
    assert [label.get_text() for label in named["layers"].get_xticklabels()] == ["0", "1", "2"]
    assert charts.ablation([]).size and charts.ablation([({"lr": 1}, 0.5)]).size


def test_settings_of_others_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    charts.roc(Y, SCORE)
    assert dict(matplotlib.rcParams) == before and before["axes.titlelocation"] == "center"


def test_missing_matplotlib_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[plots\]'"):
        charts.training_curves(HISTORY)
