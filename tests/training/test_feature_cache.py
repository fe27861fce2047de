"""Test that a head trained on cached features is the same as at the end of the whole network."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepfake_detect.models.head import head_of
from deepfake_detect.models.registry import create_model
from deepfake_detect.training import feature_cache
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.batches import CropFeed
from deepfake_detect.training.crop_dataset import CropDataset
from deepfake_detect.training.feature_cache import cache_features
from deepfake_detect.weights.load import load_model, save_bundle
from tests.toy import learn, same, toy_crops

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> CropDataset:
    return toy_crops(tmp_path_factory.mktemp("toy"), count=12)


def augmented(toy: CropDataset) -> CropDataset:
    return CropDataset(toy.samples, toy.store, preprocessing=toy.preprocessing, augmentation=Augmentation())


SMALL = ["cnn-simple", "cnn4", "meso4", "efficientnet-b0"]  # those that take 32 pixels, one of each kind of end


@pytest.mark.parametrize("architecture", SMALL)
def test_head_of_the_features_is_the_whole_network(toy: CropDataset, tmp_path: Path, architecture: str) -> None:
    model = create_model(architecture, seed=0)
    feed = CropFeed(toy, preprocessing=toy.preprocessing)
    kept = cache_features(model, feed, device=CPU, folder=tmp_path, size=5)
    keys = [(index, 9) for index in (7, 0, 11, 3)]
    (batch, label), (some, own) = next(feed.batches(keys, size=4)), next(kept.batches(keys, size=4))
    with torch.inference_mode():
        whole, from_features = model.eval()(batch), head_of(model)[1](some).reshape(-1)
    assert torch.allclose(whole, from_features, atol=1e-5)
    assert torch.equal(label, own)


def features_of(toy: CropDataset, folder: Path, model: torch.nn.Module) -> np.ndarray:
    folder.mkdir()
    feed = CropFeed(toy, preprocessing=toy.preprocessing)
    return np.array(cache_features(model, feed, device=CPU, folder=folder, size=5).features)


@pytest.mark.parametrize("wrong", ["values", "shape", "none"])
def test_a_packed_network_that_says_something_else_is_not_used(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    model, used = create_model("cnn-simple", seed=0), list[int]()
    packed_network = features_of(toy, tmp_path / "packed_network", model)

    class Other:
        """Counts what it is asked."""

        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            used.append(len(batch))
            return torch.zeros(len(batch), packed_network.shape[2])

    def pack(backbone: torch.nn.Module, batch: torch.Tensor, **more: object) -> tuple[object, object]:
        with torch.no_grad():
            right = backbone(batch)
        said = {"values": right * 1.001, "shape": right[:, :-1], "none": None}[wrong]
        return (None, None) if said is None else (Other(), said)

    monkeypatch.setattr(feature_cache, "pack", pack)
    plain = features_of(toy, tmp_path / "plain", model)
    assert not used
    assert np.allclose(packed_network, plain, atol=1e-5) and np.abs(plain).max() > 0.01


def test_the_packed_network_is_used_where_it_says_the_same(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    run = feature_cache.pack

    def pack(backbone: torch.nn.Module, batch: torch.Tensor, **more: Any) -> tuple[Any, Any]:
        packed_network, said = run(backbone, batch, **more)
        if packed_network is None:
            pytest.skip("this processor or this torch has no packed_network")
        return lambda some: used.append(len(some)) or packed_network(some), said

    monkeypatch.setattr(feature_cache, "pack", pack)
    features_of(toy, tmp_path / "packed_network", create_model("cnn-simple", seed=0))
    assert used == [5, 5, 2]


def test_views_are_the_plain_crop_and_fixed_augmented_ones(toy: CropDataset, tmp_path: Path) -> None:
    model, changed = create_model("cnn-simple", seed=0), augmented(toy)
    feed = CropFeed(changed, preprocessing=toy.preprocessing)
    kept = cache_features(model, feed, device=CPU, folder=tmp_path, views=2, size=5)
    plain = cache_features(
        model, CropFeed(toy, preprocessing=toy.preprocessing), device=CPU, folder=tmp_path, views=2, size=5
    )
    assert kept.features.shape[:2] == (12, 3) and plain.features.shape[:2] == (12, 1)
    assert (kept.features[:, 0] == plain.features[:, 0]).all()
    assert (kept.features[:, 1] != kept.features[:, 0]).any(-1).all()
    assert (kept.features[:, 1] != kept.features[:, 2]).any(-1).all()
    seen = next(kept.batches([(4, 5), (4, 6), (4, 7)], size=3))[0]
    assert (seen.numpy() == kept.features[4, [2, 0, 1]]).all()


def test_features_are_kept_and_told_apart(toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, feed = create_model("cnn-simple", seed=0), CropFeed(toy, preprocessing=toy.preprocessing)
    first = cache_features(model, feed, device=CPU, folder=tmp_path)
    passes: list[int] = []
    run = feature_cache._features
    monkeypatch.setattr(feature_cache, "_features", lambda *args, **more: passes.append(1) or run(*args, **more))
    with torch.no_grad():
        head_of(model)[1].weight += 1  # the head does not matter
    assert (cache_features(model, feed, device=CPU, folder=tmp_path).features == first.features).all()
    assert not passes
    cache_features(create_model("cnn-simple", seed=1), feed, device=CPU, folder=tmp_path)
    fewer = CropDataset(toy.samples[1:], toy.store, preprocessing=toy.preprocessing)
    cache_features(model, CropFeed(fewer, preprocessing=toy.preprocessing), device=CPU, folder=tmp_path)
    changed = CropFeed(augmented(toy), preprocessing=toy.preprocessing)
    cache_features(model, changed, device=CPU, folder=tmp_path, views=1)
    cache_features(model, changed, device=CPU, folder=tmp_path, views=1, seed=1)
    assert len(passes) == 6
    assert len(list(tmp_path.glob("features-*.npy"))) == 5
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a file-size limit of a process")
def test_a_full_disk_is_an_error_with_the_path(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the limit ends the process
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(OSError, match="not written") as caught:
            feature_cache._write(tmp_path / "features.npy", [iter([np.ones((4, 512), np.float32)])], count=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize("architecture", ["cnn4", "meso4"])
def test_only_the_head_changes(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(
        "deepfake_detect.weights.head_bundle.save_bundle",
        lambda *args, **more: calls.append(1) or save_bundle(*args, **more),
    )
    before = create_model(architecture, seed=0, dropout=0.2).state_dict()
    model = learn(toy, tmp_path, architecture=architecture, freeze="backbone", epochs=3, batch_size=4, valid=None)
    head = head_of(model)[0] + "."
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(head) for name in changed)
    assert len(calls) == 1  # the next ones put in the head alone
    assert same(model, load_model(tmp_path))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_head_on_features_learns_and_goes_on(
    toy: CropDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"freeze": "backbone", "lr": 0.05, "batch_size": 4}
    whole = learn(augmented(toy), tmp_path / "whole", epochs=8, feature_views=1, **options)
    assert max(epoch.valid_auc for epoch in whole.history) > 0.9  # type: ignore[union-attr]
    with caplog.at_level(logging.INFO):
        learn(
            augmented(toy), tmp_path / "parts", epochs=8, feature_views=1,
            callbacks=[lambda epoch: epoch.epoch < 3], **options,
        )  # fmt: skip
    assert "ended by a callback after epoch 3" in caplog.text
    assert same(whole, learn(augmented(toy), tmp_path / "parts", epochs=8, feature_views=1, resume=True, **options))


def test_staged_unfreezing_leaves_the_backbone_and_its_statistics_alone_first(toy: CropDataset, tmp_path: Path) -> None:
    architecture = "meso4"
    before = create_model(architecture, seed=0, dropout=0.2).state_dict()

    def changed(epochs: int) -> set[str]:
        out = tmp_path / str(epochs)
        model = learn(
            toy, out, architecture=architecture, epochs=2, epoch_samples=12, batch_size=6, freeze=1, ema=0.0,
            valid=None, callbacks=[lambda epoch: epoch.epoch < epochs],
        )  # fmt: skip
        return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}

    head = head_of(create_model(architecture, seed=0))[0] + "."
    first, second = changed(1), changed(2)
    assert first and all(name.startswith(head) for name in first)
    assert any(name.endswith("running_mean") for name in second)
    assert any(name.endswith("weight") and not name.startswith(head) for name in second)


def test_a_plain_module_is_asked_for_its_last_layer(toy: CropDataset, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    assert head_of(model)[0] == "3"
    kept = cache_features(model, CropFeed(toy, preprocessing=toy.preprocessing), device=CPU, folder=tmp_path)
    assert kept.features.shape == (12, 1, 4)


@pytest.mark.parametrize("ahead", [False, True])
def test_crops_are_made_as_the_feed_makes_them(
    toy: CropDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    made: list[bool] = []

    class Watched(CropFeed):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            made.append(self.ahead)

    monkeypatch.setattr("deepfake_detect.training.feature_cache.CropFeed", Watched)
    feed = CropFeed(toy, preprocessing=toy.preprocessing, ahead=ahead)
    cache_features(create_model("meso4", seed=0), feed, device=CPU, folder=tmp_path)
    assert made == [ahead]
