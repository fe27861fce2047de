"""Test that each bad input is a named error with advice, in Python and on the command line, and leaves no files."""

from __future__ import annotations

import errno
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.file_download
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from deepfake_detect import (
    DeepfakeDetectError,
    Detector,
    HubUnavailable,
    ImageTooLarge,
    ImageUnreadable,
    UnknownModel,
    UnknownWeights,
    WeightsCorrupted,
    WeightsMismatch,
    create_model,
    find_faces,
)
from deepfake_detect.cli.main import main
from deepfake_detect.weights import bundle as bundle_room
from tests.hub_server import HubServer, serving
from tests.small_world import PORTRAIT, small_bundle, small_detector


def header_of(width: int, height: int) -> bytes:
    """Give a PNG that promises a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Bad:
    """A picture that cannot be scored: what lies there, and what is to be said of it."""

    name: str
    content: bytes | None
    error: type[DeepfakeDetectError]
    words: tuple[str, ...]


BAD = [
    Bad("nowhere.jpg", None, ImageUnreadable, ("nowhere.jpg", "no such file")),
    Bad("empty.jpg", b"", ImageUnreadable, ("empty.jpg", "0 bytes", "expected a picture")),
    Bad("text.jpg", b"Dear Sir or Madam", ImageUnreadable, ("text.jpg", 'looks like text: "Dear Sir', "JPEG")),
    Bad("page.png", b"<!DOCTYPE html><html>", ImageUnreadable, ("page.png", "an HTML page")),
    Bad("cut.jpg", PORTRAIT.read_bytes()[:30000], ImageUnreadable, ("cut.jpg", "truncated", "512 x 512")),
    Bad(
        "huge.png",
        header_of(40_000, 40_000),
        ImageTooLarge,
        ("huge.png", "40,000 x 40,000", "make the picture smaller"),
    ),
    Bad("hollow.png", header_of(4_000, 4_000), ImageUnreadable, ("hollow.png", "4000 x 4000", "get a whole copy")),
]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small_detector()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with serving(monkeypatch, tmp_path / "home") as server:
        yield server


def place(bad: Bad, folder: Path) -> Path:
    if bad.content is not None:
        (folder / bad.name).write_bytes(bad.content)
    return folder / bad.name


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_picture_in_python(bad: Bad, detector: Detector, tmp_path: Path) -> None:
    path = place(bad, tmp_path)
    asked: list[Callable[[], Any]] = [
        lambda: detector.predict(path),
        lambda: detector.predict(path, faces="none"),
        lambda: list(detector.predict_many([PORTRAIT, path])),
        lambda: find_faces(path),
    ]
    for ask in asked:
        with pytest.raises(bad.error) as raised:
            ask()
        assert isinstance(raised.value, ValueError)
        for words in bad.words:
            assert words in str(raised.value)
    labels = [prediction.label for prediction in detector.predict_many([path, PORTRAIT], on_error="yield")]
    assert labels == ["error", detector.predict(PORTRAIT).label]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_picture_on_the_command_line(bad: Bad, bundle: Path, tmp_path: Path) -> None:
    path, out = place(bad, tmp_path), tmp_path / "out"
    result = run("predict", path, PORTRAIT, "--model", bundle, "--json", "--save", out)
    failed, scored = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (failed["label"], failed["score"], failed["error"]["type"]) == ("error", None, bad.error.__name__)
    assert scored["score"] is not None
    for words in bad.words:
        assert words in failed["error"]["message"]
        assert words in result.stderr
    assert sorted(path.name for path in out.iterdir()) == ["portrait.json", "portrait.png"]
    assert run("faces", path).exit_code == 1


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "1"])
def test_a_single_pixel_is_a_picture_without_a_face(
    mode: str, detector: Detector, bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "dot.png"
    Image.new(mode, (1, 1)).save(path)
    prediction = detector.predict(path)
    assert (prediction.label, prediction.score, prediction.size_hw) == ("no-face", None, (1, 1))
    assert detector.predict(path, faces="none").score is not None
    assert run("predict", path, "--model", bundle).exit_code == 0


@pytest.mark.parametrize("shape", [(1, 3000, 3), (3000, 1, 3), (2, 2, 3), (1, 1)])
def test_odd_shapes_are_no_reason_to_fail(shape: tuple[int, ...], detector: Detector) -> None:
    assert detector.predict(np.zeros(shape, np.uint8)).label == "no-face"
    assert detector.predict(np.zeros(shape, np.uint8), faces="none").score is not None


def test_an_unknown_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle_room, "PRETRAINED", tmp_path / "pretrained")
    small_bundle(tmp_path / "pretrained" / "xception-fakefaces@0", name="xception-fakefaces")
    with pytest.raises(UnknownWeights, match="'xception-fakeface'; did you mean 'xception-fakefaces'") as raised:
        Detector.from_pretrained("xception-fakeface")
    assert isinstance(raised.value, KeyError)
    with pytest.raises(UnknownModel, match="did you mean 'xception'"):
        create_model("xeption")
    result = run("predict", PORTRAIT, "--model", "xception-fakeface", "--save", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean 'xception-fakefaces'" in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("place_in_file", [0.02, 0.5, 0.999])
def test_flipped_bytes_in_the_weights(place_in_file: float, tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "mine") / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[int(place_in_file * len(content))] ^= 0x10
    path.write_bytes(content)
    check_bundle(tmp_path / "mine", WeightsCorrupted, "sha256", "copy the folder again")


def test_weights_cut_short(tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "mine") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    check_bundle(tmp_path / "mine", WeightsCorrupted, "1,000 bytes", "copy the folder again")


def test_a_card_from_the_future(tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "mine") / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99, "novelty": True}))
    check_bundle(tmp_path / "mine", WeightsMismatch, "schema 99", "pip install --upgrade deepfake-detect")


def check_bundle(folder: Path, error: type[DeepfakeDetectError], *words: str) -> None:
    """See a bundle refused both ways, and left as it is."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(error) as raised:
        Detector.from_pretrained(folder)
    result = run("predict", PORTRAIT, "--model", folder, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert error.__name__ in result.stderr
    for word in words:
        assert word in str(raised.value)
        assert word in result.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_under_the_cache(
    hub: HubServer, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    hub.commit("owner/name", files)
    whole = huggingface_hub.file_download.http_get

    def fill(url: str, temp_file: object, **options: object) -> None:
        whole(url, temp_file, **options)
        if "/blobs/" in url:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", fill)
    check_hub(HubUnavailable, "no disk space is left in the cache", "cache_dir=")
    assert not list(tmp_path.rglob("*.safetensors"))
    monkeypatch.setattr(huggingface_hub.file_download, "http_get", whole)
    assert Detector.from_pretrained("owner/name", device="cpu").card.name == "small"  # what was left does no harm


def test_offline_with_nothing_cached(hub: HubServer, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("owner/name", {path.name: path.read_bytes() for path in bundle.iterdir()})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    check_hub(HubUnavailable, "HF_HUB_OFFLINE is set", "run once with a network")
    assert not hub.requests
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    detector = Detector.from_pretrained("owner/name", device="cpu")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    again = Detector.from_pretrained("owner/name", device="cpu")
    assert again.predict(PORTRAIT).logit == detector.predict(PORTRAIT).logit
    assert run("predict", PORTRAIT, "--model", "owner/name").exit_code == 0


def check_hub(error: type[DeepfakeDetectError], *words: str) -> None:
    """See a repository refused both ways."""
    with pytest.raises(error) as raised:
        Detector.from_pretrained("owner/name")
    result = run("predict", PORTRAIT, "--model", "owner/name", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    for word in words:
        assert word in str(raised.value)
        assert word in result.stderr


def test_a_full_disk_while_saving(detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("deepfake_detect.weights.load.flush_to_disk", full)
    with pytest.raises(OSError, match="No space left"):
        detector.save_pretrained(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
