"""Test the detector as a whole: names to weights, pictures to verdicts, weights to folders and back."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepfake_detect import (
    Card,
    Detector,
    ImageUnreadable,
    Preprocessing,
    UnknownWeights,
    create_model,
    list_pretrained,
)
from deepfake_detect import detector as detector_room
from deepfake_detect.faces.crop import crop_face
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.predict import predictor as predictor_room
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.load import load_model
from tests.hub_server import serving
from tests.small_world import CARD, PORTRAIT, empty_scene, group, portrait, small_bundle, small_detector, small_model


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small_detector()


@pytest.fixture(scope="module")
def mixed() -> list[np.ndarray]:
    """Give pictures with 1, 4, 0, 2 and 1 faces, each another picture."""
    return [portrait(), group(4), empty_scene(), group(2), portrait()[:, ::-1]]


def logits(prediction: Any) -> list[float]:
    return [face.logit for face in prediction.faces]


def test_the_verdict_is_the_model_s_on_the_crop(detector: Detector) -> None:
    (face,) = FaceFinder().find(portrait())
    crop = crop_face(portrait(), face.box_xyxy, margin=1.3, size_px=64)
    with torch.no_grad():
        expected = float(small_model()(to_batch([crop], preprocessing=CARD.preprocessing))[0])
    prediction = detector.predict(PORTRAIT)
    assert prediction.logit == pytest.approx(expected, abs=1e-5)
    assert prediction.score == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-5)
    assert prediction.faces[0].box_xyxy == face.box_xyxy
    assert (prediction.name, prediction.model, prediction.revision, prediction.size_hw) == (
        str(PORTRAIT),
        "small@0",
        None,
        (512, 512),
    )
    assert prediction.seconds > 0
    assert (prediction.backend, prediction.dtype) == ("torch-packed", "float32")


def test_every_form_of_a_picture_scores_the_same(detector: Detector) -> None:
    pixels = portrait()
    forms = [
        str(PORTRAIT),
        PORTRAIT,
        PORTRAIT.read_bytes(),
        io.BytesIO(PORTRAIT.read_bytes()),
        Image.open(PORTRAIT),
        pixels,
        torch.from_numpy(pixels.copy()).permute(2, 0, 1),
    ]
    predictions = list(detector.predict_many(forms, workers=2))
    assert [prediction.logit for prediction in predictions] == pytest.approx(
        [predictions[0].logit] * len(forms), abs=1e-5
    )
    assert predictions[3].source == PORTRAIT.read_bytes()
    assert predictions[3].plot().size == (512, 512)


def test_predict_many_gives_what_predict_gives(detector: Detector, mixed: list[np.ndarray]) -> None:
    alone = [detector.predict(picture) for picture in mixed]
    assert [len(prediction.faces) for prediction in alone] == [1, 4, 0, 2, 1]
    for batch_size, workers in itertools.product((1, 3, 64), (0, 2)):
        together = list(detector.predict_many(iter(mixed), batch_size=batch_size, workers=workers))
        assert [p.label for p in together] == [p.label for p in alone]
        assert np.concatenate([logits(p) for p in together]) == pytest.approx(
            np.concatenate([logits(p) for p in alone]), abs=1e-5
        )


@pytest.mark.parametrize("name", list_pretrained())
def test_packaged_weights_score_a_batch_like_its_rows(name: str, mixed: list[np.ndarray]) -> None:
    detector = Detector.from_pretrained(name, device="cpu")
    alone = [logits(detector.predict(picture)) for picture in mixed]
    together = [logits(prediction) for prediction in detector.predict_many(mixed, batch_size=16)]
    assert np.concatenate(together) == pytest.approx(np.concatenate(alone), abs=1e-5)


def test_faces_and_threshold_reach_the_rooms_below(detector: Detector) -> None:
    assert len(detector.predict(group(3), faces="largest").faces) == 1
    assert detector.predict(empty_scene()).label == "no-face"
    whole = detector.predict(empty_scene(), faces="none")
    assert [face.box_xyxy for face in whole.faces] == [(0, 0, 160, 120)]
    assert whole.score is not None
    assert detector.predict(PORTRAIT, threshold=0.0).label == "fake"
    assert detector.predict(PORTRAIT, threshold=1.0).label == "real"


def test_the_card_s_words_count() -> None:
    prediction = small_detector(threshold=0.01).predict(PORTRAIT)
    assert (prediction.label, prediction.threshold) == ("fake", 0.01)
    unsure = small_detector(uncertain=(0.0, 1.0))
    assert unsure.predict(PORTRAIT).label == "uncertain"
    assert unsure.predict(PORTRAIT, threshold=0.99).label == "real"


def test_the_card_s_face_finder_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = []

    class Watched(FaceFinder):
        def __init__(self, model: Any = None, **options: Any) -> None:
            wanted.append((model, options.get("local_files_only")))
            super().__init__()

    monkeypatch.setattr(predictor_room, "FaceFinder", Watched)
    own = small_detector(preprocessing=replace(CARD.preprocessing, finder="hf://someone/finder/other.onnx"))
    own.predict(PORTRAIT, faces="none")
    assert wanted == []
    own.predict(PORTRAIT)
    own.predict(PORTRAIT)
    small_detector().predict(PORTRAIT)
    assert wanted == [("hf://someone/finder/other.onnx", True), (None, True)]


def test_several_threads_at_once(detector: Detector, mixed: list[np.ndarray]) -> None:
    expected = [logits(detector.predict(picture)) for picture in mixed]

    def work(turn: int) -> None:
        if turn % 2:
            found = [logits(prediction) for prediction in detector.predict_many(mixed, batch_size=3, workers=2)]
        else:
            found = [logits(detector.predict(picture)) for picture in mixed]
        assert np.concatenate(found) == pytest.approx(np.concatenate(expected), abs=1e-5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))


def test_asyncio_stays_awake_while_pictures_are_scored(detector: Detector, mixed: list[np.ndarray]) -> None:
    expected = [logits(detector.predict(picture)) for picture in mixed]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def main() -> list[Any]:
        ticking = asyncio.create_task(tick())
        predictions = await asyncio.gather(*(asyncio.to_thread(detector.predict, picture) for picture in mixed))
        ticking.cancel()
        return predictions

    found = asyncio.run(main())
    assert ticks > len(mixed)
    assert np.concatenate([logits(p) for p in found]) == pytest.approx(np.concatenate(expected), abs=1e-5)


QUIET = """
import sys
if sys.argv[1] == "closed":
    sys.stdout = sys.stderr = None
from deepfake_detect import Detector
detector = Detector.from_pretrained("meso4-fakefaces", device="cpu")
assert detector.predict(sys.argv[2]).score is not None
labels = [p.label for p in detector.predict_many([sys.argv[2], "missing.jpg"] * 4, on_error="yield", progress=True)]
sys.exit(labels.count("error") != 4)
"""


@pytest.mark.parametrize("streams", ["closed", "redirected"])
def test_nothing_is_needed_of_stderr_and_nothing_written_to_it(streams: str) -> None:
    """A window program has no stderr (``pythonw``); a service redirects it, and wants no bar in its log."""
    done = subprocess.run([sys.executable, "-c", QUIET, streams, str(PORTRAIT)], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_bar_ends_when_the_generator_is_closed(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    predictions = detector.predict_many(itertools.repeat(PORTRAIT), progress=True)
    assert next(predictions).label == "real"
    assert "predict" in terminal.getvalue()
    predictions.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deepfake-detect")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"faces": "every"}, "faces is 'every'"),
        ({"threshold": 50}, "threshold is 50"),
        ({"on_error": "ignore"}, "expected 'raise' or 'yield'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_wrong_options_are_told_at_once(detector: Detector, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        detector.predict_many([], **options)


def test_a_bad_picture(detector: Detector, tmp_path: Path) -> None:
    images = [PORTRAIT, tmp_path / "missing.jpg", PORTRAIT]
    labels = [prediction.label for prediction in detector.predict_many(images, on_error="yield")]
    assert labels == ["real", "error", "real"]
    with pytest.raises(ImageUnreadable, match=r"missing\.jpg"):
        list(detector.predict_many(images))


def test_from_pretrained_asks_as_it_was_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}
    bundle = replace(find_bundle(small_bundle(tmp_path)), revision="0123abc")

    def find(name: str, **options: Any) -> Any:
        asked.update(options, name=name)
        return bundle

    monkeypatch.setattr(detector_room, "find_weights", find)
    options = {"cache_dir": "c", "force_download": True, "token": "t", "local_files_only": False, "revision": "r"}
    detector = Detector.from_pretrained("owner/name", device="cpu", **options)  # type: ignore[arg-type]
    assert asked == {"name": "owner/name", **options}
    assert detector.revision == "0123abc"
    assert detector.predict(PORTRAIT).revision == "0123abc"


@pytest.mark.parametrize("half", [False, True])
def test_what_is_saved_scores_the_same_to_the_bit(tmp_path: Path, half: bool, mixed: list[np.ndarray]) -> None:
    model = small_model()
    if half:
        with torch.no_grad():
            for value in model.state_dict().values():
                value.copy_(value.half())
    saved = Detector(model=model, card=replace(CARD, temperature=1.7, uncertain=(0.4, 0.6)), device="cpu")
    card = saved.save_pretrained(tmp_path / "mine")
    again = Detector.from_pretrained(tmp_path / "mine", device="cpu")
    assert again.card == card == replace(saved.card, sha256=card.sha256, library_version=card.library_version)
    for picture in mixed:
        assert logits(again.predict(picture)) == logits(saved.predict(picture))
        assert again.predict(picture).score == saved.predict(picture).score
    size = (tmp_path / "mine" / "model.safetensors").stat().st_size
    count = sum(value.numel() for value in model.state_dict().values())
    assert size > 4 * count if not half else size < 4 * count


@pytest.mark.parametrize("name", list_pretrained())
def test_packaged_weights_are_saved_as_they_are(name: str, tmp_path: Path) -> None:
    bundle, detector = find_bundle(name), Detector.from_pretrained(name, device="cpu")
    detector.save_pretrained(tmp_path)
    packaged = load_model(bundle).state_dict()
    for key, value in load_model(tmp_path).state_dict().items():
        assert torch.equal(value, packaged[key])
    assert (tmp_path / "model.safetensors").stat().st_size <= (bundle.folder / "model.safetensors").stat().st_size


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client, by the client
def test_push_and_pull_through_the_hub_s_own_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detector: Detector
) -> None:
    with serving(monkeypatch, tmp_path) as hub:
        address = detector.push_to_hub("me/mine", private=True, commit_message="First", token="hf_secret")
        repo = hub.repos["me/mine"]
        commit = repo.refs["main"]
        assert commit in address
        assert repo.private
        assert set(repo.commits[commit]) >= {"card.json", "model.safetensors", "README.md"}
        assert json.loads(repo.commits[commit]["card.json"])["name"] == "small"
        assert b'from_pretrained("me/mine")' in repo.commits[commit]["README.md"]
        again = Detector.from_pretrained(f"me/mine@{commit}", device="cpu", token="hf_secret")
    assert again.revision == commit
    assert again.predict(PORTRAIT).logit == detector.predict(PORTRAIT).logit


def test_devices_and_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    detector = Detector(model=small_model(), card=CARD)
    assert (detector.device, detector.dtype) == (torch.device("cpu"), torch.float32)
    assert repr(detector) == "Detector('small@0', device='cpu', dtype='float32')"
    exact = detector.predict(PORTRAIT).logit
    assert detector.to("cpu", dtype="bfloat16") is detector
    assert detector.dtype == torch.bfloat16
    assert detector.to("cpu").dtype == torch.bfloat16
    rough = detector.predict(PORTRAIT).logit
    assert rough != exact
    assert rough == pytest.approx(exact, abs=0.2)
    assert detector.to("cpu", dtype=torch.float32).predict(PORTRAIT).logit == exact


def test_auto_prefers_cuda_then_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *where, **_: moved.extend(where) or self)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for cuda, device, dtype in ((True, "cuda", torch.float16), (False, "mps", torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        detector = Detector(model=small_model(), card=CARD)
        assert (detector.device.type, detector.dtype) == (device, dtype)
        assert moved[-1] == torch.device(device)


@pytest.mark.parametrize(
    ("device", "dtype", "words"), [("toaster", "auto", "no device 'toaster'"), ("cpu", "int8", "dtype is 'int8'")]
)
def test_unknown_devices_and_dtypes(device: str, dtype: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Detector(model=small_model(), card=CARD, device=device, dtype=dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without cuda")
def test_no_cuda_is_told_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="use device='auto' or device='cpu'"):
        Detector(model=small_model(), card=CARD, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs cuda")
def test_cuda_agrees_with_the_cpu(mixed: list[np.ndarray]) -> None:
    for dtype, tolerance in (("float32", 1e-3), ("float16", 0.05)):
        there = Detector(model=small_model(), card=CARD, device="cuda", dtype=dtype)
        for picture in mixed:
            assert logits(there.predict(picture)) == pytest.approx(
                logits(small_detector().predict(picture)), abs=tolerance
            )


def test_the_model_stands_in_eval_mode() -> None:
    model = create_model("cnn6-dropout", seed=0).train()
    card = Card(name="drop", version=0, architecture="cnn6-dropout", preprocessing=Preprocessing(size_px=224))
    detector = Detector(model=model, card=card, device="cpu")
    assert detector.predict(PORTRAIT).logit == detector.predict(PORTRAIT).logit


def test_an_unknown_name_offers_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownWeights):
        Detector.from_pretrained("meso4-fakefacez")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownWeights):
        Detector.from_pretrained(pathlib.Path("nowhere"))
    assert os.listdir(tmp_path) == []
