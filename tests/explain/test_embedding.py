"""Tests of the projection of a data set's features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from sklearn.decomposition import PCA

from deepfake_detect import DatasetError, MissingExtra
from deepfake_detect.explain.embedding import embed, principal
from deepfake_detect.models.head import last_linear
from deepfake_detect.predict.preprocess import to_batch
from tests.small_world import empty_scene, portrait, small_detector


def lights(count: int) -> list[tuple[np.ndarray, str]]:
    face = Image.fromarray(portrait())
    shown = [np.asarray(ImageEnhance.Brightness(face).enhance(0.4 + step / count)) for step in range(count)]
    return [(light, ("real", "fake")[number % 2]) for number, light in enumerate(shown)]


def test_principal_components_are_those_of_scikit_learn() -> None:
    features = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32) * np.arange(1, 8)
    xy, explained = principal(features)
    other = PCA(2).fit(features.astype(float))
    wanted = other.transform(features.astype(float))
    assert np.abs(xy) == pytest.approx(np.abs(wanted), abs=1e-8)
    assert explained == pytest.approx(other.explained_variance_ratio_)
    again, _ = principal(-features)
    assert again == pytest.approx(-xy)  # the turn is that of the weights, not of chance


def test_the_features_are_what_the_last_layer_gets() -> None:
    detector = small_detector()
    found = embed(detector, lights(19))
    assert found.features.shape == (19, last_linear(detector.model)[1].in_features)
    crops = [detector.look(light).crops[0] for light, _ in lights(19)]
    with torch.no_grad():
        logits = detector.model(to_batch(crops, preprocessing=detector.card.preprocessing))
        from_features = last_linear(detector.model)[1](torch.from_numpy(found.features))
    assert from_features.flatten() == pytest.approx(logits.flatten(), abs=1e-4)
    assert found.label[:2] == ["real", "fake"] and len(found.name) == 19
    assert found.xy == pytest.approx(principal(found.features)[0])


def test_what_is_not_there_is_named_and_the_plot_has_both_panels(tmp_path: Path) -> None:
    found = embed(small_detector(), [*lights(4), (empty_scene(), "real"), (b"nothing", "fake")])
    assert len(found.xy) == 4
    assert found.left_out[0] == "<array>: no face was found" and found.left_out[1].startswith("<bytes>: ")
    found.save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.width > 1.8 * drawn.height


def test_too_few_faces_and_wrong_words_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="2 faces were found in 2 pictures"):
        embed(small_detector(), lights(2))
    with pytest.raises(ValueError, match="method is 'tsne'"):
        embed(small_detector(), lights(4), method="tsne")  # type: ignore[arg-type]
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[umap\]'"):
        embed(small_detector(), lights(4), method="umap")
