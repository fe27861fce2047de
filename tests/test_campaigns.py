"""Short forms of the campaigns: some cases of each kind, and that a fault would be counted."""

from __future__ import annotations

import random
import shutil
import warnings
from pathlib import Path

import pytest

from campaigns import inputs, weights
from campaigns._table import Table, ends_well
from deepfake_detect.errors import ImageUnreadable
from deepfake_detect.weights.bundle import find_bundle


def test_a_table_counts_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.count("bytes", ends_well(lambda: int("x")))
    table.count("bytes", ends_well(lambda: inputs.open_image(b"x")))
    assert table.print() == 1
    assert "bytes                                    2       1      1" in capsys.readouterr().out
    assert table.findings == ["bytes: ValueError: invalid literal for int() with base 10: 'x'"]


def test_odd_objects_are_errors_of_the_package() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, about the arrays themselves
        problems = [ends_well(lambda value=value: inputs.open_image(value)) for value in inputs.odd_objects()]
    assert [problem for problem in problems if problem] == []


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about metadata
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_no_cut_file_is_a_picture(name: str) -> None:
    content = inputs.seeds()[name]
    for percent in (0, 1, 10, 50, 90, 99):
        with pytest.raises(ImageUnreadable):
            inputs.open_image(content[: len(content) * percent // 100], max_pixels=10_000_000)


def test_forged_weights_do_not_load(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(find_bundle(weights.NAME).folder, tmp_path / "bundle"))
    assert "loaded, and said" in (weights._load(folder, "whole", backend="torch") or "")
    kinds = 0
    for _, what, forged in weights.forged_tensors(folder, count=len(weights.FORGERIES), rng=random.Random(0)):
        assert weights._load(forged, what, backend="torch") is None
        kinds += 1
    assert kinds == len(weights.FORGERIES) + len(weights.WHOLE_FILES)
    problems = [weights._load(forged, what, backend="torch") for _, what, forged in weights.forged_cards(folder)]
    assert [problem for problem in problems if problem] == []
