"""Test that a model gets the right pixels, and that its logit is turned into a verdict as the card says."""

from __future__ import annotations

import io
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepfake_detect import Face, ImageUnreadable, Preprocessing, WeightsMismatch
from deepfake_detect.faces.crop import crop_face, whole_picture
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.inputs.image import open_image
from deepfake_detect.predict.look import OVERSAMPLING, check_faces, look_at
from deepfake_detect.predict.verdict import judge
from tests.small_world import CARD, empty_scene, group, portrait

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


class ToldFinder:
    """Finds what it is told, and remembers what it was shown and asked."""

    def __init__(self, *boxes_xyxy: tuple[float, float, float, float]) -> None:
        self.boxes_xyxy, self.border, self.shape = boxes_xyxy, None, None

    def find(self, pixels: np.ndarray, *, border: bool = False) -> list[Face]:
        self.border, self.shape = border, pixels.shape
        landmarks = np.array([[10, 20]] * 5, np.float32)
        return [Face(box_xyxy=box, landmarks_xy=landmarks, confidence=0.9) for box in self.boxes_xyxy]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the scales at which pictures are decoded."""
    scales = []

    def watched(image: Any, **options: Any) -> Any:
        scales.append(open_image(image, min_side_px=options["min_side_px"]).scale)
        return open_image(image, **options)

    monkeypatch.setattr("deepfake_detect.predict.look.open_image", watched)
    return scales


@pytest.fixture(scope="module")
def large_jpeg() -> bytes:
    """Give the portrait at 3072 x 3072, its face 540 px wide."""
    file = io.BytesIO()
    Image.fromarray(portrait()).resize((3072, 3072), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


def test_a_crop_is_what_crop_face_cuts(finder: FaceFinder) -> None:
    pixels, wanted = group(3), Preprocessing(size_px=48, margin=1.7, interpolation="bilinear")
    look = look_at(pixels, preprocessing=wanted, finder=finder)
    assert [face.box_xyxy for face in look.faces] == [face.box_xyxy for face in finder.find(pixels)]
    assert look.size_hw == pixels.shape[:2]
    for face, crop in zip(look.faces, look.crops, strict=True):
        expected = crop_face(pixels, face.box_xyxy, margin=1.7, size_px=48, interpolation="bilinear")
        assert np.array_equal(crop, expected)


@pytest.mark.parametrize(("faces", "count", "border"), [("auto", 2, True), ("all", 2, False), ("largest", 1, True)])
def test_choices_of_faces(faces: Any, count: int, border: bool) -> None:
    told = ToldFinder((0, 0, 50, 50), (60, 60, 80, 80))
    look = look_at(empty_scene(), preprocessing=CARD.preprocessing, finder=told, faces=faces)  # type: ignore[arg-type]
    assert (len(look.faces), told.border) == (count, border)
    assert look.faces[0].box_xyxy == (0, 0, 50, 50)


def test_no_search_takes_the_picture_as_it_is() -> None:
    pixels = empty_scene()
    look = look_at(pixels, preprocessing=CARD.preprocessing, finder=None, faces="none")
    (face,), (crop,) = look.faces, look.crops
    assert face.box_xyxy == (0, 0, 160, 120)
    assert face.landmarks_xy.shape == (0, 2)
    assert np.array_equal(crop, whole_picture(pixels, size_px=64))


def test_no_face_gives_no_crop(finder: FaceFinder) -> None:
    assert look_at(empty_scene(), preprocessing=CARD.preprocessing, finder=finder).crops == ()


def test_large_jpegs_are_decoded_reduced_with_boxes_of_the_original(
    large_jpeg: bytes, finder: FaceFinder, decoded: list[float]
) -> None:
    look = look_at(large_jpeg, preprocessing=CARD.preprocessing, finder=finder)
    assert decoded == [0.25]
    assert look.size_hw == (3072, 3072)
    (full,) = finder.find(open_image(large_jpeg).pixels)
    assert np.abs(np.subtract(look.faces[0].box_xyxy, full.box_xyxy)).max() < 3072 / 100
    assert np.abs(look.faces[0].landmarks_xy - full.landmarks_xy).max() < 3072 / 100
    exact = crop_face(open_image(large_jpeg).pixels, look.faces[0].box_xyxy, margin=1.3, size_px=64)
    assert np.abs(look.crops[0].astype(float) - exact).mean() < 0.5


def test_a_crop_that_would_lose_pixels_comes_from_the_full_size(
    large_jpeg: bytes, finder: FaceFinder, decoded: list[float]
) -> None:
    wanted = Preprocessing(size_px=256)
    look = look_at(large_jpeg, preprocessing=wanted, finder=finder)
    assert decoded == [0.25, 1.0]
    full = open_image(large_jpeg).pixels
    assert np.array_equal(look.crops[0], crop_face(full, look.faces[0].box_xyxy, margin=1.3, size_px=256))


@pytest.mark.parametrize(("side", "scales"), [(128, [0.25]), (126, [0.25, 0.5]), (62, [0.25, 1.0])])
def test_twice_the_model_s_pixels_are_enough_and_fewer_are_not(
    large_jpeg: bytes, decoded: list[float], side: int, scales: list[float]
) -> None:
    told = ToldFinder((100, 100, 100 + side, 100 + side))
    wanted = Preprocessing(size_px=128 // OVERSAMPLING, margin=1.0)
    look_at(large_jpeg, preprocessing=wanted, finder=told)  # type: ignore[arg-type]
    assert decoded == scales
    assert told.shape == (768, 768, 3)


def test_boxes_and_points_of_an_uneven_reduction() -> None:
    """A quarter of 6161 x 3079 is 1541 x 770, rounded up: the scales of the two sides differ."""
    file = io.BytesIO()
    Image.new("RGB", (6161, 3079), "grey").save(file, "JPEG")
    told = ToldFinder((10, 20, 1541, 770))
    wanted = Preprocessing(size_px=8)
    (face,) = look_at(file.getvalue(), preprocessing=wanted, finder=told).faces  # type: ignore[arg-type]
    assert told.shape == (770, 1541, 3)
    assert face.box_xyxy == pytest.approx((10 * 6161 / 1541, 20 * 3079 / 770, 6161, 3079))
    assert face.landmarks_xy[0].tolist() == pytest.approx([10 * 6161 / 1541, 20 * 3079 / 770], rel=1e-6)


def test_the_whole_picture_is_decoded_at_twice_the_model_s_size(large_jpeg: bytes, decoded: list[float]) -> None:
    for size_px in (100, 200, 800):
        look_at(large_jpeg, preprocessing=Preprocessing(size_px=size_px), finder=None, faces="none")
    assert decoded == [1 / 8, 1 / 4, 1.0]


def test_a_file_object_is_read_once_and_kept_as_bytes(tmp_path: Path, large_jpeg: bytes, finder: FaceFinder) -> None:
    path = tmp_path / "portrait.jpg"
    path.write_bytes(large_jpeg)
    with path.open("rb") as file:
        file.read(100)
        look = look_at(file, preprocessing=Preprocessing(size_px=256), finder=finder)
    assert look.source == large_jpeg
    assert look.name == str(path)
    assert len(look.faces) == 1


def test_a_bad_file_object_is_named(tmp_path: Path, finder: FaceFinder) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("no picture")
    with path.open("rb") as file, pytest.raises(ImageUnreadable, match=r"notes\.jpg"):
        look_at(file, preprocessing=CARD.preprocessing, finder=finder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of Unix")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, finder: FaceFinder) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)  # nobody writes to it
    with pytest.raises(ImageUnreadable, match=r"a named pipe, expected a file"):
        look_at(path, preprocessing=Preprocessing(size_px=256), finder=finder)


@pytest.mark.parametrize(
    ("logit", "temperature", "bias", "score"),
    [(0.0, 1.0, 0.0, 0.5), (math.log(3), 1.0, 0.0, 0.75), (-math.log(9), 2.0, 0.0, 0.25), (2.0, 2.0, -1.0, 0.5)],
)
def test_scores_by_hand(logit: float, temperature: float, bias: float, score: float) -> None:
    card = replace(CARD, temperature=temperature, bias=bias)
    assert judge(logit, card=card)[0] == pytest.approx(score, abs=1e-12)


def test_scores_of_extreme_logits() -> None:
    assert judge(1e5, card=CARD) == (1.0, "fake")
    assert judge(-1e5, card=CARD) == (0.0, "real")


def test_labels_at_the_edges() -> None:
    third = math.log(0.25 / 0.75)  # score .25
    unsure = replace(CARD, threshold=0.5, uncertain=(0.25, 0.75))
    assert judge(0.0, card=CARD)[1] == "fake"  # at the threshold
    assert judge(-1e-9, card=CARD)[1] == "real"
    assert judge(third + 1e-9, card=unsure)[1] == "uncertain"
    assert judge(third - 1e-9, card=unsure)[1] == "real"
    assert judge(-third + 1e-9, card=unsure)[1] == "fake"
    assert judge(0.0, card=unsure, threshold=0.6)[1] == "real"
    assert judge(0.0, card=unsure, threshold=0.5)[1] == "fake"
    assert judge(-1e5, card=CARD, threshold=0.0)[1] == "fake"


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf])
def test_no_score_is_made_of_no_number(logit: float) -> None:
    with pytest.raises(WeightsMismatch, match="small@0 gave the logit"):
        judge(logit, card=CARD)


def test_wrong_choices_are_told() -> None:
    with pytest.raises(ValueError, match="did you mean 'largest'"):
        check_faces("larges")
    for threshold in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"within 0\.\.1"):
            check_faces("auto", threshold=threshold)
