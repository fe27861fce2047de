"""Test that the packaged network classifies what a picture shows."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepfake_detect import Content, Detector, classify_content, list_pretrained
from deepfake_detect.errors import ImageUnreadable, WeightsMismatch
from deepfake_detect.inputs.image import open_image
from deepfake_detect.predict.content import content_logits
from deepfake_detect.weights.bundle import CONTENT, PRETRAINED, find_bundle
from deepfake_detect.weights.golden import golden_pictures

ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "examples" / "portrait.jpg"
CLASSES = ("animal", "face", "vehicle", "other")


@pytest.mark.parametrize("name", ["portrait.jpg", "portrait_fake.jpg"])
def test_a_portrait_is_a_face_whether_forged_or_not(name: str) -> None:
    content = classify_content(PORTRAIT.with_name(name))
    assert content.label == "face"
    assert tuple(content.scores) == CLASSES
    assert sum(content.scores.values()) == pytest.approx(1)
    assert content.scores["face"] == max(content.scores.values()) > 0.6
    assert content.model == find_bundle(CONTENT).card.id


def test_the_scores_are_the_softmax_of_the_logits_of_the_whole_picture() -> None:
    y, x = np.mgrid[:200, :300]
    scene = np.stack([x % 256, y, (x + y) // 2], 2).astype(np.uint8)
    logits = np.array(list(content_logits(scene).values())) / find_bundle(CONTENT).card.temperature
    content = classify_content(scene)
    assert list(content.scores.values()) == pytest.approx(np.exp(logits) / np.exp(logits).sum(), abs=1e-9)
    assert content.size_hw == (200, 300)


def test_a_small_face_does_not_make_a_picture_one_of_a_face() -> None:
    wide = np.full((512, 512, 3), 200, np.uint8)
    wide[::16] = 40
    face = np.asarray(Image.open(PORTRAIT).crop((160, 40, 300, 220)))
    large, small = wide.copy(), wide.copy()
    large[150:330, 150:290] = face
    small[150:195, 150:185] = np.asarray(Image.fromarray(face).resize((35, 45)))
    assert classify_content(large).label == "face"
    assert classify_content(small).label != "face"


def test_golden_logits_stand() -> None:
    card = find_bundle(CONTENT).card
    found = {
        f"{name}/{kind}": logit
        for name, pixels in golden_pictures().items()
        for kind, logit in content_logits(pixels).items()
    }
    assert found == pytest.approx(card.golden, abs=2e-3)


def test_any_kind_of_picture_gives_the_same() -> None:
    pixels = open_image(PORTRAIT).pixels
    assert classify_content(pixels).scores == pytest.approx(classify_content(PORTRAIT.read_bytes()).scores, abs=0.02)


def test_a_result_is_told_as_json_and_in_one_line() -> None:
    content = classify_content(PORTRAIT)
    assert isinstance(content, Content)
    assert json.loads(content.to_json()) == content.to_dict()
    assert repr(content).startswith("Content('face', 0.")


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ImageUnreadable):
        classify_content(b"no picture")


def test_it_is_no_detector() -> None:
    assert not any(name.startswith(CONTENT) for name in list_pretrained())
    with pytest.raises(WeightsMismatch, match=r"Classifier\.from_pretrained"):
        Detector.from_pretrained(CONTENT)


def test_it_is_small() -> None:
    folder = PRETRAINED / find_bundle(CONTENT).card.id
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5_000_000


def test_the_door_opens_without_torch() -> None:
    code = "import sys, deepfake_detect as dd; dd.__version__; assert 'torch' not in sys.modules; dd.classify_content"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
