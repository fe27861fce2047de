"""Test the exported file: its numbers, its metadata, its report, and the face finder next to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from deepfake_detect import BackendUnavailable, DatasetError, Detector, InvalidOption, MissingExtra
from deepfake_detect.engines.onnx_engine import OnnxSessions
from deepfake_detect.export import onnx_export
from deepfake_detect.export.verdict_changes import compare_verdicts
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.predict.preprocess import normalise
from deepfake_detect.weights.load import load_model
from deepfake_detect.weights.onnx_file import read_onnx
from tests.small_world import CARD, portrait, small_bundle, small_detector


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small_detector(temperature=2.0, bias=0.5, threshold=0.7, licence="CC0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write faces of two classes that differ in brightness."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(9):
        kind = "fake" if number % 2 else "real"
        (folder / kind).mkdir(exist_ok=True)
        pixels = (portrait()[:300, 100:400] * (0.4 + 0.06 * number)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    return folder


def test_an_exported_file_answers_as_the_detector(detector: Detector, tmp_path: Path) -> None:
    crops = np.stack(detector.look(portrait()).crops * 3)
    expected = detector.predict(portrait())
    assert expected.logit is not None and expected.score is not None
    inputs = {
        "pixels": normalise(crops, preprocessing=detector.card.preprocessing).transpose(0, 3, 1, 2),
        "crops": crops,
    }
    for kind, batch in inputs.items():
        report = detector.export(tmp_path / f"{kind}.onnx", preprocessing=kind == "crops")
        session = onnxruntime.InferenceSession(report.path.read_bytes(), providers=["CPUExecutionProvider"])
        logits, scores = session.run(None, {kind: batch})
        np.testing.assert_allclose(logits, [expected.logit] * 3, atol=1e-5)
        np.testing.assert_allclose(scores, [expected.score] * 3, atol=1e-5)
        assert report.input == kind and report.logit_difference < 1e-5 and report.changes is None
    assert report.finder == tmp_path / "crops.finder.onnx" and report.finder.read_bytes() == FaceFinder().weights
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "crops.finder.onnx", "crops.onnx", "pixels.finder.onnx", "pixels.onnx",
    ]  # fmt: skip


def test_the_metadata_say_how_to_use_the_file(detector: Detector, tmp_path: Path) -> None:
    report = detector.export(tmp_path / "new folder" / "model.onnx")
    values = {entry.key.partition(".")[2]: entry.value for entry in onnx.load(report.path).metadata_props}
    assert json.loads(values["card"])["threshold"] == json.loads(values["threshold"]) == 0.7
    assert (json.loads(values["labels"]), values["licence"], values["dtype"]) == (["real", "fake"], "CC0", "float32")
    saved = detector.save_pretrained(tmp_path / "bundle")
    assert values["weights_sha256"] == saved.sha256 == read_onnx(report.path).card.sha256
    assert report.to_dict() == json.loads(report.to_json()) and report.to_dict()["opset"] == 18


def test_the_file_of_a_bundle_names_its_weights(tmp_path: Path) -> None:
    folder = small_bundle(tmp_path / "bundle")
    detector = Detector.from_pretrained(folder, device="cpu", dtype="float32")
    assert read_onnx(detector.export(tmp_path / "a.onnx").path).card == detector.card
    detector.model.load_state_dict({name: value + 1 for name, value in load_model(folder).state_dict().items()})
    assert read_onnx(detector.export(tmp_path / "b.onnx").path).card.sha256 != detector.card.sha256


def test_a_detector_of_whole_pictures_has_no_finder(tmp_path: Path) -> None:
    whole = small_detector(preprocessing=replace(CARD.preprocessing, finder="none"))
    assert whole.export(tmp_path / "model.onnx").finder is None
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("preprocessing", [False, True])
def test_int8_reports_the_verdicts_that_change(
    detector: Detector, pictures: Path, tmp_path: Path, preprocessing: bool
) -> None:
    exact = detector.export(tmp_path / "exact.onnx", data=pictures)
    small = detector.export(tmp_path / "small.onnx", dtype="int8", data=pictures, preprocessing=preprocessing)
    assert exact.changes is not None and small.changes is not None
    assert exact.changes.n == small.changes.n == 6 and exact.changes.largest_score_difference < 1e-5
    assert 1e-4 < small.changes.largest_score_difference < 0.1 and small.size_bytes < exact.size_bytes
    kinds = {node.op_type for node in onnx.load(small.path).graph.node}
    assert kinds >= {"QuantizeLinear", "DequantizeLinear"}
    again = detector.export(tmp_path / "again.onnx", dtype="int8", data=pictures, preprocessing=preprocessing)
    assert again.path.read_bytes() == small.path.read_bytes()


def test_changed_verdicts_are_counted() -> None:
    """By hand: labels at a threshold of 0.5, with 0.4 to 0.6 uncertain, of logits below and above 0."""
    card = replace(CARD, uncertain=(0.4, 0.6))
    before, after = np.array([-2.0, -2.0, 2.0, 0.0, 2.0]), np.array([-2.0, 2.0, 0.0, 0.0, -2.0])
    changes = compare_verdicts(before, after, labels=["real", "real", "fake", "fake", "fake"], card=card)
    assert dict(changes.changes) == {"real -> fake": 1, "fake -> uncertain": 1, "fake -> real": 1}
    assert (changes.n, changes.changed, changes.wrong_before, changes.wrong_after) == (5, 3, 0, 2)
    high, low = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(2.0))
    assert changes.largest_score_difference == pytest.approx(high - low)
    assert changes.mean_score_difference == pytest.approx((2 * (high - low) + high - 0.5) / 5)


def test_what_cannot_be_exported_is_refused(
    detector: Detector, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidOption, match=r"expected a file that ends in \.onnx"):
        detector.export(tmp_path / "model.pt")
    with pytest.raises(InvalidOption, match=r"format is 'onx'.*did you mean 'onnx'"):
        detector.export(tmp_path / "model.onnx", format="onx")  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="dtype is 'bfloat16'"):
        detector.export(tmp_path / "model.onnx", dtype="bfloat16")  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="needs a labelled data set"):
        detector.export(tmp_path / "model.onnx", dtype="int8")
    data = [(portrait(), "real"), (np.zeros((64, 64, 3), np.uint8), "fake")]
    with pytest.raises(DatasetError, match="shows 1 faces in 2 pictures"):
        detector.export(tmp_path / "model.onnx", dtype="int8", data=data)
    monkeypatch.setattr(OnnxSessions, "__call__", lambda *_, **__: np.full(4, 9.0, np.float32))
    with pytest.raises(BackendUnavailable, match="nothing was written"):
        detector.export(tmp_path / "model.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[onnx\]'"):
        detector.export(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = detector.export(tmp_path / "model.onnx").path
    before = path.read_bytes()
    monkeypatch.setattr("deepfake_detect.weights.load.os.fsync", _full)
    with pytest.raises(OSError, match="No space left on device"):
        detector.export(path, dtype="float16")
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def _full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_the_home_folder_is_expanded(detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert detector.export("~/model.onnx").path == tmp_path / "model.onnx"
    assert (tmp_path / "model.onnx").is_file() and onnx_export.FINDER_SUFFIX == ".finder.onnx"
