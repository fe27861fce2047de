"""Test the second look: which pixels it sees, when it is withheld, and what its logit does to the verdict."""

from __future__ import annotations

import copy
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from deepfake_detect import BackendUnavailable, Detector, Prediction, WeightsMismatch, verify
from deepfake_detect.cli.main import main
from deepfake_detect.explain.explainer import _probability
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.inputs.image import open_image
from deepfake_detect.predict.evidence import fingerprint_card
from deepfake_detect.predict.look import look_at
from deepfake_detect.predict.patches import PLACES, cut_patches, detail_of, patch_corners
from deepfake_detect.predict.verdict import fuse_logits
from deepfake_detect.reporting.words import face_words
from deepfake_detect.serve.scorer import Job, Scorer
from tests.small_world import CARD, LOOK, PORTRAIT, empty_scene, group, portrait, small_detector, two_looks

BOX = (180.98, 62.26, 270.11, 174.47)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return two_looks()


@pytest.fixture(scope="module")
def prediction(detector: Detector) -> Prediction:
    return detector.predict(portrait())


def slices(pixels: np.ndarray, box: tuple[float, ...], count: int) -> np.ndarray:
    """Cut the patches of 32 px out by hand: middle, two eyes, mouth, and the cheeks beside it."""
    left, top, right, bottom = box
    patches = []
    for down, across in [(50, 50), (20, 20), (20, 80), (85, 50), (85, 10), (85, 90)][:count]:
        y = int(top + (bottom - top - 32) * down / 100)
        x = int(left + (right - left - 32) * across / 100)
        patches.append(pixels[y : y + 32, x : x + 32])
    return np.stack(patches)


@pytest.mark.parametrize("count", [1, 4, 6])
def test_patches_are_pixels_of_the_picture(count: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    box = (101.3, 50.7, 299.9, 380.2)
    patches = cut_patches(pixels, box, look=replace(LOOK, patches=count))
    assert patches is not None and patches.dtype == np.uint8
    assert np.array_equal(patches, slices(pixels, box, count))


@pytest.mark.parametrize("side", [32, 40, 50, 200])
def test_places_that_lie_close_together_are_left_out(side: int) -> None:
    """Of two places less than 4 px apart, an eighth of a patch, the first counts."""
    box, look = (50.0, 60.0, 50.0 + side, 60.0 + side), replace(LOOK, min_side_px=32, patches=9)
    places = [(int(60 + (side - 32) * down), int(50 + (side - 32) * across)) for down, across in PLACES]
    expected: list[tuple[int, int]] = []
    for place in places:
        if not any(abs(place[0] - y) < 4 and abs(place[1] - x) < 4 for y, x in expected):
            expected.append(place)
    assert patch_corners(box, (512, 512), look=look) == expected
    assert len(expected) == {32: 1, 40: 3, 50: 9, 200: 9}[side]


@pytest.mark.parametrize("box", [(-40.0, -30.0, 60.0, 70.0), (440.0, 450.0, 530.0, 560.0)])
def test_a_box_over_the_edge_counts_as_far_as_there_are_pixels(box: tuple[float, float, float, float]) -> None:
    patches = cut_patches(portrait(), box, look=replace(LOOK, min_side_px=60))
    inside = (max(0.0, box[0]), max(0.0, box[1]), min(512.0, box[2]), min(512.0, box[3]))
    assert patches is not None
    assert np.array_equal(patches, cut_patches(portrait(), inside, look=replace(LOOK, min_side_px=60)))
    assert cut_patches(portrait(), box, look=replace(LOOK, min_side_px=73)) is None


@pytest.mark.parametrize("side", [69, 70])
def test_small_faces_are_withheld(side: int) -> None:
    patches = cut_patches(portrait(), (50, 50, 50 + side, 150), look=LOOK)
    assert (patches is None) == (side < LOOK.min_side_px)


def test_enlarged_and_blurred_faces_are_withheld() -> None:
    sharp = Image.fromarray(portrait())
    small = sharp.resize((128, 128), Image.Resampling.LANCZOS).resize((512, 512), Image.Resampling.BICUBIC)
    blurred = sharp.filter(ImageFilter.GaussianBlur(2))
    look = replace(LOOK, min_detail=0.002)
    cut = [cut_patches(np.asarray(image), BOX, look=look) for image in (sharp, small, blurred)]
    assert [patches is None for patches in cut] == [False, True, True]


def test_detail_is_the_share_of_power_at_high_frequencies() -> None:
    """A wave of f cycles per pixel has all its power there, and a mixture as much as the squares of its amplitudes."""
    y, x = np.indices((64, 64))
    low, high = np.cos(2 * np.pi * x * 4 / 64), np.cos(2 * np.pi * (y + x) * 16 / 64)

    def measured(wave: np.ndarray) -> float:
        return detail_of(np.repeat((128 + wave).round()[None, :, :, None], 3, 3).astype(np.uint8))

    assert measured(100 * low) < 0.001 and measured(100 * high) > 0.999
    assert measured(60 * low + 30 * high) == pytest.approx(0.2, abs=0.01)
    assert detail_of(np.full((2, 64, 64, 3), 77, np.uint8)) == 0.0


def test_patches_come_from_the_full_size_and_the_crop_stays_as_it_was() -> None:
    file = io.BytesIO()
    Image.fromarray(portrait()).resize((3072, 3072), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    finder, full = FaceFinder(), open_image(file.getvalue()).pixels
    one, two = (
        look_at(file.getvalue(), preprocessing=CARD.preprocessing, finder=finder, texture=texture)
        for texture in (None, LOOK)
    )
    assert one.faces[0].box_xyxy == two.faces[0].box_xyxy
    assert np.array_equal(one.crops[0], two.crops[0]) and one.views[0].patches is None
    patches = two.views[0].patches
    assert patches is not None and np.array_equal(patches, slices(full, two.faces[0].box_xyxy, 4))


def test_a_large_picture_of_a_small_face_is_not_decoded_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.fromarray(portrait()).resize((3072, 3072), Image.Resampling.BICUBIC).save(file, "JPEG")
    scales = []

    def watched(image: object, **options: object) -> object:
        picture = open_image(image, **options)  # type: ignore[arg-type]
        scales.append(picture.scale)
        return picture

    monkeypatch.setattr("deepfake_detect.predict.look.open_image", watched)
    finder = FaceFinder()
    for least, expected in ((600, [0.25]), (500, [0.25, 1.0])):  # the face is 540 px wide
        scales.clear()
        look = replace(LOOK, min_side_px=least)
        look_at(file.getvalue(), preprocessing=CARD.preprocessing, finder=finder, texture=look)
        assert scales == expected


def test_the_verdict_is_that_of_the_fused_logits(detector: Detector, prediction: Prediction) -> None:
    (face,) = prediction.faces
    alone = small_detector().predict(portrait()).faces[0].logit
    patches = slices(portrait(), face.box_xyxy, 4).astype(np.float32) / 255
    mean, std = np.array(LOOK.mean, np.float32), np.array(LOOK.std, np.float32)
    batch = torch.from_numpy((patches - mean) / std).permute(0, 3, 1, 2)
    assert detector.texture_model is not None
    with torch.no_grad():
        texture = float(detector.texture_model(batch).mean())
    assert face.looks is not None and face.looks["crop"] == alone
    assert face.looks["texture"] == pytest.approx(texture, abs=1e-4) and abs(texture) > 0.1
    beyond = texture - 0.03125 if texture > 0 else texture + 0.0625
    assert face.logit == pytest.approx(alone + 2.0 * beyond, abs=1e-3)
    assert prediction.logit == face.logit and face.score == pytest.approx(1 / (1 + np.exp(-face.logit)))
    assert face.to_dict()["looks"] == dict(face.looks)


def test_a_withheld_look_leaves_the_crop_alone(detector: Detector) -> None:
    found = detector.predict(group(2)).faces
    alone = [face.logit for face in small_detector().predict(group(2)).faces]
    assert [face.looks for face in found] == [{"crop": logit, "texture": None} for logit in alone]
    assert [face.logit for face in found] == alone


def test_batches_change_nothing(detector: Detector, prediction: Prediction) -> None:
    pictures = [portrait(), group(3), empty_scene(), portrait()[:, ::-1].copy(), group(1), portrait()]
    single = [detector.predict(picture) for picture in pictures]
    for options in ({"workers": 0}, {"workers": 2, "batch_size": 3}, {"workers": 2, "batch_size": 1}):
        many = list(detector.predict_many(pictures, **options))  # type: ignore[arg-type]
        for one, other in zip(single, many, strict=True):
            assert len(one.faces) == len(other.faces)
            for face, again in zip(one.faces, other.faces, strict=True):
                assert face.logit == pytest.approx(again.logit, abs=1e-4)
                assert face.looks == pytest.approx(again.looks, abs=1e-4)


def test_the_server_s_queue_gives_the_same_verdict(detector: Detector, prediction: Prediction) -> None:
    outcomes: list[object] = []
    scorer = Scorer(detector, threads=1)
    scorer.submit(Job(open=portrait, done=outcomes.append))
    scorer.close()
    (outcome,) = outcomes
    assert isinstance(outcome, Prediction)
    assert outcome.logit == pytest.approx(prediction.logit, abs=1e-4)
    assert outcome.faces[0].looks == pytest.approx(prediction.faces[0].looks, abs=1e-4)


def test_the_whole_picture_may_be_looked_at(detector: Detector) -> None:
    (face,) = detector.predict(portrait(), faces="none").faces
    assert face.looks is not None and face.looks["texture"] is not None


def test_without_the_texture_look_faces_are_judged_as_where_it_is_withheld() -> None:
    calibrated = two_looks(temperature=1.5, bias=0.3, golden={"face": 1.0})
    alone = calibrated.without_texture()
    for picture in (portrait(), group(2)):
        expected = small_detector(temperature=1.5, bias=0.3).predict(picture).to_dict()["faces"]
        assert alone.predict(picture).to_dict()["faces"] == expected
    assert alone.card.texture is None and alone.card.golden == {}
    assert calibrated.card.texture == LOOK and small_detector(golden={"face": 1.0}).without_texture().card.golden


@pytest.mark.parametrize(
    ("texture", "fused"), [(None, 1.0), (-3.0, -1.0), (-2.0, 1.0), (0.0, 1.0), (0.5, 1.0), (1.5, 3.0)]
)
def test_unsure_logits_add_nothing_and_others_what_lies_beyond(texture: float | None, fused: float) -> None:
    card = replace(CARD, texture=replace(LOOK, weight=2.0, unsure=(-2.0, 0.5)))
    assert fuse_logits(1.0, texture, card=card) == fused
    assert fuse_logits(torch.tensor([1.0]), texture, card=card).tolist() == [fused]


def test_one_look_stays_as_it_was() -> None:
    (face,) = small_detector().predict(portrait()).faces
    assert face.looks is None and "looks" not in face.to_dict()


def test_copies_pickles_and_moves_answer_the_same(detector: Detector, prediction: Prediction) -> None:
    for other in (copy.copy(detector), copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert other.predict(portrait()).logit == pytest.approx(prediction.logit, abs=1e-5)
    moved = copy.copy(detector).to("cpu", dtype="bfloat16")
    texture = moved.predict(portrait()).faces[0].looks
    assert texture is not None and texture["texture"] != prediction.faces[0].looks["texture"]  # type: ignore[index]
    assert detector.predict(portrait()).logit == pytest.approx(prediction.logit, abs=1e-5)


def test_both_networks_belong_together() -> None:
    with pytest.raises(WeightsMismatch, match="has a texture look, expected its network as texture="):
        small_detector(texture=LOOK)
    with pytest.raises(WeightsMismatch, match="has no texture look, expected no network"):
        two_looks(texture=None)


def test_an_infinite_logit_of_a_patch_is_an_error() -> None:
    broken = two_looks()
    assert broken.texture_model is not None
    with torch.no_grad():
        next(broken.texture_model.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsMismatch, match="gave the logit nan"):
        broken.predict(portrait())


def test_the_explanation_is_of_the_same_verdict(detector: Detector, prediction: Prediction) -> None:
    explained = detector.explain(portrait(), faithfulness="off").prediction
    assert explained.logit == pytest.approx(prediction.logit, abs=1e-4)
    assert explained.faces[0].looks == pytest.approx(prediction.faces[0].looks, abs=1e-4)


def test_the_explanation_says_what_its_heat_does_not_show(detector: Detector, prediction: Prediction) -> None:
    explained = detector.explain(portrait(), faithfulness="off")
    looks = explained.faces[0].face.looks
    assert looks is not None and looks["crop"] is not None and looks["texture"] is not None
    crop, texture = abs(looks["crop"]), abs(explained.prediction.logit - looks["crop"])  # type: ignore[operator]
    assert explained.texture_share == pytest.approx(texture / (crop + texture))
    assert explained.to_dict()["texture_share"] == explained.texture_share
    alone = detector.without_texture().predict(portrait()).label
    assert any("rests on the texture look" in reason for reason in explained.reasons) == (alone != explained.label)
    withheld = detector.explain(group(1), faithfulness="off")
    assert withheld.texture_share is None and "texture_share" not in withheld.to_dict()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_checks_of_the_heat_measure_the_fused_score(
    detector: Detector, prediction: Prediction, sign: float
) -> None:
    (face,) = prediction.faces
    assert face.looks is not None and face.score is not None
    (measured,) = _probability(detector, face, sign)(torch.tensor([face.looks["crop"]])).tolist()
    assert measured == pytest.approx(face.score if sign > 0 else 1 - face.score, abs=1e-5)


def test_heat_is_no_evidence_of_what_the_texture_alone_decides(prediction: Prediction) -> None:
    """With the weight of the texture so large, or the bias so, the crop alone is judged otherwise."""
    looks = prediction.faces[0].looks
    assert looks is not None and looks["crop"] is not None
    weighty = replace(LOOK, weight=500.0)
    both = two_looks(texture=weighty)
    between = (both.predict(portrait()).logit - looks["crop"]) / 2 + looks["crop"]  # type: ignore[operator]
    explained = two_looks(texture=weighty, bias=-between).explain(portrait(), faithfulness="off")
    other = {"real": "fake", "fake": "real"}[explained.label]
    assert f"rests on the texture look, which has no map: without it, it is {other}" in " ".join(explained.reasons)


def test_a_case_is_recorded_and_verified(detector: Detector, tmp_path: Path) -> None:
    detector.save_pretrained(tmp_path / "two")
    saved = Detector.from_pretrained(tmp_path / "two", device="cpu")
    saved.predict(PORTRAIT).save(tmp_path / "case.json")
    case = json.loads((tmp_path / "case.json").read_text("utf-8"))
    schema = json.loads((Path(__file__).parents[2] / "docs" / "case.schema.json").read_text("utf-8"))
    jsonschema.validate(case, schema)
    assert set(case["verdict"]["faces"][0]["looks"]) == {"crop", "texture"}
    assert verify(case, PORTRAIT, model=tmp_path / "two").ok
    case["verdict"]["faces"][0]["looks"]["texture"] += 1.0
    differing = [check for check in verify(case, PORTRAIT, model=tmp_path / "two").checks if check.ok is False]
    assert {check.name for check in differing} == {"case", "faces"}
    other = replace(saved.card, texture=replace(saved.card.texture, weight=0.5))  # type: ignore[type-var]
    assert fingerprint_card(other) != fingerprint_card(saved.card)


def test_the_report_says_what_each_look_made_of_a_face(detector: Detector, prediction: Prediction) -> None:
    words = [*face_words(prediction.faces[0].to_dict())][-1]
    assert words.startswith("two looks, more than 0 means fake: the face ")
    assert "its texture was not looked at" in [*face_words(detector.predict(group(1)).faces[0].to_dict())][-1]


def test_the_command_line_exports_the_crop_alone(detector: Detector, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    detector.save_pretrained(tmp_path / "two")
    command = ["export", "--model", str(tmp_path / "two"), "--out", str(tmp_path / "a.onnx"), "--without-texture"]
    main(command, standalone_mode=False)
    exported = Detector.from_pretrained(tmp_path / "a.onnx").predict(portrait())
    assert exported.logit == pytest.approx(detector.without_texture().predict(portrait()).logit, abs=1e-3)


@pytest.mark.parametrize("form", ["onnx", "browser"])
def test_an_export_says_how_to_go_without(detector: Detector, form: str, tmp_path: object) -> None:
    with pytest.raises(BackendUnavailable, match=r"without_texture\(\)\.export"):
        detector.export(f"{tmp_path}/a.onnx", format=form)  # type: ignore[call-overload]
