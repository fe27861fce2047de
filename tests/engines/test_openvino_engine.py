"""Test that OpenVINO gives the logits of the network, and needs no torch for a verdict."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepfake_detect import (
    BackendUnavailable,
    Detector,
    MissingExtra,
    WeightsCorrupted,
    WeightsMismatch,
    create_model,
    list_pretrained,
)
from deepfake_detect.engines import runner
from deepfake_detect.engines.openvino_engine import Compiled, compile_bundle
from deepfake_detect.engines.outline import OUTLINES, Operation, file_name, known_outline, to_json
from deepfake_detect.engines.torch_engine import Forward
from deepfake_detect.engines.trace import record
from deepfake_detect.predict import predictor as predictor_room
from deepfake_detect.system import device
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.golden import golden_pictures
from deepfake_detect.weights.load import load_model, save_bundle
from tests.engines.test_packed import NAMES, logits_of, pictures, settled
from tests.small_world import CARD, PORTRAIT, small_bundle, small_model

CPU = torch.device("cpu")
OUTLINED = [name for name in NAMES if (OUTLINES / file_name(name)).exists()]
WITHOUT_OUTLINE = {"vgg16", "timm:mobilenetv3_small_100", "timm:vit_tiny_patch16_224"}


def compiled(model: nn.Module, *, size_px: int, **options: Any) -> Compiled:
    outline = record(model)
    assert outline is not None
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    return Compiled(outline, tensors, size_hw=(size_px, size_px), **options)


def compiled_logits(network: Compiled, batch: Tensor, **options: Any) -> np.ndarray:
    return network(batch.permute(0, 2, 3, 1).numpy(), **options)


@pytest.mark.parametrize("name", OUTLINED)
def test_a_packaged_outline_is_that_of_the_network(name: str) -> None:
    assert known_outline(name) == record(create_model(name, seed=0).eval())


def test_every_outline_has_its_network() -> None:
    assert {path.name for path in OUTLINES.glob("*")} == {file_name(name) for name in OUTLINED}
    cards = [find_bundle(name).card for name in list_pretrained()]
    assert {card.architecture for card in cards} <= set(OUTLINED)


def test_an_outline_is_written_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outline = (Operation(kind="pictures"), Operation(kind="conv", inputs=(0,), weights="a", settings={"groups": 1}))
    monkeypatch.setattr("deepfake_detect.engines.outline.OUTLINES", tmp_path)
    (tmp_path / file_name("timm:a/64")).write_text(to_json(outline))
    assert known_outline("timm:a/64") == outline
    assert known_outline("none") is None


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_are_those_of_the_network(name: str) -> None:
    if name in WITHOUT_OUTLINE:
        assert record(create_model(name, seed=0).eval()) is None
        return
    model, batch = settled(name, size_px=96), pictures(3, size_px=96)
    with torch.inference_mode():
        expected = model(batch).numpy()
    network = compiled(model, size_px=96)
    np.testing.assert_allclose(
        compiled_logits(network, batch), expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max())
    )
    np.testing.assert_array_equal(
        compiled_logits(network, batch[1:2]), compiled_logits(network, batch)[1:2]
    )  # whatever its neighbours
    if np.abs(expected).max() > 100:  # random weights of a deep network, which let any rounding grow
        return
    rough = compiled_logits(compiled(model, size_px=96, dtype="bfloat16"), batch)
    np.testing.assert_allclose(rough, expected, rtol=0, atol=0.1 * max(1, np.abs(expected).max()))


def joined(join: Callable[[nn.ModuleDict, Tensor], Tensor], **parts: nn.Module) -> nn.Module:
    """Make a network of 8 px out of parts, the function that joins them, and a dense layer."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict(parts)
            self.logit = nn.LazyLinear(1)

        def forward(self, batch: Tensor) -> Tensor:
            logit: Tensor = self.logit(torch.flatten(join(self.parts, batch), 1))
            return logit.squeeze(1)

    torch.manual_seed(0)
    model = Joined()
    model(torch.rand(2, 3, 8, 8))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean = torch.rand(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    return model.eval()


CONV = nn.Conv2d(3, 6, 3, stride=2, padding=(1, 0), dilation=2)
KNOWN = {
    "dilated": joined(lambda p, x: p["conv"](x), conv=CONV),
    "grouped": joined(lambda p, x: p["conv"](x), conv=nn.Conv2d(3, 6, 3, groups=3, bias=False)),
    "conv of two users": joined(
        lambda p, x: (lambda maps: p["norm"](maps) + maps)(p["conv"](x)), conv=CONV, norm=nn.BatchNorm2d(6)
    ),
    "conv used twice": joined(lambda p, x: p["norm"](p["conv"](x)) + p["conv"](x), conv=CONV, norm=nn.BatchNorm2d(6)),
    "norm alone": joined(lambda p, x: p["norm"](x), norm=nn.BatchNorm2d(3)),
    "folded norm": joined(lambda p, x: p["norm"](p["conv"](x)), conv=CONV, norm=nn.BatchNorm2d(6)),
    "concat": joined(lambda p, x: torch.cat([x, p["conv"](x)], dim=1), conv=nn.Conv2d(3, 2, 1)),
    "gate": joined(lambda p, x: x * p["conv"](x.mean((2, 3), keepdim=True)).sigmoid(), conv=nn.Conv2d(3, 3, 1)),
    "mean": joined(lambda p, x: p["conv"](x).mean(dim=(2, 3)), conv=CONV),
    "pools": joined(
        lambda p, x: p["a"](p["m"](x)), a=nn.AdaptiveAvgPool2d((2, 3)), m=nn.MaxPool2d(3, stride=1, padding=1)
    ),
    **{
        type(act).__name__: joined(lambda p, x: p["act"](p["conv"](x)), act=act, conv=nn.Conv2d(3, 4, 3))
        for act in (
            nn.ReLU(),
            nn.ReLU6(),
            nn.LeakyReLU(0.3),
            nn.SiLU(),
            nn.Sigmoid(),
            nn.Hardswish(),
            nn.Hardtanh(-0.1, 0.2),
        )
    },
    "functions": joined(lambda p, x: torch.relu(p["conv"](x)) + nn.functional.silu(p["conv"](x)), conv=CONV),
}


@pytest.mark.parametrize("what", KNOWN)
def test_each_operation_is_told_as_it_is(what: str) -> None:
    model, batch = KNOWN[what], torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 3
    with torch.inference_mode():
        expected = model(batch).numpy()
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(compiled_logits(compiled(model, size_px=8), batch), expected, atol=1e-5)


UNKNOWN: dict[str, Callable[[nn.ModuleDict, Tensor], Tensor]] = {
    "a number": lambda p, x: p["conv"](x) + 3,
    "a factor": lambda p, x: torch.add(p["conv"](x), p["conv"](x), alpha=2),
    "rows joined": lambda p, x: torch.cat([x, x], dim=2),
    "mean of channels": lambda p, x: x.mean(1),
    "mean of all": lambda p, x: x.mean(),
    "flat": lambda p, x: torch.flatten(x),
    "another function": lambda p, x: torch.tanh(x),
    "another module": lambda p, x: p["tanh"](x),
    "up": lambda p, x: p["up"](x),
    "same": lambda p, x: p["same"](x),
    "around": lambda p, x: p["around"](x),
    "unkept": lambda p, x: p["unkept"](x),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_cannot_be_told_is_not(what: str) -> None:
    parts = {
        "conv": nn.Conv2d(3, 3, 3),
        "tanh": nn.Tanh(),
        "up": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "same": nn.Conv2d(3, 3, 3, padding="same"),
        "around": nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
        "unkept": nn.BatchNorm2d(3, track_running_stats=False),
    }

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict(parts)

        def forward(self, batch: Tensor) -> Tensor:
            return UNKNOWN[what](self.parts, batch)

    assert record(Odd().eval()) is None


def test_lanes_and_threads_say_the_same() -> None:
    model, batch = settled("cnn6", size_px=64), pictures(4, size_px=64)
    network = compiled(model, size_px=64)
    expected = compiled_logits(network, batch)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: compiled_logits(network, batch, lanes=1 + number % 3), range(24)))
    for one in found:
        np.testing.assert_allclose(one, expected, atol=1e-6)
    assert sorted(network._requests._compiled) == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 8, 19])
def test_pictures_that_wait_in_line_are_not_mixed_up(count: int) -> None:
    model, batch = settled("cnn6", size_px=64), pictures(count, size_px=64)
    network = compiled(model, size_px=64)
    alone = [float(compiled_logits(network, batch[at : at + 1])[0]) for at in range(count)]
    assert len(set(alone)) == count
    np.testing.assert_allclose(compiled_logits(network, batch), alone, atol=1e-6)


@pytest.mark.parametrize(("backend", "expected"), [("openvino", (4, 8)), ("torch", (3, 4))])
def test_one_more_thread_keeps_openvino_busy(
    backend: Any, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[dict[str, Any]] = []
    monkeypatch.setattr(predictor_room, "count_processors", lambda: 3)
    monkeypatch.setattr(predictor_room, "stream_predictions", lambda images, **more: asked_for.append(more))
    detector = Detector(model=small_model(), card=CARD, device="cpu", backend=backend)
    detector.predict_many([])
    assert [(one["workers"], one["batch_size"]) for one in asked_for] == [expected]
    detector.predict_many([], workers=2, batch_size=5)
    assert (asked_for[1]["workers"], asked_for[1]["batch_size"]) == (2, 5)


@pytest.mark.parametrize("name", list_pretrained())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packaged_weights_keep_their_golden_logits(name: str, dtype: str) -> None:
    bundle = find_bundle(name)
    detector = Detector(model=bundle, card=bundle.card, device="cpu", dtype=dtype, backend="openvino")
    size = (bundle.card.preprocessing.size_px,) * 2
    for title, picture in golden_pictures().items():
        prediction = detector.predict(picture, faces="none")
        assert prediction.logit == pytest.approx(bundle.card.golden[title], abs=1e-3 if dtype == "float32" else 0.25), (
            size
        )
        assert (prediction.backend, prediction.dtype) == ("openvino", dtype)
    assert not detector._runner.is_loaded


def test_outputs_may_be_several() -> None:
    bundle = find_bundle("content-classes")
    network = compile_bundle(bundle)
    assert network is not None
    side = bundle.card.preprocessing.size_px
    batch = pictures(2, size_px=side)
    with torch.inference_mode():
        expected = load_model(bundle)(batch).numpy()
    assert expected.shape == (2, bundle.card.outputs)
    np.testing.assert_allclose(compiled_logits(network, batch), expected, atol=1e-3)


def test_a_model_that_is_asked_for_may_be_changed(tmp_path: Path) -> None:
    detector = Detector.from_pretrained(small_bundle(tmp_path), backend="openvino")
    before = detector.predict(PORTRAIT, faces="none")
    with torch.no_grad():
        detector.model.head.logit.weight.mul_(2)
        detector.model.head.logit.bias.mul_(2)
    after = detector.predict(PORTRAIT, faces="none")
    assert before.logit is not None and abs(before.logit) > 0.01
    assert after.logit == pytest.approx(2 * before.logit, abs=1e-4)
    assert after.backend == before.backend == "openvino"


def test_a_model_in_memory_is_compiled() -> None:
    ours, theirs = (Detector(model=small_model(), card=CARD, device="cpu", backend=b) for b in ("openvino", "torch"))
    pair = [detector.predict(PORTRAIT) for detector in (ours, theirs)]
    assert [one.backend for one in pair] == ["openvino", "torch-packed"]
    assert pair[0].logit == pytest.approx(pair[1].logit, abs=1e-5)
    assert ours.to(backend="torch").predict(PORTRAIT).backend == "torch-packed"
    many = list(ours.to(backend="openvino").predict_many([PORTRAIT] * 9, workers=3))
    assert {one.backend for one in many} == {"openvino"}
    assert [one.logit for one in many] == pytest.approx([pair[0].logit] * 9, abs=1e-3)


def wrong_outline(model: nn.Module) -> tuple[Operation, ...]:
    outline = record(model)
    assert outline is not None
    return tuple(
        replace(operation, kind="sigmoid" if operation.kind == "relu" else operation.kind) for operation in outline
    )


def test_a_compiled_network_that_does_not_agree_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, batch = settled("cnn4", size_px=64), pictures(2, size_px=64)
    wrong = wrong_outline(model)
    monkeypatch.setattr("deepfake_detect.engines.torch_engine.try_record", lambda _: wrong)
    with pytest.raises(BackendUnavailable, match=r"OpenVINO's logits differ from torch's.*use backend='torch'"):
        logits_of(Forward(model, device=CPU, backend="openvino"), batch)
    forward = Forward(model, device=CPU, backend="auto")
    torch.testing.assert_close(logits_of(forward, batch), model(batch).detach())
    assert forward.how["backend"] == "torch-packed" and forward.backend == "torch"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "torch runs the network, since OpenVINO cannot: OpenVINO's logits differ" in caplog.text
    logits_of(forward, batch)
    assert len(caplog.records) == 1  # said once


def test_a_network_with_unknown_operations_is_refused_or_runs_in_torch(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Conv2d(3, 1, 8), nn.Tanh(), nn.Flatten(0)).eval()
    batch = torch.rand(2, 3, 8, 8)
    with pytest.raises(BackendUnavailable, match=r"operations of Sequential are not known .*: 1, a Tanh"):
        logits_of(Forward(model, device=CPU, backend="openvino"), batch)
    forward = Forward(model, device=CPU, backend="auto")
    torch.testing.assert_close(logits_of(forward, batch), model(batch).detach())
    assert forward.how["backend"].startswith("torch") and "since OpenVINO cannot" in caplog.text


def test_openvino_that_refuses_packaged_weights_raises_unless_it_was_a_preference(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Exception from src/core/src/node.cpp:5:\nno such operation")

    monkeypatch.setattr("deepfake_detect.engines.openvino_engine.build_graph", refuse)
    monkeypatch.setattr(runner, "is_installed", lambda: True)
    monkeypatch.setattr(runner, "may_have_accelerator", lambda: False)
    with pytest.raises(BackendUnavailable, match="OpenVINO refuses 'meso4' at 256 px: no such operation"):
        Detector.from_pretrained("meso4-fakefaces", backend="openvino")
    assert Detector.from_pretrained("meso4-fakefaces").predict(PORTRAIT, faces="none").backend == "torch-packed"
    assert "torch runs meso4-fakefaces@1, since OpenVINO cannot: OpenVINO refuses" in caplog.text


def test_unknown_architectures_go_to_torch(tmp_path: Path) -> None:
    card = replace(CARD, architecture="cnn4/8")
    save_bundle(create_model("cnn4/8", seed=0).eval(), card, tmp_path, half=False)
    detector = Detector.from_pretrained(tmp_path, backend="openvino")
    assert detector._runner.is_loaded
    assert detector.predict(PORTRAIT).backend == "openvino"  # recorded from the network itself


def test_damaged_weights_are_refused_at_once(tmp_path: Path) -> None:
    file = small_bundle(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsCorrupted, match="sha256"):
        Detector.from_pretrained(tmp_path, backend="openvino")


@pytest.mark.parametrize(
    "content", [b"", b"x" * 7, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}", b"\xff" * 99]
)
def test_what_is_no_safetensors_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    folder = small_bundle(tmp_path)
    (folder / "model.safetensors").write_bytes(content)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(
        json.dumps({**card, "sha256": hashlib.sha256(content).hexdigest(), "checksum": ""})
    )
    with pytest.raises((WeightsCorrupted, WeightsMismatch), match=r"not a safetensors file|missing"):
        Detector.from_pretrained(folder, backend="openvino")


def test_weights_of_another_network_are_told_by_torch(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    small_bundle(tmp_path)
    values = json.loads(card.read_text())
    card.write_text(json.dumps({**values, "architecture": "cnn4", "checksum": ""}))
    with pytest.raises(WeightsMismatch, match="missing"):
        Detector.from_pretrained(tmp_path, backend="openvino")


def test_what_openvino_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"device='cuda' and dtype='auto': use backend='torch'"):
        Detector.from_pretrained("meso4-fakefaces", backend="openvino", device="cuda")
    with pytest.raises(ValueError, match="dtype='float16'"):
        Detector.from_pretrained("meso4-fakefaces", backend="openvino", dtype="float16")
    with pytest.raises(ValueError, match=r"backend is 'openvin', expected 'auto', .*; did you mean 'openvino'"):
        Detector.from_pretrained("meso4-fakefaces", backend="openvin")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[openvino\]'"):
        Detector.from_pretrained("meso4-fakefaces", backend="openvino")


@pytest.mark.parametrize(
    ("installed", "accelerator", "device", "dtype", "chosen"),
    [
        (True, False, "auto", "auto", "openvino"),
        (True, False, "cpu", "float32", "openvino"),
        (True, True, "auto", "auto", "openvino"),  # torch is asked, and finds none
        (True, True, "cpu", "auto", "openvino"),
        (True, False, "cpu", "float16", "torch"),
        (False, False, "auto", "auto", "torch-packed"),
    ],
)
def test_auto_takes_what_is_there(
    monkeypatch: pytest.MonkeyPatch, installed: bool, accelerator: bool, device: str, dtype: str, chosen: str
) -> None:
    monkeypatch.setattr(runner, "is_installed", lambda: installed)
    monkeypatch.setattr(runner, "may_have_accelerator", lambda: accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    detector = Detector.from_pretrained("meso4-fakefaces", device=device, dtype=dtype)
    without_torch = chosen == "openvino" and not (accelerator and device == "auto")
    assert (not detector._runner.is_loaded) == without_torch
    assert detector.predict(PORTRAIT, faces="none").backend == chosen


def test_auto_goes_to_torch_where_openvino_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "is_installed", lambda: True)
    monkeypatch.setattr(runner, "may_have_accelerator", lambda: False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert Detector.from_pretrained("meso4-fakefaces").predict(PORTRAIT, faces="none").backend == "torch-packed"


def test_a_verdict_needs_no_torch() -> None:
    code = (
        "import sys; from deepfake_detect import Detector; d = Detector.from_pretrained('mobile-fakefaces');"
        f"from deepfake_detect import classify_content; assert classify_content({str(PORTRAIT)!r}).label == 'face';"
        f"p = d.predict({str(PORTRAIT)!r}); q = list(d.predict_many([{str(PORTRAIT)!r}] * 3));"
        "print(p.backend, {x.label for x in q} == {p.label}, repr(d),"
        "[name for name in ('torch', 'timm', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "openvino True Detector('mobile-fakefaces@1', device='cpu', dtype='float32') []\n"


@pytest.mark.parametrize(
    ("platform", "machine", "files", "may"),
    [
        ("linux", "x86_64", (), False),
        ("linux", "x86_64", ("/dev/nvidiactl",), True),
        ("linux", "aarch64", ("/dev/kfd",), True),
        ("darwin", "arm64", (), True),
        ("darwin", "x86_64", (), False),
        ("win32", "AMD64", (), False),
    ],
)
def test_an_accelerator_is_told_without_torch(
    platform: str, machine: str, files: tuple[str, ...], may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.sys, "platform", platform)
    monkeypatch.setattr(device.platform, "machine", lambda: machine)
    monkeypatch.setattr(device.os.path, "exists", lambda file: file in files)
    assert device.may_have_accelerator() == may
