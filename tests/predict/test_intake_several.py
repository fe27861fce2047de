"""Test that one picture is told from several, in every form, and that what holds none is refused with the remedy."""

from __future__ import annotations

import io
import shutil
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

from deepfake_detect import Detector, ImageUnreadable, InvalidOption, Prediction
from deepfake_detect.inputs.listing import list_files
from deepfake_detect.predict.intake import list_several, open_several
from deepfake_detect.predict.prediction import Predictions
from tests.small_world import PORTRAIT, empty_scene, portrait, small_detector

ONE = [
    str(PORTRAIT),
    PORTRAIT,
    "http://localhost/a[1].jpg",
    "data:,[*]",
    "missing.jpg",
    "",
    "a\0b",
    b"bytes",
    bytearray(b"bytes"),
    memoryview(b"bytes"),
    io.BytesIO(b""),
    Image.new("RGB", (9, 9)),
    np.zeros((9, 9, 3), np.uint8),
    np.zeros((9, 9), np.uint8),
    torch.zeros(3, 9, 9),
    None,
    7,
]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small_detector()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Return a folder with a.jpg, b/c.jpg, a hidden picture, and files that are no pictures."""
    for name in ("a.jpg", "b/c.jpg", ".hidden.jpg", ".cache/d.jpg"):
        target = tmp_path / "album" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PORTRAIT, target)
    (tmp_path / "album" / "notes.txt").write_text("no picture")
    return tmp_path / "album"


@pytest.mark.parametrize("image", ONE, ids=lambda image: type(image).__name__)
def test_one_picture(image: Any) -> None:
    assert list_several(image) is None
    with pytest.raises(InvalidOption, match=r"use predict\(image\), or predict_many\(\[image\]\)"):
        open_several(image)


def columns() -> list[Any]:
    paths = [str(PORTRAIT), str(PORTRAIT)]
    return [
        paths,
        tuple(paths),
        deque(paths),
        np.array(paths),
        np.array([PORTRAIT, PORTRAIT], object),
        pd.Series(paths, index=[7, 3]),
        pd.Index(paths),
        pl.Series("file", paths),
    ]


@pytest.mark.parametrize("images", columns(), ids=lambda images: type(images).__name__)
def test_several_paths(detector: Detector, images: Any) -> None:
    assert list_several(images) == [*map(type(list_several(images)[0]), images)]  # type: ignore[index]
    alone = detector.predict(PORTRAIT)
    found = detector.predict(images)
    assert isinstance(found, Predictions)
    assert isinstance(found, list)
    assert [prediction.logit for prediction in found] == pytest.approx([alone.logit] * 2, abs=1e-5)
    assert [prediction.name for prediction in detector.predict_many(images)] == [str(PORTRAIT)] * 2


def test_several_pictures_keep_their_order(detector: Detector) -> None:
    images = [portrait(), empty_scene(), PORTRAIT, Image.open(PORTRAIT)]
    assert [prediction.label for prediction in detector.predict(images)] == ["real", "no-face", "real", "real"]
    assert [prediction.label for prediction in detector(images)] == ["real", "no-face", "real", "real"]
    assert isinstance(detector(PORTRAIT), Prediction)
    assert detector.predict([]) == []


def test_batches_are_several_pictures(detector: Detector) -> None:
    pixels = np.stack([portrait(), portrait()[:, ::-1]])
    for batch in (pixels, torch.from_numpy(pixels).permute(0, 3, 1, 2)):
        assert len(detector.predict(batch)) == len(list(detector.predict_many(batch))) == 2


def test_folders_and_patterns(detector: Detector, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [str(album / "a.jpg"), str(album / "b" / "c.jpg")]
    for where in (album, str(album), f"{album}/", f"{album}/**/*.jpg"):
        assert [prediction.name for prediction in detector.predict(where)] == both
        assert [prediction.name for prediction in detector.predict_many(where)] == both
    assert list_several(f"{album}/*.jpg") == both[:1]
    monkeypatch.chdir(album)
    assert list_several("*.jpg") == ["a.jpg"]
    assert list_several(".") == ["./a.jpg", "./b/c.jpg"]


def test_a_file_that_looks_like_a_pattern_is_a_file(album: Path) -> None:
    shutil.copy(PORTRAIT, album / "a[1].jpg")
    assert list_several(album / "a[1].jpg") is None
    assert list_files(str(album / "a[1].jpg")) is None


def test_an_empty_folder_says_so(detector: Detector, tmp_path: Path) -> None:
    for score in (detector.predict, detector.predict_many):
        with pytest.raises(
            ImageUnreadable, match=r"holds no pictures \(looked in it and in the folders below for .*\.jpg"
        ):
            score(tmp_path)
        with pytest.raises(ImageUnreadable, match=r"matches no file.*check the folder"):
            score(f"{tmp_path}/*.jpg")
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(ImageUnreadable, match=r"holds no pictures, but 1 video\(s\); use predict_video"):
        detector.predict(tmp_path)


@pytest.mark.parametrize("images", [iter([1]), (n for n in [1]), {1, 2}, frozenset([1])])
def test_what_may_never_end_or_has_no_order_names_predict_many(images: Any) -> None:
    with pytest.raises(InvalidOption, match="use predict_many"):
        list_several(images)
    assert open_several(images) is images


@pytest.mark.parametrize("frame", [pd.DataFrame({"file": ["a"], "x": [1]}), pl.DataFrame({"file": ["a"], "x": [1]})])
def test_a_table_is_refused_with_its_columns(frame: Any) -> None:
    for take in (list_several, open_several):
        with pytest.raises(InvalidOption, match=r"columns 'file', 'x'.*frame\['NAME'\]"):
            take(frame)
        with pytest.raises(InvalidOption, match=r"list\(mapping\.values"):
            take({"a": "a.jpg"})


def test_a_table_of_predictions(detector: Detector, album: Path) -> None:
    (album / "broken.jpg").write_bytes(b"no picture")
    found = Predictions(detector.predict_many(album, on_error="yield"))
    frame = found.to_frame()
    assert list(frame["label"]) == ["real", "error", "real"]
    assert list(frame["faces"]) == [1, 0, 1]
    assert frame["score"].notna().tolist() == [True, False, True]
    assert "broken.jpg" in frame["error"][1]
    assert list(detector.predict(PORTRAIT).to_frame()["height"]) == [512]
    assert found.plot(columns=3).width == 3 * 180 + 12


def test_crops_are_the_pixels_of_the_original(detector: Detector, album: Path, tmp_path: Path) -> None:
    found = Predictions(detector.predict_many([portrait(), empty_scene(), album / "x.jpg"], on_error="yield"))
    (path,) = found.save_crops(tmp_path / "crops")
    score = found[0].score
    assert path == tmp_path / "crops" / f"0001-array-1-real-{score:.3f}.png"
    crop = np.asarray(Image.open(path))
    x1, y1, x2, y2 = found[0].faces[0].box_xyxy
    side = 1.3 * max(x2 - x1, y2 - y1)
    assert crop.shape[0] == pytest.approx(side, abs=1) and crop.shape[1] == pytest.approx(side, abs=1)
    middle = portrait()[round((y1 + y2) / 2), round((x1 + x2) / 2)]
    assert np.abs(crop[len(crop) // 2, len(crop) // 2].astype(int) - middle).max() < 40
    (whole,) = detector.predict(PORTRAIT, faces="none").save_crops(tmp_path / "whole")
    assert np.array_equal(np.asarray(Image.open(whole)), portrait())
    with pytest.raises(InvalidOption, match="margin is 0"):
        found[0].save_crops(tmp_path, margin=0)


def test_patterns_do_not_go_round_in_rings_of_links(album: Path) -> None:
    (album / "notes.txt").unlink()
    for name in ("up", "again"):  # two of them: to follow both would never end
        (album / "b" / name).symlink_to(album, target_is_directory=True)
    both = [str(album / "a.jpg"), str(album / "b" / "c.jpg")]
    for pattern in ("**/*.jpg", "**", "**/**/*.jpg", "[ab]*", "**/c.jpg"):
        assert list_files(f"{album}/{pattern}") == (both[1:] if "c.jpg" in pattern else both)
