"""Test that `doctor` notices what is wrong with an installation, and says what to do."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import deepfake_detect as dd
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.weights import bundle as bundle_module
from deepfake_detect.weights.golden import golden_pictures
from tests.small_world import small_bundle, small_detector

health: Any = importlib.import_module("deepfake_detect.health")  # dd.doctor is the function
GOLDEN = {
    name: small_detector().predict(pixels, faces="none").logit or 0.0 for name, pixels in golden_pictures().items()
}


@pytest.fixture(autouse=True)
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put one small bundle into the place of the packaged ones; give its folder."""
    monkeypatch.setattr(bundle_module, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return small_bundle(tmp_path / "pretrained" / "small@0", golden=GOLDEN)


def problems(report: Any) -> dict[str, Any]:
    assert report.ok == all(check.ok for check in report.checks)
    assert all(check.advice for check in report.checks if not check.ok)
    return {check.name: check for check in report.checks if not check.ok}


def change_card(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "card.json").read_bytes())
    (folder / "card.json").write_text(json.dumps({**card, **changes, "checksum": ""}, default=asdict))


def test_all_is_well() -> None:
    report = dd.doctor()
    assert problems(report) == {}
    found = {check.name: check.found for check in report.checks}
    assert set(found) >= {"python", "torch", "timm", "opencv-python-headless", "pillow", "device", "face finder"}
    assert "sha256 correct, 4 golden logits" in found["weights small@0"]
    assert str(report).endswith("All is well.")
    assert found["onnxruntime"].partition(", ")[2].startswith("ONNX files run on cpu")


def test_onnxruntime_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    report = dd.doctor()
    (check,) = (check for check in report.checks if check.name == "onnxruntime")
    assert check.ok and "pip install 'deepfake-detect[onnx]'" in check.found


def test_the_report_as_json() -> None:
    report = dd.doctor()
    assert json.loads(report.to_json()) == report.to_dict()
    assert report.to_dict()["checks"][0] == {
        "name": "python",
        "ok": True,
        "found": ".".join(map(str, sys.version_info[:3])),
        "advice": "",
    }


def test_a_flipped_byte_is_noticed(packaged: Path) -> None:
    path = packaged / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    report = dd.doctor()
    found = problems(report)
    assert list(found) == ["weights small@0"]
    assert "WeightsCorrupted" in found["weights small@0"].found
    assert "pip install" in found["weights small@0"].advice
    assert "PROBLEM  weights small@0" in str(report)


@pytest.mark.parametrize(("move", "ok"), [(0.0009, True), (-0.0009, True), (0.0011, False), (-0.0011, False)])
def test_a_golden_logit_may_move_a_thousandth(packaged: Path, move: float, ok: bool) -> None:
    change_card(packaged, golden={**GOLDEN, "noise": GOLDEN["noise"] + move})
    found = problems(dd.doctor())
    assert (found == {}) == ok
    assert ok or "'noise' by 0.0011" in found["weights small@0"].found


@pytest.mark.parametrize(
    "changes",
    [
        {"golden": {**GOLDEN, "gradient": float("nan")}},
        {"golden": {}},
        {"golden": {"a picture of another version": 0.0}},
        {"preprocessing": dd.Preprocessing(size_px=64, interpolation="bilinear")},
        {"preprocessing": dd.Preprocessing(size_px=64, mean=(0.5, 0.5, 0.49))},
        {"architecture": "cnn4"},
        {"architecture": "meso5"},
    ],
)
def test_a_card_that_does_not_fit_is_noticed(packaged: Path, changes: dict[str, Any]) -> None:
    change_card(packaged, **changes)
    assert list(problems(dd.doctor())) == ["weights small@0"]


def test_a_card_from_the_future_is_noticed_beside_a_good_one(packaged: Path) -> None:
    shutil.copytree(packaged, packaged.with_name("small@1"))
    card = json.loads((packaged / "card.json").read_text())
    (packaged / "card.json").write_text(json.dumps({**card, "schema": 99}))
    found = problems(dd.doctor())
    assert list(found) == ["weights small@0"]
    assert "pip install --upgrade deepfake-detect" in found["weights small@0"].found


def test_no_weights_at_all(packaged: Path) -> None:
    shutil.rmtree(packaged)
    assert problems(dd.doctor())["weights"].found == "no packaged weights"


def test_a_broken_timm_stops_only_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = importlib.import_module

    def broken(name: str) -> Any:
        if name == "timm":
            raise RuntimeError("operator torchvision::nms does not exist")
        return plain(name)

    monkeypatch.setattr(health.importlib, "import_module", broken)
    report = dd.doctor()
    found = problems(report)
    assert list(found) == ["timm"]
    assert "torchvision::nms" in found["timm"].found
    assert "torchvision" in found["timm"].advice
    assert "weights small@0" in {check.name for check in report.checks}


def test_without_torch_the_report_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = importlib.import_module

    def broken(name: str) -> Any:
        if name == "torch":
            raise OSError("libcudart.so.12: cannot open shared object file")
        return plain(name)

    monkeypatch.setattr(health.importlib, "import_module", broken)
    report = dd.doctor()
    assert list(problems(report)) == ["torch"]
    assert not any(check.name.startswith("weights") for check in report.checks)


@pytest.mark.parametrize("count", [0, 2])
def test_a_blind_face_finder_is_noticed(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(FaceFinder, "find", lambda *_, **__: [object()] * count)
    assert f"finds {count} faces" in problems(dd.doctor())["face finder"].found


def test_a_missing_face_finder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepfake_detect.faces.finder.PACKAGED", "no-such@1")
    assert "no-such@1" in problems(dd.doctor())["face finder"].found


def test_offline_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    report = dd.doctor()
    (offline,) = [check for check in report.checks if check.name == "network"]
    assert (offline.ok, "HF_HUB_OFFLINE is set" in offline.found) == (True, True)


def test_a_full_disk_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: usage(1, 1, 2**20))
    found = problems(dd.doctor())["Hub cache"]
    assert str(tmp_path / "home" / "hub") in found.found
    assert "0.0 GB free" in found.found
    assert "HF_HUB_CACHE" in found.advice


def test_a_cache_that_cannot_be_written_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    assert "not writable" in problems(dd.doctor())["Hub cache"].found
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_doctor_leaves_nothing_behind(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    dd.doctor()
    assert sorted(tmp_path.rglob("*")) == before


def test_the_function_is_not_hidden_by_its_module() -> None:
    module = importlib.import_module("deepfake_detect.health")
    assert callable(dd.doctor)
    assert module.doctor is dd.doctor
