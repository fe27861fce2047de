"""Test that an ONNX file answers as the detector it was exported from, in threads, copies and forks, without torch."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from deepfake_detect import BackendUnavailable, Detector, InvalidOption, MissingExtra, WeightsMismatch, verify
from deepfake_detect.engines import onnx_engine
from deepfake_detect.engines.onnx_engine import OnnxRunner, OnnxSessions, list_devices
from deepfake_detect.export.onnx_model import to_bytes
from deepfake_detect.weights.onnx_file import OnnxFile, parse_onnx, read_onnx
from tests.small_world import CARD, PORTRAIT, empty_scene, group, portrait, small_detector


@pytest.fixture(scope="module")
def exact() -> Detector:
    return small_detector(temperature=2.0, bias=0.3, threshold=0.6, uncertain=(0.5, 0.7))


@pytest.fixture(scope="module")
def path(exact: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exact.export(tmp_path_factory.mktemp("onnx") / "model.onnx").path


@pytest.fixture
def runner(path: Path) -> OnnxRunner:
    return OnnxRunner(read_onnx(path))


def pixels(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 64, 64, 3)).astype(np.float32)


def test_a_picture_answers_the_same_in_any_company(runner: OnnxRunner, exact: Detector) -> None:
    logits = runner(pixels())
    np.testing.assert_allclose(logits, exact.answer(pixels()), atol=1e-5)
    singles = np.concatenate([runner(picture[None], lanes=2) for picture in pixels()])
    np.testing.assert_array_equal(singles, logits)


def test_threads_copies_and_pickles_answer_the_same(runner: OnnxRunner) -> None:
    logits = runner(pixels())
    with ThreadPoolExecutor(4) as pool:
        for other in pool.map(lambda _: runner(pixels(), lanes=2), range(8)):
            np.testing.assert_array_equal(other, logits)
    for copied in (copy.copy(runner), copy.deepcopy(runner), pickle.loads(pickle.dumps(runner))):
        np.testing.assert_array_equal(copied(pixels()), logits)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_the_file_again(runner: OnnxRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    logits, session = runner(pixels()), onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *args, **options: opened.append(args) or session(*args, **options)
    )
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(runner(pixels()), logits) and len(opened) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(runner(pixels()), logits)
    assert opened == []


def test_a_file_with_preprocessing_takes_crops(exact: Detector, tmp_path: Path) -> None:
    runner = OnnxRunner(read_onnx(exact.export(tmp_path / "crops.onnx", preprocessing=True).path))
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    normalised = onnx_engine.to_planes(crops).transpose(0, 2, 3, 1) / np.float32(127.5) - 1
    np.testing.assert_array_equal(onnx_engine.to_crops(normalised, exact.card.preprocessing), crops)
    np.testing.assert_allclose(runner(normalised), exact.logits(list(crops)), atol=1e-5)
    for wrong in (normalised + 0.001, normalised + 2):
        with pytest.raises(InvalidOption, match="takes pictures of 8 bits"):
            runner(wrong)


def test_sessions_leave_the_host_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share the processors, are not pinned, and sleep while there is nothing to do."""
    opened: list[Any] = []
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *args, **options: opened.append(args[1]) or session(*args, **options)
    )
    monkeypatch.setattr(onnx_engine, "count_processors", lambda: 4)
    runner = OnnxRunner(read_onnx(path))
    runner(pixels(), lanes=runner.begin(8))
    assert [options.intra_op_num_threads for options in opened] == [4, 1]
    assert {options.get_session_config_entry("session.intra_op.allow_spinning") for options in opened} == {"0"}


def test_devices_are_those_of_this_onnxruntime(runner: OnnxRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cpu" in list_devices() and runner.device == "cpu"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for device, message in {
        "cuda": r"no device 'cuda' here: this onnxruntime was built for cpu; install onnxruntime-gpu",
        "directml": "install onnxruntime-directml",
        "coreml": "install onnxruntime on macOS",
        "mps": "no device 'mps' for an ONNX file; expected 'auto' or one of cpu, cuda, coreml, directml",
        "cuda:x": "no device 'cuda:x'",
    }.items():
        with pytest.raises(InvalidOption, match=message):
            runner.to(device)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(onnx_engine.PROVIDERS.values()))
    with pytest.raises((InvalidOption, WeightsMismatch), match=r"cuda|CUDA"):  # built for, but not there
        runner.to("cuda:1")
    assert np.isfinite(runner(pixels())).all()


def test_options_of_a_file_cannot_be_changed(runner: OnnxRunner) -> None:
    runner.to(dtype="float32")
    with pytest.raises(InvalidOption, match=r"computes in float32; export the detector with dtype='float16'"):
        runner.to(dtype="float16")
    with pytest.raises(InvalidOption, match=r"backend is 'openvino', but .* is an ONNX file"):
        runner.to(backend="openvino")


def of_stranger(kind: str = "Identity", *, shape: list[Any] | None = None, output: str = "logit") -> OnnxFile:
    """Make a sealed file with a card whose graph is not that of a detector."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape or ["batch", 3, 64, 64])
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(kind, ["pixels"], [output])], "other", [pixels], [result])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return parse_onnx(to_bytes(proto, card=CARD, dtype="float32", input_kind="pixels"), path=Path("other.onnx"))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (lambda: of_stranger("NoSuchOperator"), r"onnxruntime .* cannot run other\.onnx: .*NoSuchOperator"),
        (lambda: of_stranger(shape=["batch", 3, 32, 32]), r"takes .*32, 32.* expected .*64, 64"),
        (lambda: of_stranger(output="score"), r"gives \['score'\], expected .* a logit"),
        (lambda: of_stranger(), r"gives float32 \[5, 3, 64, 64\], expected a logit for each of 5"),
        (lambda: replace(of_stranger(), input="crops"), "expected .*crops"),
    ],
)
def test_a_graph_of_a_stranger_is_refused(file: Callable[[], OnnxFile], message: str) -> None:
    with pytest.raises(WeightsMismatch, match=message):
        OnnxSessions(file())(pixels())


def test_what_needs_torch_is_refused(runner: OnnxRunner) -> None:
    with pytest.raises(BackendUnavailable, match=r"explain, fine_tune.*Detector.from_pretrained\('small@0'\)"):
        _ = runner.model


def test_onnxruntime_may_be_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[onnx\]'"):
        OnnxRunner(read_onnx(path))


@pytest.fixture
def detector(path: Path) -> Detector:
    return Detector.from_pretrained(path)


def test_a_detector_of_a_file_gives_the_same_verdicts(detector: Detector, exact: Detector) -> None:
    """Faces, scores, labels, the uncertain band: of one picture, of several, without a face, and as a whole."""
    pictures = [portrait(), group(3), empty_scene()]
    for mine, theirs in zip(detector.predict_many(pictures), exact.predict_many(pictures), strict=True):
        assert (mine.label, len(mine.faces), mine.threshold) == (theirs.label, len(theirs.faces), 0.6)
        assert [face.logit for face in mine.faces] == pytest.approx([face.logit for face in theirs.faces], abs=1e-5)
        assert [face.label for face in mine.faces] == [face.label for face in theirs.faces]
    single = detector.predict(portrait(), faces="none", threshold=0.2)
    assert single.score == pytest.approx(exact.predict(portrait(), faces="none").score, abs=1e-6)
    assert (single.backend, single.dtype, single.model) == ("onnxruntime", "float32", "small@0")
    assert repr(detector) == "Detector('small@0', device='cpu', dtype='float32')"
    assert detector.history == () and str(detector.device) == "cpu"


def test_a_detector_of_a_file_measures_and_calibrates(detector: Detector, exact: Detector, tmp_path: Path) -> None:
    data = [(portrait() // (number + 1), "fake" if number % 2 else "real") for number in range(4)]
    assert detector.evaluate(data).auc == exact.evaluate(data).auc
    mine, theirs = (each.stability(portrait(), faces="none") for each in (detector, exact))
    assert (mine.label, mine.interval) == (theirs.label, pytest.approx(theirs.interval, abs=1e-5))
    for copied in (copy.copy(detector), copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert copied.predict(portrait()).score == detector.predict(portrait()).score


def test_a_calibrated_file_can_be_exported_again(detector: Detector, tmp_path: Path) -> None:
    data = [(portrait() // (number + 1), "fake" if number % 2 else "real") for number in range(4)]
    calibrated = detector.calibrate(data)
    assert calibrated.card.temperature != detector.card.temperature
    report = calibrated.export(tmp_path / "calibrated.onnx")
    again = Detector.from_pretrained(report.path)
    assert again.card == calibrated.card and report.logit_difference is None
    session = onnxruntime.InferenceSession(report.path.read_bytes(), providers=["CPUExecutionProvider"])
    crop = onnx_engine.to_planes(pixels(1))
    logit, score = session.run(None, {"pixels": crop})
    expected = 1 / (1 + np.exp(-(logit / calibrated.card.temperature + calibrated.card.bias)))
    np.testing.assert_allclose(score, expected, atol=1e-6)
    with pytest.raises(InvalidOption, match=r"dtype='float32' and preprocessing=False"):
        detector.export(tmp_path / "half.onnx", dtype="float16")


def test_what_a_file_cannot_do_is_refused_by_name(detector: Detector, tmp_path: Path) -> None:
    data = [(portrait(), "real")]
    for call in (
        lambda: detector.explain(PORTRAIT),
        lambda: detector.explain(PORTRAIT, method="occlusion"),
        lambda: detector.fine_tune(data),
        lambda: detector.find_rate(data),
        lambda: detector.summary(),
        lambda: detector.save_pretrained(tmp_path),
        lambda: detector.push_to_hub("owner/name"),
    ):
        with pytest.raises(BackendUnavailable, match=r"load those that it was exported from"):
            call()


def test_a_case_is_verified_with_the_file(detector: Detector, path: Path, tmp_path: Path) -> None:
    detector.predict(PORTRAIT).save(tmp_path / "case.json")
    verification = verify(tmp_path / "case.json", PORTRAIT, model=path)
    assert verification.ok and verification.prediction is not None
    assert verification.prediction.backend == "onnxruntime"


def test_a_verdict_does_not_load_torch(path: Path) -> None:
    """Nor onnx, which only exports."""
    code = """
import sys
from deepfake_detect import Detector
detector = Detector.from_pretrained(sys.argv[1])
predictions = [detector.predict(sys.argv[2]), *detector.predict([sys.argv[2]] * 2)]
loaded = {"torch", "onnx", "timm", "openvino"} & set(sys.modules)
print(len({prediction.score for prediction in predictions}), *sorted(loaded))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(PORTRAIT)], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("1", "")
