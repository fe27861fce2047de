"""Test that a grid shows some pictures of each class and difficulty, of as many groups as there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from deepfake_detect import InvalidOption
from deepfake_detect.auditing import grid as module
from deepfake_detect.auditing.grid import sample_grid
from deepfake_detect.cli.main import main
from deepfake_detect.datasets.read import Sample
from deepfake_detect.drawing.annotate import COLOURS


def test_sections_are_classes_and_difficulties_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(module, "draw_gallery", lambda sections, columns: drawn.extend(sections))
    samples = [Sample(image=f"{level}{n}.jpg", label=1, note=f"difficulty={level};parts=nose", group=f"{level}{n % 3}")
               for level in ("hard", "easy", "mid") for n in range(9)]  # fmt: skip
    sample_grid([*samples, Sample(image="real.jpg", label=0, source="web")], count=4)
    assert [title for title, _ in drawn] == [
        "real: 1 pictures", "fake, easy: 9 pictures", "fake, mid: 9 pictures", "fake, hard: 9 pictures"
    ]  # fmt: skip
    for _, tiles in drawn[1:]:
        assert len({int(tile.name[4:-4]) % 3 if tile.name[:4] in ("hard", "easy") else int(tile.name[3:-4]) % 3
                    for tile in tiles[:3]}) == 3  # fmt: skip
        assert len(tiles) == 4


def test_the_command_draws_one_and_names_what_cannot_be_opened(tmp_path: Path) -> None:
    for label, colour in (("real", "green"), ("fake", "red")):
        (tmp_path / label).mkdir()
        Image.new("RGB", (60, 40), colour).save(tmp_path / label / "a.png")
    (tmp_path / "fake" / "b.png").write_bytes(b"no picture")
    result = CliRunner().invoke(main, ["audit", str(tmp_path), "--grid", str(tmp_path / "out" / "grid.png")])
    assert result.exit_code == 0, result.output
    colours = {colour for _, colour in Image.open(tmp_path / "out" / "grid.png").getcolors(1 << 24) or ()}
    assert {(0, 128, 0), (255, 0, 0), COLOURS["real"], COLOURS["fake"]} <= colours
    refused = CliRunner().invoke(main, ["audit", str(tmp_path), "--grid", "grid.pdf"])
    assert refused.exit_code == 2 and "'.pdf'" in refused.stderr


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InvalidOption, match="count"):
        sample_grid([("a.jpg", "real")], count=0)
