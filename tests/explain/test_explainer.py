"""Tests of explanations: heat on the original picture, and the rule for evidence."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deepfake_detect import Detector, Explanation, ImageUnreadable, InvalidOption, LayerNotFound, find_faces
from deepfake_detect.explain.explanation import FaceHeat
from deepfake_detect.explain.methods import METHODS
from deepfake_detect.faces.parts import PARTS
from tests.small_world import CARD, PORTRAIT, Texture, empty_scene, group, portrait, small_detector


class Patch(nn.Module):
    """The logit is the brightness of one square of the crop, told by a dense layer over cells of 8 by 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.head = nn.Linear(64, 1)
        nn.init.zeros_(self.head.weight)
        self.head.weight.data.view(8, 8)[4:6, 2:4] = 1.0  # rows 32 to 47, columns 16 to 31 of 64

    def forward(self, batch: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.pool(batch).mean(1).flatten(1))[:, 0])


class Mapped(Patch):
    """Says of each place of 16 pixels that it is forged where it is dark."""

    def localise(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return self(batch), -nn.functional.avg_pool2d(batch.mean(1), 16)


def patch_detector() -> Detector:
    return Detector(model=Patch(), card=CARD, device="cpu")


def hottest(heat: np.ndarray) -> tuple[float, float]:
    """Give the middle of the hottest tenth, as x and y."""
    rows, columns = np.nonzero(heat > 0.9 * heat.max())
    return float(columns.mean()), float(rows.mean())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_verdict_of_predict_and_heat_over_the_picture(method: str) -> None:
    detector = small_detector()
    explanation = detector.explain(PORTRAIT, method=method, faithfulness="off")
    prediction = detector.predict(PORTRAIT)
    assert (explanation.label, explanation.score, explanation.prediction.logit) == (
        prediction.label,
        pytest.approx(prediction.score, abs=1e-5),
        pytest.approx(prediction.logit, abs=1e-5),
    )
    assert explanation.heat.shape == prediction.size_hw and explanation.heat.dtype == np.float32
    assert explanation.heat.min() >= 0 and explanation.heat.max() <= 1
    assert explanation.method == method and (explanation.layer is None) == (
        method in ("integrated-gradients", "occlusion")
    )
    assert sum(explanation.regions.values()) == pytest.approx(1 if explanation.heat.any() else 0)
    assert not explanation.is_evidence and "the map was not checked" in explanation.reasons


@pytest.mark.parametrize("method", ["hirescam", "occlusion", "integrated-gradients"])
def test_the_heat_lies_on_the_cause_in_the_original_picture(method: str) -> None:
    explanation = patch_detector().explain(portrait(), method=method, target="fake", faithfulness="off")
    left, top, right, bottom = explanation.faces[0].crop_xyxy
    side = right - left
    x, y = hottest(explanation.heat)
    assert left + 16 / 64 * side <= x <= left + 32 / 64 * side
    assert top + 32 / 64 * side <= y <= top + 48 / 64 * side
    outside = explanation.heat.copy()
    outside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = 0
    assert not outside.any()


def test_a_network_with_a_map_of_what_is_forged_shows_that_unless_told_otherwise() -> None:
    detector = Detector(model=Mapped(), card=CARD, device="cpu")
    forged = detector.explain(PORTRAIT, target="fake", faithfulness="off")
    assert (forged.method, forged.layer) == ("localise", None)
    crop = detector.look(PORTRAIT).crops[0].astype(np.float32) / 127.5 - 1
    darkness = -crop.mean(-1).reshape(4, 16, 4, 16).mean((1, 3))
    assert forged.faces[0].heat[8::16, 8::16] == pytest.approx(1 / (1 + np.exp(-darkness)), abs=0.05)
    assert forged.faces[0].heat[0, 0] == pytest.approx(1 / (1 + np.exp(-darkness[0, 0])), abs=1e-5)  # a probability
    genuine = detector.explain(PORTRAIT, target="real", faithfulness="off")
    assert genuine.faces[0].heat == pytest.approx(1 - forged.faces[0].heat, abs=1e-5)
    assert detector.explain(PORTRAIT, method="hirescam", faithfulness="off").method == "hirescam"
    assert forged.prediction.logit == pytest.approx(detector.predict(PORTRAIT).logit, abs=1e-5)


def test_a_network_without_such_a_map_says_what_to_take_instead() -> None:
    assert patch_detector().explain(PORTRAIT, faithfulness="off").method == "grad-cam"
    with pytest.raises(InvalidOption, match=r"has no map of what is forged.*'grad-cam' works"):
        patch_detector().explain(PORTRAIT, method="localise")
    with pytest.raises(InvalidOption, match="localise needs none"):
        Detector(model=Mapped(), card=CARD, device="cpu").explain(PORTRAIT, method="localise", layer="pool")


def test_every_face_has_its_heat_where_it_stands() -> None:
    picture = group(3)
    explanation = patch_detector().explain(picture, method="hirescam", target="fake", faces="all", faithfulness="off")
    assert len(explanation.faces) == len(find_faces(picture)) == 3
    for one in explanation.faces:
        left, top, right, bottom = one.crop_xyxy
        part = explanation.heat[int(top) : int(bottom), int(left) : int(right)]
        x, y = hottest(part)
        assert (x / (right - left), y / (bottom - top)) == pytest.approx((24 / 64, 40 / 64), abs=0.06)
        x1, y1, x2, y2 = one.face.box_xyxy
        assert left <= x1 and top <= y1 and right >= x2 and bottom >= y2


def test_a_large_picture_has_the_heat_in_its_own_pixels(tmp_path: Path) -> None:
    Image.fromarray(portrait()).resize((3072, 3072)).save(tmp_path / "large.jpg", quality=90)
    small = patch_detector().explain(PORTRAIT, method="hirescam", target="fake", faithfulness="off")
    large = patch_detector().explain(tmp_path / "large.jpg", method="hirescam", target="fake", faithfulness="off")
    assert large.heat.shape == (3072, 3072)
    assert np.array(hottest(large.heat)) / 6 == pytest.approx(np.array(hottest(small.heat)), abs=4)


def test_what_speaks_for_real_is_shown_where_that_is_the_verdict() -> None:
    detector = small_detector()
    explanation = detector.explain(PORTRAIT, faithfulness="off", threshold=1.0)
    assert (explanation.label, explanation.target) == ("real", "real")
    assert detector.explain(PORTRAIT, faithfulness="off", threshold=0.0).target == "fake"
    against = detector.explain(PORTRAIT, target="fake", threshold=1.0)
    assert any("against the verdict" in reason for reason in against.reasons)
    unsure = small_detector(uncertain=(0.0, 1.0)).explain(PORTRAIT)
    assert (unsure.label, unsure.target) == ("uncertain", "fake")
    assert any("verdict is uncertain" in reason for reason in unsure.reasons)


def test_random_weights_are_no_evidence() -> None:
    explanation = small_detector().explain(PORTRAIT)
    assert explanation.faithfulness is not None and explanation.faithfulness.level == "quick"
    assert not explanation.is_evidence
    assert explanation.reasons


def test_a_detector_that_looks_at_one_place_gives_evidence() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    detector = Detector(model=Texture(), card=CARD, device="cpu")
    explanation = detector.explain(noise, method="hirescam", faces="none")
    assert (explanation.label, explanation.target) == ("fake", "fake")
    assert explanation.is_evidence, explanation.reasons
    assert hottest(explanation.heat) == pytest.approx((40, 24), abs=4)


def test_half_precision_scores_as_predict_does() -> None:
    detector = small_detector().to("cpu", dtype="bfloat16")
    explanation = detector.explain(PORTRAIT, faithfulness="off")
    assert explanation.score == pytest.approx(detector.predict(PORTRAIT).score, abs=1e-6)


def test_full_checks_every_face_and_quick_the_decisive_one() -> None:
    picture, detector = group(2), small_detector()
    full, quick = (detector.explain(picture, faces="all", faithfulness=level) for level in ("full", "quick"))
    assert [one.faithfulness and one.faithfulness.level for one in full.faces] == ["full", "full"]
    assert sum(one.faithfulness is not None for one in quick.faces) == 1
    assert quick.decisive is not None and quick.decisive.face.score == quick.score
    assert quick.decisive.faithfulness is not None
    assert tuple(quick.regions) == PARTS
    assert tuple(quick.drops) == PARTS
    assert quick.decisive.parts["nose"].share == quick.regions["nose"]


def test_no_face_is_said_and_drawn(tmp_path: Path) -> None:
    explanation = small_detector().explain(empty_scene())
    assert (explanation.label, explanation.score, explanation.faces, explanation.is_evidence) == (
        "no-face",
        None,
        (),
        False,
    )
    assert not explanation.heat.any() and explanation.heat.shape == (120, 160)
    assert explanation.reasons == ("no face was found, and nothing was scored",)
    explanation.save(tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as drawn:
        assert drawn.width >= 800


def test_the_picture_as_it_is_has_no_parts() -> None:
    explanation = small_detector().explain(portrait(), faces="none")
    assert explanation.faces[0].crop_xyxy == (0, 0, 512, 512)
    assert explanation.regions == {}
    assert explanation.plot().width >= 800


@pytest.mark.parametrize("size", [(512, 512), (90, 120), (700, 260), (200, 900)])
def test_a_plot_fits_its_paper(size: tuple[int, int], tmp_path: Path) -> None:
    picture = Image.new("RGB", size, (120, 120, 120))
    side = min(size)
    head = Image.fromarray(portrait()).crop((120, 0, 392, 272)).resize((side, side))
    picture.paste(head, ((size[0] - side) // 2, (size[1] - side) // 2))
    explanation = small_detector().explain(picture)
    drawn = explanation.plot()
    assert 800 <= drawn.width <= 1520 and drawn.height < 1400
    edge = np.asarray(drawn)[:, -4:]
    assert (edge == 255).all()  # nothing runs off the paper
    explanation.save(tmp_path / "why.jpg")
    with Image.open(tmp_path / "why.jpg") as kept:
        assert kept.size == drawn.size


def test_a_plot_paints_heat_only_where_a_model_looked() -> None:
    explanation = small_detector().explain(PORTRAIT, faithfulness="off")
    drawn = np.asarray(explanation.plot()).astype(int)
    colourful = np.ptp(drawn, -1)
    middle = drawn.shape[1] // 3 + 40, 2 * drawn.shape[1] // 3 - 40
    rows = slice(110, 140)  # above the face
    assert colourful[rows, middle[0] : middle[1]].mean() < 4


def test_what_is_kept(tmp_path: Path) -> None:
    explanation = small_detector().explain(PORTRAIT)
    explanation.save(tmp_path / "why.json")
    kept = json.loads((tmp_path / "why.json").read_text())
    assert kept == explanation.to_dict() == json.loads(explanation.to_json())
    assert kept["is_evidence"] is False and kept["reasons"]
    assert kept["faces"][0]["crop_xyxy"] == list(explanation.faces[0].crop_xyxy)
    assert set(kept["regions"]) == set(PARTS)
    with pytest.raises(ValueError, match=r"ends in '\.txt'"):
        explanation.save(tmp_path / "why.txt")


def test_notebooks_show_it() -> None:
    explanation = small_detector().explain(PORTRAIT, faithfulness="off")
    assert repr(explanation).startswith(f"Explanation({explanation.label}, score {explanation.score:.3f}, grad-cam for")
    assert "<img src=" in explanation._repr_html_()
    picture = explanation._repr_png_()
    assert picture is not None and picture.startswith(b"\x89PNG")
    gone = replace(explanation, prediction=replace(explanation.prediction, source=None))
    assert gone._repr_png_() is None and "<img" not in gone._repr_html_()
    with pytest.raises(ImageUnreadable, match="holds no picture"):
        gone.plot()


def test_wrong_words_are_refused() -> None:
    detector = small_detector()
    with pytest.raises(ValueError, match="did you mean 'grad-cam'"):
        detector.explain(PORTRAIT, method="gradcam")
    with pytest.raises(ValueError, match=r"faithfulness is 'quik'.*did you mean 'quick'"):
        detector.explain(PORTRAIT, faithfulness="quik")
    with pytest.raises(ValueError, match="target is 'no-face'"):
        detector.explain(PORTRAIT, target="no-face")
    with pytest.raises(InvalidOption, match="occlusion needs none"):
        detector.explain(PORTRAIT, method="occlusion", layer="head")
    with pytest.raises(LayerNotFound, match="no layer called 'nowhere'"):
        detector.explain(PORTRAIT, layer="nowhere")
    with pytest.raises(ImageUnreadable):
        detector.explain(b"no picture")


def test_the_types_are_those_of_the_door() -> None:
    explanation = small_detector().explain(PORTRAIT, faithfulness="off")
    assert isinstance(explanation, Explanation) and isinstance(explanation.faces[0], FaceHeat)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_the_checks_ask_what_predict_runs(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = small_detector().to("cpu", backend=backend)
    asked, answer = [], Detector.answer

    def watched(self: Detector, pixels: np.ndarray, **more: Any) -> np.ndarray:
        asked.append(len(pixels))
        return answer(self, pixels, **more)

    monkeypatch.setattr(Detector, "answer", watched)
    found = detector.explain(PORTRAIT).faces[0].faithfulness
    assert found is not None and sum(asked) > 30
    monkeypatch.setattr("deepfake_detect.explain.explainer._forward", lambda predictor, batch: predictor.model(batch))
    plain = detector.explain(PORTRAIT).faces[0].faithfulness
    assert plain is not None
    assert [found.fall, found.deletion, found.insertion] == pytest.approx(
        [plain.fall, plain.deletion, plain.insertion], abs=1e-6
    )


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_the_heat_is_that_of_the_packed_network_and_of_the_network(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = small_detector().to("cpu", backend=backend)
    used = []
    spliced = Detector.spliced

    def watched(self: Detector, batch: Tensor, layer: str) -> Any:
        used.append(spliced(self, batch, layer))
        return used[-1]

    monkeypatch.setattr(Detector, "spliced", watched)
    fast = detector.explain(PORTRAIT)
    assert used and all(used)
    assert fast.prediction.logit == pytest.approx(detector.predict(PORTRAIT).logit, abs=1e-5)
    monkeypatch.setattr(Detector, "spliced", lambda *_: None)
    plain = detector.explain(PORTRAIT)
    np.testing.assert_allclose(fast.heat, plain.heat, atol=1e-4)
    assert fast.layer == plain.layer
    checks = [one.faces[0].faithfulness for one in (fast, plain)]
    assert checks[0] is not None and checks[1] is not None
    assert checks[0].random_weights == pytest.approx(checks[1].random_weights, abs=1e-2)
    assert checks[0].shift == pytest.approx(checks[1].shift, abs=1e-2)
