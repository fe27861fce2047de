"""Test what a page is made of: the network and its heat map, the runtime, and the folder."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from deepfake_detect import create_model
from deepfake_detect.errors import BackendUnavailable, InvalidOption
from deepfake_detect.explain.layers import find_layer
from deepfake_detect.explain.methods import grad_cam
from deepfake_detect.export import web_runtime
from deepfake_detect.export.web_model import make_web_model
from deepfake_detect.export.web_runtime import BUILDS, SHA256, VERSION, find_runtime
from tests.small_world import CARD, small_detector

FAKE_FILES = {name: f"file {name}".encode() for name in SHA256}


@pytest.mark.parametrize(
    ("name", "kind"), [("timm:mobilenetv2_100", "grad-cam"), ("xception-dense", "forged"), ("meso4", None)]
)
def test_a_page_has_the_heat_map_of_python(name: str, kind: str | None) -> None:
    model = create_model(name, seed=0).eval().half().float()
    card = replace(CARD, preprocessing=replace(CARD.preprocessing, size_px=64))
    content, found = make_web_model(model, card)
    assert found == kind
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    outputs = dict(
        zip(
            [output.name for output in session.get_outputs()], session.run(None, {"pixels": batch.numpy()}), strict=True
        )
    )
    with torch.no_grad():
        logit = model(batch)
    np.testing.assert_allclose(outputs["logit"], logit, atol=1e-4)
    numbers = sum(value.numel() for value in model.state_dict().values())
    assert len(content) < 2.1 * numbers + 60_000  # bytes: stored in float16, with nodes and names
    if kind == "grad-cam":
        raw, _ = grad_cam(model, batch, find_layer(model, size_px=64)[1])
        raw = raw * raw[0].numel()
    elif kind == "forged":
        with torch.no_grad():
            raw = torch.sigmoid(model.localise(batch)[1])
    else:
        assert "heat" not in outputs
        return
    assert outputs["heat"].shape == tuple(raw.shape)
    np.testing.assert_allclose(outputs["heat"], raw, atol=1e-4 * float(raw.abs().max()))


def test_weights_that_float16_does_not_hold_stay_as_they_are() -> None:
    model = create_model("meso4", seed=0).eval()
    content, _ = make_web_model(model, CARD)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        np.testing.assert_allclose(session.run(["logit"], {"pixels": batch.numpy()})[0], model(batch), atol=1e-6)


def test_the_runtime_comes_from_a_folder_a_package_or_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_runtime, "SHA256", {n: hashlib.sha256(c).hexdigest() for n, c in FAKE_FILES.items()})
    monkeypatch.setenv("DEEPFAKE_DETECT_CACHE", str(tmp_path / "cache" / "faces"))
    package = tmp_path / "package.tgz"
    package.write_bytes(_package(FAKE_FILES))
    wanted = {name: FAKE_FILES[name] for name in BUILDS["wasm"].values()}
    assert find_runtime(package) == wanted
    monkeypatch.setattr(web_runtime, "_download", lambda address: package.read_bytes())
    assert find_runtime() == wanted  # and is kept
    monkeypatch.undo()
    monkeypatch.setattr(web_runtime, "SHA256", {n: hashlib.sha256(c).hexdigest() for n, c in FAKE_FILES.items()})
    folder = tmp_path / "cache" / f"onnxruntime-web-{VERSION}"
    assert find_runtime(folder) == wanted
    with pytest.raises(BackendUnavailable, match=r"lacks ort\.webgpu\.min\.mjs"):
        find_runtime(folder, build="webgpu")
    (folder / "ort.wasm.min.mjs").write_bytes(b"another version")
    with pytest.raises(BackendUnavailable, match=f"expected .* of onnxruntime-web {VERSION}; use exactly this version"):
        find_runtime(folder)
    package.write_bytes(package.read_bytes()[:80])
    with pytest.raises(BackendUnavailable, match="no whole npm package"):
        find_runtime(package)
    with pytest.raises(BackendUnavailable, match="cannot be read"):
        find_runtime(tmp_path / "nowhere")


def test_the_runtime_is_asked_for_at_the_configured_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPFAKE_DETECT_CACHE", str(tmp_path / "faces"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".npmrc").write_text("fund=false\nregistry = http://127.0.0.1:9/npm/\n")
    with pytest.raises(
        BackendUnavailable, match=r"from http://127\.0\.0\.1:9/npm/onnxruntime-web/-/.*pass it with --runtime"
    ):
        find_runtime()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://name:word@127.0.0.1:9")
    with pytest.raises(BackendUnavailable) as refused:
        find_runtime()
    assert "127.0.0.1:9/onnxruntime-web" in str(refused.value) and "word" not in str(refused.value)


def test_the_folder_holds_all_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_runtime, "SHA256", {n: hashlib.sha256(c).hexdigest() for n, c in FAKE_FILES.items()})
    package = tmp_path / "package.tgz"
    package.write_bytes(_package(FAKE_FILES))
    report = small_detector().export(tmp_path / "site", format="browser", runtime=package, webgpu=True)
    files = {path.relative_to(report.path).as_posix() for path in report.path.rglob("*") if path.is_file()}
    assert files == set(report.files) and report.size_bytes == sum(
        (report.path / name).stat().st_size for name in files
    )
    worker = (report.path / "sw.js").read_text()
    kept = json.loads(worker.partition("const FILES = ")[2].partition(";")[0])
    assert set(kept) - {"./"} <= files and "model/detector.onnx" in kept
    assert not any("{{" in (report.path / name).read_text() for name in ("sw.js", "package.json", "README.md"))
    manifest = json.loads((report.path / "model/model.json").read_text())
    for file in manifest["files"].values():
        content = (report.path / "model" / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    runtime = json.loads((report.path / "runtime/runtime.json").read_text())
    assert {f"runtime/{build['binary']['name']}" for build in (runtime["wasm"], runtime["webgpu"])} <= files
    for options in ({"dtype": "float16"}, {"preprocessing": True}):
        with pytest.raises(InvalidOption, match="are for format='onnx'"):
            small_detector().export(tmp_path / "site", format="browser", **options)
    with pytest.raises(InvalidOption, match="which is a file"):
        small_detector().export(package, format="browser", runtime=package)


def _package(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
