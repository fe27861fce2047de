"""Does a classifier learn classes of its own, keep them by name, and answer the same when it is loaded?"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from deepfake_detect import Classifier, Detector
from deepfake_detect.errors import DatasetError, InvalidOption, WeightsMismatch

TRAINING = {"model": "cnn-simple", "size_px": 64, "batch_size": 8, "lr": 1e-2, "augment": None, "device": "cpu"}
INKS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 40, 40)}


def paint(folder: Path, *, count: int = 14, seed: int = 0) -> Path:
    """Write noisy pictures of three colours into a folder for each."""
    random = np.random.default_rng(seed)
    for name, ink in INKS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noise = random.normal(0, 30, (64, 80, 3))
            pixels = np.clip(np.array(ink) * random.uniform(0.6, 1) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("colours") / "train")


@pytest.fixture(scope="module")
def trained(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    out = tmp_path_factory.mktemp("out") / "colours"
    return Classifier.train(colours, epochs=4, check="off", out=out, **TRAINING), out  # type: ignore[arg-type]


def test_it_learns_the_classes_of_the_folders(trained: tuple[Classifier, Path], tmp_path: Path) -> None:
    classifier, _ = trained
    assert classifier.classes == ("blue", "green", "red")
    assert len(classifier.history) == 4 and classifier.history[-1].valid_accuracy > 0.9
    others = paint(tmp_path / "test", count=5, seed=1)
    report = classifier.evaluate(others)
    assert report.n == 15 and report.accuracy > 0.9 and report.majority == pytest.approx(1 / 3)
    found = [classifier.predict(row["name"]).label for row in report.rows]
    assert found == [row["predicted"] for row in report.rows]
    assert classifier.card.preprocessing.finder == "none"
    assert classifier.card.training_data == tuple(f"unnamed: 12 {name} pictures" for name in classifier.classes)


def test_a_saved_classifier_answers_the_same_to_the_bit(trained: tuple[Classifier, Path], tmp_path: Path) -> None:
    classifier, out = trained
    picture = Image.new("RGB", (90, 50), INKS["green"])
    content = classifier.predict(picture)
    assert content.label == "green" and sum(content.scores.values()) == pytest.approx(1)
    classifier.save_pretrained(tmp_path / "again")
    for folder in (out, tmp_path / "again"):
        loaded = Classifier.from_pretrained(folder, device="cpu")
        assert loaded.predict(picture).scores == content.scores
        assert loaded.history == classifier.history
    listed = loaded.predict([picture, np.full((40, 40, 3), INKS["red"], np.uint8)])
    assert [one.label for one in listed] == ["green", "red"]
    assert [one.label for one in loaded.predict_many(iter([picture]))] == ["green"]


def test_the_report_is_that_of_scikit_learn(trained: tuple[Classifier, Path], colours: Path, tmp_path: Path) -> None:
    pictures = [(path, path.parent.name) for path in sorted(colours.rglob("*.png"))[::3]]
    wrong = [(path, "red" if number % 4 == 0 else name) for number, (path, name) in enumerate(pictures)]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    report = trained[0].evaluate([*wrong, (tmp_path / "broken.png", "blue")])
    true, called = [row["label"] for row in report.rows], [row["predicted"] for row in report.rows]
    assert report.n == len(wrong) and [name for name, _ in report.unreadable] == [str(tmp_path / "broken.png")]
    assert report.accuracy == accuracy_score(true, called)
    assert report.accuracy_interval[0] < report.accuracy < report.accuracy_interval[1]
    names = list(trained[0].classes)
    assert [list(row.values()) for row in report.confusion.values()] == confusion_matrix(
        true, called, labels=names
    ).tolist()
    f1 = [figures.f1 for figures in report.by_class.values()]
    assert f1 == pytest.approx(f1_score(true, called, labels=names, average=None))
    report.save(tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} >= {"report.json", "scores.csv", "confusion.png"}
    assert (
        "called red" in str(report) and report.to_dict()["by_class"]["red"]["recall"] == report.by_class["red"].recall
    )


def test_other_classes_get_a_new_head_and_the_same_ones_keep_it(
    trained: tuple[Classifier, Path], colours: Path
) -> None:
    classifier, _ = trained
    pictures = [(path, path.parent.name) for path in sorted(colours.rglob("*.png"))]
    settings = {"epochs": 1, "batch_size": 8, "lr": 1e-9, "ema": 0.0, "augment": None, "check": "off"}
    same = classifier.fine_tune(pictures, **settings)  # type: ignore[arg-type]
    other = classifier.fine_tune([(path, name[0]) for path, name in pictures], **settings)  # type: ignore[arg-type]
    two = classifier.fine_tune([pair for pair in pictures if pair[1] != "red"], **settings)  # type: ignore[arg-type]
    assert (other.classes, two.classes) == (("b", "g", "r"), ("blue", "green"))
    weights = [dict(one.model.state_dict()) for one in (classifier, same, other, two)]
    first = "features.0.0.weight"
    assert all(torch.allclose(weights[0][first], some[first], atol=1e-6) for some in weights)
    assert torch.allclose(weights[0]["logit.weight"], weights[1]["logit.weight"], atol=1e-6)
    assert not torch.allclose(weights[0]["logit.weight"], weights[2]["logit.weight"], atol=1e-3)


def test_a_detector_begins_with_the_layers_of_a_classifier(
    trained: tuple[Classifier, Path], colours: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = [(path, {"blue": "real", "red": "fake"}[path.parent.name]) for path in colours.rglob("*.png")
                if path.parent.name != "green"]  # fmt: skip
    options = {**TRAINING, "lr": 1e-9, "ema": 0.0, "faces": "none", "check": "off", "epochs": 1}
    with caplog.at_level(logging.INFO, "deepfake_detect"):
        detector = Detector.train(pictures, start=trained[1], **options)  # type: ignore[arg-type]
    assert "new: logit.bias, logit.weight" in caplog.text
    layer = "features.2.0.weight"
    assert torch.allclose(detector.model.state_dict()[layer], trained[0].model.state_dict()[layer], atol=1e-6)


def test_a_head_alone_is_trained_on_cached_features(colours: Path) -> None:
    base = Classifier.from_pretrained("content-classes", device="cpu")
    mine = base.fine_tune(colours, epochs=6, freeze="backbone", augment=None, check="off", batch_size=8, lr=1e-2)
    assert mine.history[-1].train_accuracy > 0.9
    backbone = "net.conv_stem.weight"
    assert torch.equal(mine.model.state_dict()[backbone], base.model.state_dict()[backbone])


def test_real_and_fake_are_left_to_detectors(colours: Path, trained: tuple[Classifier, Path]) -> None:
    pictures = [(path, "Real" if number % 2 else "fake") for number, path in enumerate(colours.rglob("*.png"))]
    with pytest.raises(InvalidOption, match=r"Detector\.train"):
        Classifier.train(pictures)
    with pytest.raises(InvalidOption, match=r"Detector\.train"):
        trained[0].fine_tune(pictures)
    with pytest.raises(WeightsMismatch, match=r"Detector\.from_pretrained"):
        Classifier.from_pretrained("meso4-fakefaces")
    with pytest.raises(WeightsMismatch, match=r"Classifier\.from_pretrained"):
        Detector.from_pretrained("content-classes")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"faces": "all"}, "faces"),
        ({"self_blend": 1.0}, "self_blend"),
        ({"epochs": "3"}, "epochs"),
        ({"epoks": 3}, "did you mean 'epochs'"),
        ({"class_weights": (1.0, 2.0)}, "each of 3 classes"),
        ({"size_px": "64"}, "size_px"),
        ({"model": 3}, "model"),
        ({"resume": True}, "resume"),
    ],
)
def test_wrong_options_are_named(colours: Path, options: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        Classifier.train(colours, check="off", **{**TRAINING, "epochs": 1, **options})  # type: ignore[arg-type]


def test_the_audit_of_classes_looks_for_duplicates_and_balance(colours: Path) -> None:
    pictures = [(path, path.parent.name) for path in sorted(colours.rglob("*.png"))]
    with pytest.raises(DatasetError, match=r"(?s)14 blue, 14 green, 15 red.*1 pair of duplicates across labels"):
        Classifier.train([*pictures, (pictures[0][0], "red")], check="strict", epochs=1, **TRAINING)  # type: ignore[arg-type]
