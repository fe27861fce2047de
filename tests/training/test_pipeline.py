"""Test the way from a data set to a detector: split, audit, crops, training, calibration and saving."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from deepfake_detect import Card, Detector
from deepfake_detect.auditing.checks import audit
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.engines.runner import Backend
from deepfake_detect.errors import DatasetError, HubUnavailable, InvalidOption, UnknownWeights, WeightsMismatch
from deepfake_detect.models.registry import create_model
from deepfake_detect.predict.look import look_at
from deepfake_detect.predict.predictor import Predictor
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.initial import bundle_name, untrained
from deepfake_detect.training.prepare import prepare_data, split_data
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.load import load_model, save_bundle
from tests.small_world import PORTRAIT, empty_scene, small_bundle, small_detector

SMALL: dict[str, Any] = {"size_px": 48, "epochs": 2, "batch_size": 8, "device": "cpu", "check": "off"}


def write_portraits(folder: Path, *, count: int = 20) -> Path:
    """Write portraits of one person: reddish where real, bluish where fake."""
    random = np.random.default_rng(0)
    head = Image.open(PORTRAIT).convert("RGB").crop((100, 0, 412, 312)).resize((112, 112))
    for number in range(count):
        for label, tint in (("real", (1.1, 1.0, 0.9)), ("fake", (0.9, 1.0, 1.1))):
            picture = ImageEnhance.Brightness(head).enhance(random.uniform(0.8, 1.2))
            pixels = np.asarray(picture) * np.array(tint) + random.normal(0, 3, (112, 112, 3))
            (folder / label).mkdir(exist_ok=True, parents=True)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / label / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_portraits(tmp_path_factory.mktemp("portraits"))
    Image.fromarray(empty_scene()).save(folder / "real" / "scene.png")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPFAKE_DETECT_CACHE", str(tmp_path_factory.getbasetemp() / "faces"))
    torch.set_num_threads(1)


def test_train_learns_calibrates_and_keeps(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        detector = Detector.train(
            folder, model="cnn-simple", out=tmp_path / "mine", lr=3e-3, **{**SMALL, "epochs": 8, "batch_size": 4}
        )
    assert detector.card.id == "mine@0"
    assert len(detector.history) == 8
    assert detector.training is not None and detector.training.audit is None
    assert detector.training.census.no_face in ((), (str(folder / "real" / "scene.png"),))
    assert detector.calibration["method"] == "platt"
    assert detector.card.training_data[0].startswith("unnamed: ")
    assert "faces, no face in" in caplog.text
    again = Detector.from_pretrained(tmp_path / "mine", device="cpu")
    assert again.card == detector.card
    picture = folder / "fake" / "03.png"
    assert again.predict(picture).score == detector.predict(picture).score
    report = detector.evaluate(folder)
    assert report.auc > 0.9
    assert (tmp_path / "mine" / "history.csv").exists()


def test_fine_tune_leaves_the_first_detector_alone(folder: Path, tmp_path: Path) -> None:
    start = small_detector(threshold=0.9, uncertain=(0.4, 0.9), limits=("old",), metrics={"old": {"auc": 1.0}})
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    options = {name: value for name, value in SMALL.items() if name not in ("size_px", "device")}
    tuned = start.fine_tune(folder, **options)
    assert all(torch.equal(before[name], value) for name, value in start.model.state_dict().items())
    assert any(not torch.equal(before[name], value) for name, value in tuned.model.state_dict().items())
    assert tuned.card.id == "small-tuned@0"
    assert (tuned.card.threshold, tuned.card.limits, tuned.card.metrics) == (0.5, (), {})
    assert tuned.card.uncertain == (0.4, 0.9) and tuned.calibration["band"] == "kept"  # too few pictures to fit one
    assert tuned.history and not start.history


def test_a_head_alone_leaves_the_backbone_alone(folder: Path) -> None:
    start = small_detector()
    options = {name: value for name, value in SMALL.items() if name not in ("size_px", "device")}
    tuned = start.fine_tune(folder, freeze="backbone", **options)
    old, new = start.model.state_dict(), tuned.model.state_dict()
    changed = {name.partition(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"head"}


def test_resume_ends_with_the_same_detector(folder: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(epoch: Any) -> None:
        if epoch.epoch == 1:
            raise Stop

    whole = Detector.train(folder, model="cnn-simple", out=tmp_path / "whole", **SMALL)
    with pytest.raises(Stop):
        Detector.train(folder, model="cnn-simple", out=tmp_path / "parts", callbacks=[stop], **SMALL)
    parts = Detector.train(folder, model="cnn-simple", out=tmp_path / "parts", resume=True, **SMALL)
    assert whole.card.sha256 == parts.card.sha256
    with pytest.raises(ValueError, match="resume=True needs out="):
        Detector.train(folder, model="cnn-simple", resume=True, **SMALL)


def test_from_real_photographs_alone(folder: Path) -> None:
    reals = [sample for sample in read_dataset(folder) if sample.label == 0]
    with pytest.raises(DatasetError, match=r"found 18 real and 0 fake pictures with a face; self_blend=1\.0"):
        Detector.train(reals, model="cnn-simple", **SMALL)
    detector = Detector.train(reals, model="cnn-simple", self_blend=1.0, **SMALL)
    assert any("self-blend" in line for line in detector.card.training_data)
    assert all(0 <= epoch.valid_auc <= 1 for epoch in detector.history)


def test_sides_follow_the_data_or_the_share() -> None:
    named = [Sample(image=f"{n}.jpg", label=n % 2, split=("train", "val", "test")[n % 3]) for n in range(12)]
    learned, held = split_data(named, valid=None, seed=0)
    assert {s.split for s in learned} == {"train"} and {s.split for s in held} == {"val"}
    plain = [Sample(image=f"{n}.jpg", label=n % 2) for n in range(40)]
    assert len(split_data(plain, valid=0.25, seed=0)[1]) == 10
    assert len(split_data(plain, valid=None, seed=0)[1]) == 6
    learned, held = split_data(named, valid=plain, seed=0)
    assert held == plain and len(learned) == 8


def test_the_audit_is_told_or_refuses(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoilt = read_dataset(folder)
    twice = [Sample(image=s.image, label=1 - s.label) for s in spoilt[:3]]
    options = {**SMALL, "epochs": 1}
    options.pop("check")
    with caplog.at_level(logging.WARNING):
        detector = Detector.train([*spoilt, *twice], model="cnn-simple", **options)
    assert detector.training is not None and detector.training.audit is not None and not detector.training.audit.ok
    assert any("duplicate" in record.getMessage() for record in caplog.records)
    with pytest.raises(DatasetError):
        Detector.train([*spoilt, *twice], model="cnn-simple", check="strict", **options)
    assert not audit([*spoilt, *twice]).ok


def test_wrong_options_offer_the_nearest(folder: Path) -> None:
    with pytest.raises(ValueError, match="there is no option 'optimiser'; did you mean 'optimizer'"):
        Detector.train(folder, model="cnn-simple", optimiser="sgd", **SMALL)
    with pytest.raises(ValueError, match="no augmentation called 'strnog'"):
        Detector.train(folder, model="cnn-simple", augment="strnog", **SMALL)


def test_an_augmentation_of_one_s_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[int] = []
    change = Augmentation.__call__
    monkeypatch.setattr(
        Augmentation,
        "__call__",
        lambda self, pixels, *, random: changed.append(1) or change(self, pixels, random=random),
    )
    Detector.train(folder, model="cnn-simple", augment=None, **{**SMALL, "epochs": 1})
    assert not changed
    Detector.train(folder, model="cnn-simple", augment=Augmentation.named("light"), **{**SMALL, "epochs": 1})
    assert changed


def test_where_weights_begin(tmp_path: Path) -> None:
    plain, card = untrained("meso4", name="m")
    assert (card.preprocessing.size_px, card.preprocessing.mean) == (256, (0.0, 0.0, 0.0))
    assert torch.equal(plain.head.logit.weight, create_model("meso4", seed=0).head.logit.weight)
    bundle = find_bundle("meso4-fakefaces")
    taken, _ = untrained("meso4", name="m", start="meso4-fakefaces", seed=3)
    weights = load_model(bundle).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in taken.state_dict().items())
    wide, card = untrained("meso4/24", name="m", start="meso4-fakefaces", size_px=64)
    assert (card.architecture, card.preprocessing.size_px) == ("meso4/24", 64)
    assert torch.equal(wide.features[0].conv.weight, weights["features.0.conv.weight"])
    save_bundle(wide, card, tmp_path / "wide")
    assert torch.equal(load_model(tmp_path / "wide").features[0].conv.weight, wide.features[0].conv.weight)
    file, _ = untrained("meso4", name="m", start=bundle.folder / "model.safetensors")
    assert torch.equal(file.head.logit.weight, taken.head.logit.weight)
    with pytest.raises(WeightsMismatch, match="start from weights of the same architecture"):
        untrained("cnn6", name="m", start="meso4-fakefaces")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        untrained("meso4", name="m", start=tmp_path / "none.safetensors")
    with pytest.raises(UnknownWeights, match="train it from scratch"):
        untrained("meso4", name="m", start="imagenet")


def test_imagenet_weights_come_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    from deepfake_detect.models.timm_backbone import create_backbone
    from tests.hub_server import serving

    stored = create_backbone("mobilenetv3_small_050").net
    stored.classifier = torch.nn.Linear(stored.classifier.in_features, 1000)
    with serving(monkeypatch, tmp_path) as hub:
        hub.commit("timm/mobilenetv3_small_050.lamb_in1k",
                   {"model.safetensors": safetensors.torch.save(stored.state_dict())})  # fmt: skip
        model, card = untrained("timm:mobilenetv3_small_050", name="m", start="imagenet")
    assert torch.equal(model.net.conv_stem.weight, stored.conv_stem.weight)
    assert model.net.classifier.out_features == 1
    assert card.preprocessing.mean == (0.485, 0.456, 0.406)


def test_a_bundle_is_called_as_its_folder(tmp_path: Path) -> None:
    assert bundle_name(tmp_path / "mine", otherwise="x") == "mine"
    assert bundle_name(None, otherwise="timm:convnext_atto/64") == "timm-convnext_atto-64"


def test_faces_are_found_once_for_two_trainings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Detector.train(folder, model="cnn-simple", **{**SMALL, "epochs": 1})
    looked: list[int] = []
    monkeypatch.setattr(FaceStore, "_cut_out", lambda *_: looked.append(1))
    Detector.train(folder, model="cnn-simple", **{**SMALL, "epochs": 1})
    assert not looked


def test_rates_where_nobody_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Enough(Exception):
        pass

    def fit(*_: Any, schedule: Any, **__: Any) -> None:
        rates.append(schedule.lr)
        raise Enough

    monkeypatch.setattr("deepfake_detect.training.pipeline.fit", fit)
    options = {name: value for name, value in SMALL.items() if name not in ("size_px", "device")}
    for how in ({}, {"freeze": "backbone"}, {"lr": 0.02}):
        with pytest.raises(Enough):
            small_detector().fine_tune(folder, **how, **options)
    with pytest.raises(Enough):
        Detector.train(folder, model="cnn-simple", **SMALL)
    assert rates == [2e-4, 1e-3, 0.02, 1e-3]


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_the_detector_s_backend_scores_the_validation_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    used: list[str] = []

    def calibrate(predictor: Predictor, *_: Any, **__: Any) -> Card:
        used.append(predictor._runner.backend)
        return predictor.card

    monkeypatch.setattr("deepfake_detect.training.pipeline.fit", lambda *_, **__: [])
    monkeypatch.setattr("deepfake_detect.training.pipeline.calibrate", calibrate)
    small_detector().to("cpu", backend=backend).fine_tune(folder, check="off")
    assert used == [backend]


def test_without_both_classes_to_validate_on_the_score_is_not_calibrated(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {name: value for name, value in SMALL.items() if name not in ("size_px", "device")}
    reals = [sample for sample in read_dataset(folder) if sample.label == 0][:4]
    tuned = small_detector(threshold=0.9, temperature=2.0).fine_tune(folder, valid=reals, **options)
    assert (tuned.card.threshold, tuned.card.temperature, tuned.calibration) == (0.5, 1.0, {})
    assert "the score is not calibrated" in caplog.text


PLAIN = {name: value for name, value in SMALL.items() if name not in ("size_px", "device")}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"freeze": True}, "freeze is True"),
        ({"faces": "some"}, "faces is 'some'"),
        ({"check": True}, "check is True"),
        ({"augment": 3}, "augment is 3"),
        ({"self_blend": "1"}, "self_blend is '1'"),
        ({"self_blend": 0.5, "faces": "none"}, "self_blend needs faces"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"valid": 1.5}, "valid is 1.5"),
        ({"valid": True}, "valid is True"),
        ({"resume": "yes"}, "resume is 'yes'"),
        ({"out": 7}, "out is 7"),
        ({"lr": 0.0}, "lr is 0.0"),
    ],
)
def test_options_of_the_wrong_type_are_refused_by_name(folder: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        small_detector().fine_tune(folder, **{**PLAIN, **wrong})


def test_the_folder_of_a_detector_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    small_bundle(tmp_path / "mine")
    before = (tmp_path / "mine" / "model.safetensors").read_bytes()
    detector = Detector.from_pretrained(tmp_path / "mine", device="cpu")
    for resume in (False, True):
        with pytest.raises(InvalidOption, match="holds the weights of a detector, which the first epoch would"):
            detector.fine_tune(folder, out=tmp_path / "mine", resume=resume, **PLAIN)
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == before


def test_home_is_expanded_and_the_history_survives_a_reload(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO):
        tuned = small_detector().fine_tune(folder, out="~/mine", freeze="backbone", **PLAIN)
    tuned.save_pretrained("~/copy")
    assert not (tmp_path / "~").exists()
    for name in ("mine", "copy"):
        loaded = Detector.from_pretrained(f"~/{name}", device="cpu")
        assert [repr(epoch) for epoch in loaded.history] == [repr(epoch) for epoch in tuned.history]
    assert loaded.plot_history().width > 300
    assert small_detector().history == ()
    assert 0 <= tuned.history[-1].train_accuracy <= 1 and tuned.history[-1].train_loss > 0
    assert tuned.summary().trainable < tuned.summary(freeze=0).total
    assert "split: 34 train, 6 validation" in caplog.text or "validation, each picture its own group" in caplog.text
    assert "too few to validate: " in caplog.text
    assert "the star marks the epoch that is kept" in caplog.text


def test_a_batch_is_never_larger_than_an_epoch(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tuned = small_detector().fine_tune(folder, **{**PLAIN, "epochs": 1, "batch_size": 1000, "accumulate": 50})
    assert tuned.history[0].batch_size <= 40
    assert "batch_size 1000 is larger than the" in caplog.text


def test_each_picture_is_opened_once_for_audit_and_faces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepfake_detect.auditing import cues
    from deepfake_detect.datasets import read

    monkeypatch.setenv("DEEPFAKE_DETECT_CACHE", str(folder.parent / "empty cache"))
    opened: list[str] = []
    for module in (read, cues):
        real = module.open_image
        monkeypatch.setattr(
            module, "open_image", lambda image, real=real, **more: opened.append("") or real(image, **more)
        )
    prepare_data(folder, preprocessing=small_detector().card.preprocessing, augment=None)
    assert len(opened) == 41


def test_whole_pictures_from_training_to_use(folder: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    random = np.random.default_rng(0)
    for label, tint in (("real", (1.2, 1.0, 0.8)), ("fake", (0.8, 1.0, 1.2))):
        (scenes / label).mkdir(parents=True)
        for number in range(16):
            pixels = np.clip(random.uniform(60, 180, (40, 64, 1)) * tint, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(scenes / label / f"{number}.png")
    options = {**SMALL, "epochs": 10, "batch_size": 4, "faces": "none", "lr": 3e-3, "augment": "light"}
    detector = Detector.train(scenes, model="cnn-simple", out=tmp_path / "whole", **options)
    assert detector.card.preprocessing.finder == "none"
    assert detector.training is not None and len(detector.training.census.samples) == 28
    loaded = Detector.from_pretrained(tmp_path / "whole", device="cpu")
    prediction = loaded.predict(scenes / "fake" / "3.png")
    assert prediction.faces[0].box_xyxy == (0, 0, 64, 40)
    assert prediction.score == loaded.predict(scenes / "fake" / "3.png", faces="none").score
    assert loaded.evaluate(scenes).auc > 0.9
    further = loaded.fine_tune(scenes, **{**PLAIN, "epochs": 1})
    assert further.card.preprocessing.finder == "none"


def test_whole_pictures_are_trained_on_as_they_are_used(tmp_path: Path) -> None:
    from deepfake_detect.datasets.crops import find_crops
    from deepfake_detect.training.crop_dataset import CropDataset

    pixels = np.random.default_rng(1).integers(0, 255, (90, 200, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    card = small_detector().card
    census = find_crops([Sample(image=tmp_path / "a.jpg", label=1)], FaceStore(tmp_path / "store"), faces="none")
    crops = CropDataset(census.samples, FaceStore(tmp_path / "store"), preprocessing=card.preprocessing)
    wanted = look_at(tmp_path / "a.jpg", preprocessing=card.preprocessing, finder=None, faces="none").crops[0]
    np.testing.assert_array_equal(crops[0][0].numpy(), wanted)


def test_settings_of_the_host_change_nothing(folder: Path) -> None:
    def weights() -> dict[str, torch.Tensor]:
        detector = Detector.train(folder, model="cnn-simple", **{**SMALL, "epochs": 1, "optimizer": "sgd"})
        return dict(detector.model.state_dict())

    expected = weights()
    torch.set_default_device("meta")
    try:
        with torch.inference_mode():
            elsewhere = weights()
    finally:
        torch.set_default_device(None)
    assert all(torch.equal(expected[name], value) for name, value in elsewhere.items())
    torch.set_default_dtype(torch.float64)
    try:
        doubles = weights()
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in doubles.items():  # torch itself rounds scalars in the default dtype
        assert value.dtype == expected[name].dtype and torch.allclose(expected[name], value, atol=2e-3), name


def test_labels_of_another_task_and_then_transfer_from_it(folder: Path, tmp_path: Path) -> None:
    people = tmp_path / "people"
    people.mkdir()
    (people / "male").symlink_to(folder / "real", target_is_directory=True)
    (people / "female").symlink_to(folder / "fake", target_is_directory=True)
    first = Detector.train(
        people, model="cnn-simple", labels={"male": "real", "female": "fake"}, out=tmp_path / "gender", **SMALL
    )
    second = Detector.train(folder, model="cnn-simple", start=tmp_path / "gender", **{**SMALL, "lr": 1e-12})
    head = [name for name in first.model.state_dict() if name.startswith("head")]
    old, new = first.model.state_dict(), second.model.state_dict()
    assert all(torch.allclose(old[name], new[name], atol=1e-4) for name in old if "running" not in name), head


def test_imagenet_weights_offline_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubUnavailable, match=r"download https://huggingface\.co/timm/.*model\.safetensors.*as start="):
        untrained("efficientnet-b0", name="m", start="imagenet")
    shutil.copytree(find_bundle("meso4-fakefaces").folder, tmp_path / "trunk")
    (tmp_path / "trunk" / "card.json").unlink()
    shutil.copy(tmp_path / "trunk" / "model.safetensors", tmp_path / "trunk" / "meso4.safetensors")
    (tmp_path / "trunk" / "model.safetensors").rename(tmp_path / "trunk" / "legacy_xception.imagenet.safetensors")
    taken, _ = untrained("meso4", name="m", start=tmp_path / "trunk")
    weights = load_model(find_bundle("meso4-fakefaces")).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in taken.state_dict().items())


def test_the_rate_finder_leaves_the_detector_alone(folder: Path) -> None:
    detector = small_detector()
    before = {name: value.clone() for name, value in detector.model.state_dict().items()}
    sweep = detector.find_rate(folder, steps=20, batch_size=4)
    assert all(torch.equal(before[name], value) for name, value in detector.model.state_dict().items())
    assert 1e-7 <= sweep.suggestion <= 1 and 3 <= len(sweep.rates) == len(sweep.losses) <= 20
    assert sweep.plot().width > 200
