"""The figures of a training are written, read back, printed and drawn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from deepfake_detect.errors import InvalidOption
from deepfake_detect.training.history import (
    best_epoch,
    epoch_line,
    epoch_table,
    plot_history,
    read_history,
    write_history,
)
from deepfake_detect.training.schedule import Epoch


def epoch(number: int, **figures: Any) -> Epoch:
    usual = {"loss": 0.5, "valid_loss": 0.4, "valid_auc": 0.9, "valid_accuracy": 0.8, "collapsed": "", "rate": 1e-3}
    rest = {"batch_size": 4, "samples_per_s": 2.5, "seconds": 1.5, "train_accuracy": 0.75}
    return Epoch(epoch=number, **{**usual, **rest, **figures})


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    history = [epoch(1), epoch(2, valid_auc=math.nan, collapsed="real", loss=1 / 3)]
    write_history(tmp_path, history)
    again = read_history(tmp_path)
    assert again[0] == history[0] or math.isnan(again[0].train_loss)
    assert [str(one) for one in again] == [str(one) for one in history]
    assert read_history(tmp_path / "none") == ()
    (tmp_path / "history.csv").write_text("epoch,other\n1,2\n")
    assert read_history(tmp_path) == ()


def test_lines_and_tables_never_show_nan() -> None:
    plain = epoch(1, valid_loss=math.nan, valid_auc=math.nan, valid_accuracy=math.nan, train_accuracy=math.nan)
    assert epoch_line(plain, epochs=3) == "epoch 1 of 3: loss 0.5000, no validation, 2.5 pictures/s"
    one_class = epoch(2, valid_auc=math.nan)
    assert "AUC not defined (one class)" in epoch_line(one_class, epochs=3)
    assert "accuracy 0.750" in epoch_line(epoch(1), epochs=3)
    table = epoch_table([plain, one_class, epoch(3)])
    assert "nan" not in table and table.splitlines()[3].startswith("    3*") and table.count("*") == 1


def test_the_best_epoch_is_the_one_that_is_kept() -> None:
    history = [
        epoch(1, valid_auc=0.9, valid_loss=0.3),
        epoch(2, valid_auc=0.9, valid_loss=0.2),
        epoch(3, valid_auc=0.9),
    ]
    assert best_epoch(history) is history[1]
    assert best_epoch([]) is None


def test_curves_are_drawn_and_nothing_is_not() -> None:
    assert plot_history([epoch(1), epoch(2)]).width > 300
    with pytest.raises(InvalidOption, match="there is no history to draw"):
        plot_history([])
