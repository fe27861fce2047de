"""Test how the weights of two looks are fitted, and that a fine-tuned detector keeps the second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deepfake_detect import Detector
from deepfake_detect.datasets.read import Sample
from deepfake_detect.evaluation.two_looks import LEAST, fit_fusion, fit_looks
from deepfake_detect.metrics.classification import roc_auc
from tests.small_world import LOOK, group, portrait, two_looks


def drawn(count: int, *, withheld: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give logits of which that of the texture tells more, and is missing for some."""
    random = np.random.default_rng(0)
    label = np.arange(count) % 2
    texture = random.normal(2.0 * label, 1.0)
    texture[random.random(count) < withheld] = np.nan
    return random.normal(1.0 * label, 1.0), texture, label


def test_the_weight_is_that_of_the_log_odds_of_two_normal_variables() -> None:
    """Of two independent variables N(m y, 1) the log-odds are the sum of m x - m * m / 2."""
    look = fit_fusion(*drawn(20_000, withheld=0.0), look=replace(LOOK, unsure=(0.0, 0.0)))
    assert look.weight == pytest.approx(2.0, abs=0.1)
    assert replace(look, weight=LOOK.weight, unsure=LOOK.unsure) == LOOK


def test_a_crop_that_says_nothing_or_a_texture_that_misleads_is_told() -> None:
    crop, texture, label = drawn(2000)
    assert fit_fusion(crop, -texture, label, look=LOOK).weight == 0.0
    assert fit_fusion(-crop, texture, label, look=LOOK) == LOOK


def test_the_fused_logits_of_all_faces_beat_those_of_each_look() -> None:
    crop, texture, label = drawn(2000)
    look = fit_fusion(crop, texture, label, look=LOOK)
    fused = [look.fuse(c, None if np.isnan(t) else t) for c, t in zip(crop, texture, strict=True)]
    assert roc_auc(label, fused) > roc_auc(label, crop) + 0.1


@pytest.mark.parametrize("count", [2 * LEAST - 1, 2 * LEAST])
def test_too_few_pictures_change_nothing(count: int) -> None:
    look = fit_fusion(*drawn(count, withheld=0.0), look=replace(LOOK, weight=50.0))
    assert (look.weight == 50.0) == (count < 2 * LEAST)


def test_pictures_without_a_face_or_a_texture_look_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    detector = two_looks()
    pictures = [portrait(), group(1), np.zeros((64, 64, 3), np.uint8)]
    samples = [Sample(image=picture, label=number % 2) for number, picture in enumerate(pictures)]
    look, facts = fit_looks(detector, samples)
    assert look == LOOK and facts == {"n": 2, "n_texture": 1, "weight": "kept"}
    assert "1 of 2 faces have a texture look" in caplog.text


def test_fine_tuning_keeps_the_texture_network_and_saves_both(tmp_path: Path) -> None:
    detector = two_looks()
    random = np.random.default_rng(0)
    noisy = [(portrait() + random.integers(0, 9, (512, 512, 3))).clip(0, 255).astype(np.uint8) for _ in range(8)]
    data = [(picture, ("real", "fake")[number % 2]) for number, picture in enumerate(noisy)]
    tuned = detector.fine_tune(
        data, valid=data[:4], epochs=1, batch_size=4, check="off", workers=0, out=tmp_path / "mine"
    )
    assert tuned.texture_model is not None and detector.texture_model is not None
    state = detector.texture_model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in tuned.texture_model.state_dict().items())
    assert tuned.card.calibration["looks"] == {"n": 4, "n_texture": 4, "weight": "kept"}
    assert tuned.card.calibration["method"] == "platt" and tuned.card.golden == {}
    loaded = Detector.from_pretrained(tmp_path / "mine", device="cpu")
    (face,), (again,) = tuned.predict(portrait()).faces, loaded.predict(portrait()).faces
    assert face.looks == again.looks and face.score == again.score
    assert detector.card.texture == LOOK
