"""Does the client give what a detector gives, for every kind of picture, and the library's own errors?"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image

import deepfake_detect as dd
from deepfake_detect.detector import Detector
from deepfake_detect.errors import (
    ImageTooLarge,
    ImageUnreadable,
    InvalidOption,
    MissingExtra,
    ServerUnavailable,
    UnknownWeights,
)
from deepfake_detect.serve import client as client_module
from deepfake_detect.serve.client import AsyncClient, Client
from deepfake_detect.serve.results import prediction_from_dict, video_from_dict
from deepfake_detect.serve.settings import Limits
from tests.inputs.test_frames import write_pictures
from tests.serve.in_process import InProcess, server
from tests.small_world import PORTRAIT, empty_scene, group, portrait, small_detector

URL = "http://localhost"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small_detector(uncertain=(0.2, 0.3))


@pytest.fixture(scope="module")
def transport(detector: Detector) -> Iterator[InProcess]:
    with server({"small": detector}, limits=Limits(pixels=2_000_000)) as (_, _, transport):
        yield transport


@pytest.fixture
def client(transport: InProcess) -> Iterator[Client]:
    with dd.Client(URL, transport=transport) as client:
        yield client


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", made.append)
    return made


def same(first: Any, second: Any) -> bool:
    """Compare two results by all but the time they took."""
    return {**first.to_dict(), "seconds": 0} == {**second.to_dict(), "seconds": 0}


INPUTS: dict[str, Callable[[], Any]] = {
    "path": lambda: PORTRAIT,
    "text": lambda: str(PORTRAIT),
    "bytes": PORTRAIT.read_bytes,
    "file": lambda: io.BytesIO(PORTRAIT.read_bytes()),
    "data URI": lambda: "data:image/jpeg;base64," + __import__("base64").b64encode(PORTRAIT.read_bytes()).decode(),
    "array": portrait,
    "grey array": lambda: portrait()[..., 0],
    "tensor": lambda: torch.from_numpy(portrait().copy()).permute(2, 0, 1),
    "PIL file": lambda: Image.open(PORTRAIT),
    "PIL image": lambda: Image.fromarray(portrait()).convert("RGBA"),
    "no face": empty_scene,
    "group": lambda: group(2),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_a_picture_is_scored_as_by_the_detector(client: Client, detector: Detector, kind: str) -> None:
    said, expected = client.predict(INPUTS[kind]()), detector.predict(INPUTS[kind]())
    assert same(said, expected), (said.to_dict(), expected.to_dict())
    assert np.array_equal(np.asarray(said.plot()), np.asarray(expected.plot()))


def test_options_and_lists(client: Client, detector: Detector) -> None:
    options: dict[str, Any] = {"faces": "none", "threshold": 0.9}
    assert same(client(PORTRAIT, **options), detector(PORTRAIT, **options))
    said = client.predict([PORTRAIT, empty_scene()])
    assert isinstance(said, list) and [one.label for one in said] == [detector(PORTRAIT).label, "no-face"]
    assert said.to_rows()[0]["name"] == str(PORTRAIT)


def test_many_pictures_come_in_order_with_errors_in_their_places(client: Client, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    images = [PORTRAIT, tmp_path / "gone.jpg", notes, np.zeros((1500, 1500, 3), np.uint8), empty_scene()]
    for batch_size in (1, 2, 5):
        said = list(client.predict_many(iter(images), batch_size=batch_size, on_error="yield"))
        assert [one.label == "error" for one in said] == [False, True, True, True, False]
        assert [type(one.error) for one in said[1:4]] == [ImageUnreadable, ImageUnreadable, ImageTooLarge]
        assert [one.name for one in said[:3]] == [str(PORTRAIT), str(tmp_path / "gone.jpg"), str(notes)]
        assert {one.model for one in said} == {"small@0"} and {one.threshold for one in said} == {0.5}
    some = client.predict_many(images, batch_size=2)
    assert next(some).name == str(PORTRAIT)
    with pytest.raises(ImageUnreadable, match=r"gone\.jpg: no such file"):
        next(some)


def test_errors_are_those_of_the_library(client: Client, transport: InProcess) -> None:
    with pytest.raises(ImageUnreadable, match="looks like text"):
        client.predict(b"hello there")
    with pytest.raises(ImageUnreadable, match="looks like text"):
        client.predict([PORTRAIT, b"hello there"])
    with pytest.raises(InvalidOption, match="faces: Input should be 'auto'"):
        client.predict(PORTRAIT, faces="some")  # type: ignore[call-overload]
    with pytest.raises(UnknownWeights, match="no model called 'smal'"):
        Client(URL, transport=transport, model="smal").predict(PORTRAIT)
    with pytest.raises(ImageUnreadable, match="No such file"):
        client.predict_video("gone.mp4")


def test_explanation_stability_metadata_and_models(client: Client, detector: Detector) -> None:
    said, expected = client.stability(PORTRAIT, faces="none"), detector.stability(PORTRAIT, faces="none")
    assert said.scores == pytest.approx(expected.scores, abs=1e-5) and said.flips == expected.flips
    assert set(said.to_dict()) == set(expected.to_dict())
    findings = client.inspect_metadata(PORTRAIT)
    assert findings.to_dict() == dd.inspect_metadata(PORTRAIT).to_dict()
    assert client.explain(PORTRAIT, faithfulness="off")["name"] == str(PORTRAIT)
    assert client.plot_explanation(PORTRAIT, faithfulness="off").width > 500
    assert [model["id"] for model in client.models()] == ["small@0"]


def test_a_video_is_scored_as_by_the_detector(
    client: Client, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_POLL_S", 0.02)
    path = tmp_path / "clip.mp4"
    write_pictures(path, [group(1)[:240, :220]] * 6)
    said, expected = client.predict_video(path, max_frames=3), detector.predict_video(path, max_frames=3)
    assert same(said, expected) and len(said.frames) == 3
    assert same(video_from_dict(expected.to_dict()), expected)


def test_a_failed_prediction_survives_the_way_through_json(detector: Detector) -> None:
    (failed,) = detector.predict_many([b"hello there"], on_error="yield")
    assert prediction_from_dict(failed.to_dict()).to_dict() == failed.to_dict()


def test_a_busy_server_is_asked_again_after_the_time_it_says(pauses: list[float]) -> None:
    answers = [
        httpx2.Response(503, headers={"Retry-After": "3"}),
        httpx2.Response(503, text="busy"),
        httpx2.ConnectError("refused"),
        httpx2.Response(200, json={"models": []}),
    ]

    def answer(request: httpx2.Request) -> httpx2.Response:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    assert Client(URL, transport=httpx2.MockTransport(answer)).models() == []
    assert pauses == [3.0, 0.5, 1.0] and not answers


def test_a_server_that_stays_busy_or_is_none_is_named(pauses: list[float]) -> None:
    busy = {"error": {"type": "QueueFull", "message": "128 pictures are waiting"}}
    client = Client(URL, retries=2, transport=httpx2.MockTransport(lambda _: httpx2.Response(503, json=busy)))
    with pytest.raises(ServerUnavailable, match=r"http://localhost is busy \(128 pictures are waiting\), 3 times"):
        client.predict(PORTRAIT)
    assert pauses == [0.25, 0.5]
    for status, text in ((401, "no valid API key"), (500, "the server failed")):
        content = {"error": {"type": "Unauthorized", "message": text}}
        answer = httpx2.Response(status, json=content)
        with pytest.raises(ServerUnavailable, match=text):
            Client(URL, transport=httpx2.MockTransport(lambda _, answer=answer: answer)).models()
    with pytest.raises(ServerUnavailable, match="answered 404 Not Found; is it one of deepfake-detect"):
        Client(URL, transport=httpx2.MockTransport(lambda _: httpx2.Response(404, text="<html>"))).models()
    with pytest.raises(ServerUnavailable, match=r"cannot be reached \(ConnectError"):
        Client("http://127.0.0.1:1", retries=0).models()


def test_the_key_is_sent() -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("authorization"))
        return httpx2.Response(200, json={"models": []})

    Client(URL, key="secret", transport=httpx2.MockTransport(answer)).models()
    assert asked == ["Bearer secret"]


def test_the_asynchronous_client_gives_the_same(transport: InProcess, detector: Detector) -> None:
    async def ask() -> list[Any]:
        inner = httpx2.ASGITransport(transport.app)
        async with dd.AsyncClient(URL, transport=inner) as client:
            several = await asyncio.gather(*(client.predict(PORTRAIT) for _ in range(3)))
            listed = await client.predict([empty_scene()])
            with pytest.raises(ImageUnreadable):
                await client.predict(b"hello there")
            return [*several, *listed, await client.inspect_metadata(PORTRAIT)]

    first, *rest, empty, findings = transport.run(ask())
    expected = detector.predict(PORTRAIT)
    assert all(same(one, expected) for one in (first, *rest)) and empty.label == "no-face"
    assert findings.format == "JPEG"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx2", None)
    for kind in (Client, AsyncClient):
        with pytest.raises(MissingExtra, match=r"pip install 'deepfake-detect\[client\]'"):
            kind(URL)
