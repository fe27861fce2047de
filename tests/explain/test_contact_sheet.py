"""Tests of contact sheets of explanations."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.explain.contact_sheet import explain_many
from deepfake_detect.explain.explainer import explain_image
from tests.small_world import PORTRAIT, empty_scene, portrait, small_detector


@pytest.fixture
def pictures() -> list[tuple[object, str]]:
    """Give one face in six lights, half of them called fake, and one picture without a face."""
    face = Image.fromarray(portrait())
    lights = [np.asarray(ImageEnhance.Brightness(face).enhance(0.5 + 0.15 * step)) for step in range(6)]
    return [(light, ("real", "fake")[number % 2]) for number, light in enumerate(lights)] + [(empty_scene(), "real")]


def test_the_surest_mistakes_come_first(pictures: list[tuple[object, str]]) -> None:
    detector = small_detector(threshold=0.5)
    sheet = explain_many(detector, pictures)
    wrong = [entry for entry in sheet.entries if not entry.is_right]
    assert [entry.is_right for entry in sheet.entries] == sorted(entry.is_right for entry in sheet.entries)
    assert 0 < len(wrong) < len(sheet.entries) == sheet.n == 6
    assert sheet.mistakes == len(wrong)

    def away(entry: object) -> float:
        score, actual = entry.explanation.score, entry.actual  # type: ignore[attr-defined]
        return abs((actual == "fake") - score)

    assert [away(entry) for entry in wrong] == sorted((away(entry) for entry in wrong), reverse=True)
    right = [away(entry) for entry in sheet.entries if entry.is_right]
    assert right == sorted(right)
    assert sheet.left_out == ("<array>: no face was found",)


def test_only_what_is_shown_is_explained(
    pictures: list[tuple[object, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict[str, object]] = []

    def watched(*args: object, **options: object) -> object:
        asked.append(options)
        return explain_image(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("deepfake_detect.explain.contact_sheet.explain_image", watched)
    found = explain_many(small_detector(), pictures, count=2, method="eigen-cam")
    assert len(asked) == len(found.entries) == 2
    assert asked[0]["method"] == "eigen-cam" and asked[0]["faithfulness"] == "off"
    found.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.width > 1000
    picture = found._repr_png_()
    assert picture is not None and picture.startswith(b"\x89PNG")
    found.save(tmp_path / "sheet.json")
    saved = json.loads((tmp_path / "sheet.json").read_text("utf-8"))
    assert saved == found.to_dict() and saved["n"] == 6 and len(saved["entries"]) == 2
    assert repr(found).startswith("ExplanationSheet(2 of 6 pictures, ")
    with pytest.raises(DeepfakeDetectError, match="count is 0"):
        explain_many(small_detector(), pictures, count=0)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"no picture at all")
    found = explain_many(small_detector(), [(tmp_path / "damaged.jpg", "fake"), (PORTRAIT, "real")])
    assert found.n == 1
    (reason,) = found.left_out
    assert "damaged.jpg" in reason and "no face" not in reason
