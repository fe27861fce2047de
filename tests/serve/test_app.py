"""Is every request answered in its place, with the library's own results and words, and every refusal in one form?"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from deepfake_detect.detector import Detector
from deepfake_detect.predict.content import Content
from deepfake_detect.serve import scorer
from deepfake_detect.serve.gate import JsonFormatter, access_log
from deepfake_detect.serve.schema import PredictionAnswer
from deepfake_detect.serve.service import Service
from deepfake_detect.serve.settings import Limits
from tests.serve.in_process import InProcess, server
from tests.small_world import PORTRAIT, empty_scene, small_detector

LIMITS = Limits(
    pictures=4, queue=8, pixels=300_000, picture_bytes=200_000, request_bytes=500_000, held_bytes=2_000_000, seconds=20
)
JPEG = PORTRAIT.read_bytes()
TEXT = b"hello there"


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def form(*contents: bytes, **fields: str) -> dict[str, Any]:
    return {
        "files": [("images", (f"{number}.jpg", content)) for number, content in enumerate(contents)],
        "data": fields,
    }


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small_detector()


@pytest.fixture(scope="module")
def running(detector: Detector) -> Iterator[tuple[httpx2.Client, Service, InProcess]]:
    with server({"small": detector, "other": small_detector(name="other")}, limits=LIMITS) as everything:
        yield everything


@pytest.fixture(scope="module")
def http(running: tuple[httpx2.Client, Service, InProcess]) -> httpx2.Client:
    return running[0]


@pytest.fixture
def service(running: tuple[httpx2.Client, Service, InProcess]) -> Service:
    return running[1]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def error_of(response: httpx2.Response) -> tuple[int, str, str]:
    """Check the form of a refusal, and return its status, type and message."""
    content = response.json()
    assert set(content) == {"error", "request_id"} and set(content["error"]) == {"type", "message"}
    assert response.headers["x-request-id"] == content["request_id"]
    return response.status_code, content["error"]["type"], content["error"]["message"]


def test_the_verdict_is_that_of_the_library(http: httpx2.Client, detector: Detector) -> None:
    answer = http.post("/v1/predict", **form(JPEG))
    assert answer.status_code == 200, answer.text
    (said,) = answer.json()["predictions"]
    expected = detector.predict(JPEG).to_dict()
    for values in (said, expected):
        assert values.pop("seconds") > 0
    assert said == {**expected, "name": "0.jpg"}
    assert set(PredictionAnswer.model_fields) == {*said, "seconds"}


def test_pictures_are_answered_in_their_places_and_a_bad_one_harms_none(
    http: httpx2.Client, detector: Detector
) -> None:
    answer = http.post("/v1/predict", **form(JPEG, TEXT, png(empty_scene()), JPEG, faces="all"))
    first, bad, empty, last = answer.json()["predictions"]
    assert (first["logit"], last["logit"]) == (detector.predict(JPEG, faces="all").logit,) * 2
    assert (bad["label"], bad["error"]["type"], empty["label"]) == ("error", "ImageUnreadable", "no-face")
    assert bad["error"]["message"].startswith('1.jpg: looks like text: "hello there"; expected a picture: JPEG')
    assert set(bad) == set(first)


def test_json_takes_files_in_base64_and_options(
    http: httpx2.Client, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows = Content(label="face", scores={"face": 1.0}, size_hw=(512, 512), model="c@1")
    monkeypatch.setattr(scorer, "classify_content", lambda source: shows if source == JPEG else None)
    images = [{"base64": as_base64(JPEG), "name": "a"}, {"base64": f"data:image/jpeg;base64,{as_base64(JPEG)}"}]
    images.append({"base64": "@@@@"})
    body = {"images": images, "faces": "none", "threshold": 0.99, "content": True, "model": "other@0"}
    first, second, bad = http.post("/v1/predict", json=body).json()["predictions"]
    expected = detector.predict(JPEG, faces="none", threshold=0.99).to_dict()
    assert first["score"] == second["score"] == expected["score"]
    assert (first["name"], second["name"]) == ("a", "<base64>")
    assert (first["threshold"], first["model"]) == (0.99, "other@0")
    assert first["content"] == {**shows.to_dict(), "size_hw": [512, 512]}
    assert bad["error"]["message"].startswith("<base64>: damaged base64")


@pytest.mark.parametrize(
    ("content", "status", "kind", "message"),
    [
        (TEXT, 422, "ImageUnreadable", "looks like text"),
        (b"", 422, "ImageUnreadable", "empty, 0 bytes"),
        (JPEG[:20_000], 422, "ImageUnreadable", "damaged or truncated JPEG"),
        (
            png(np.zeros((600, 600, 3), np.uint8)),
            413,
            "ImageTooLarge",
            "600 x 600 is 360,000 pixels, the limit is 300,000",
        ),
        (bytes(200_001), 413, "ImageTooLarge", "more than 200,000 bytes"),
    ],
    ids=["text", "empty", "half", "pixels", "bytes"],
)
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain", "/v1/stability"])
def test_a_single_bad_picture_is_refused(
    http: httpx2.Client, path: str, content: bytes, status: int, kind: str, message: str
) -> None:
    found = error_of(http.post(path, **form(content)))
    assert found[:2] == (status, kind) and message in found[2]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is no JSON"),
        (b"\xff\xfe", 400, "the body is no JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"images": [{"url": "http://e.org/"}], "threshold": NaN}', 400, "NaN is no JSON"),
        (b'{"images": [{"url": "http://e.org/"}], "threshold": 1e999}', 400, "1e999 is out of range"),
        (b'{"images": [], "images": []}', 400, "an object has a name twice"),
        (b'{"threshold": ' + b"9" * 5000 + b"}", 400, "the body is no JSON"),
        (b"[]", 400, "the request: Input should be"),
        (b'{"images": []}', 400, "images: List should have at least 1 item"),
        (b'{"images": [{"base64": "", "url": "http://e.org"}]}', 400, "images.0.url.base64: Extra inputs"),
        (b'{"images": [{"name": "a"}]}', 400, "images.0.base64.base64: Field required"),
        (b'{"images": [{"url": "file:///etc/passwd"}]}', 400, "images.0.url"),
        (b'{"images": [{"url": "/etc/passwd"}]}', 400, "images.0.url"),
        (b'{"images": [{"base64": ""}], "faces": "some"}', 400, "faces: Input should be 'auto'"),
        (b'{"images": [{"base64": ""}], "threshold": 2}', 400, "threshold: Input should be less"),
        (b'{"images": [{"base64": ""}], "threshold": "0.5"}', 400, "threshold: Input should be a valid number"),
        (b'{"images": [{"base64": ""}], "colour": 2}', 400, "colour: Extra inputs"),
        (
            b'{"images": [{"base64": ""}], "model": "smal"}',
            404,
            "no model called 'smal' on this server; did you mean 'small'?",
        ),
    ],
)
def test_bad_json_is_refused(http: httpx2.Client, body: bytes, status: int, message: str) -> None:
    found = error_of(http.post("/v1/predict", content=body, headers={"Content-Type": "application/json"}))
    assert found[0] == status and message in found[2]


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nA'
FLAG = PART + b'\r\n--x\r\nContent-Disposition: form-data; name="show_location"\r\n\r\n%s\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("headers", "body", "status", "message"),
    [
        ({"Content-Type": "multipart/form-data"}, b"", 400, "no boundary"),
        (FORM, b"", 400, "ends before its last boundary"),
        (FORM, PART, 400, "ends before its last boundary"),
        (FORM, b"junk" + PART, 400, "malformed"),
        (FORM, b"--x\r\n\r\n\r\n--x--\r\n", 400, "a part of the form has no name"),
        (FORM, b"--x--\r\n", 400, "no picture in the form"),
        (FORM, b"--x\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n\r\n--x--\r\n", None, ""),
        (FORM, (PART + b"\r\n") * 6_000 + b"--x--\r\n", 413, "more than 4 files"),
        (FORM, b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n1\r\n' * 100 + b"--x--\r\n", 400, "'f' twice"),
        (
            FORM,
            b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + b"1" * 5000,
            413,
            "'f' has more than 4,096",
        ),
        (FORM, FLAG % b"0", 400, "show_location: Input should be a valid boolean"),
        (FORM, FLAG % b"true", 422, "it is text"),
        ({"Content-Type": "image/jpeg"}, JPEG, 415, "'image/jpeg', expected multipart/form-data or application/json"),
        ({}, b"", 415, "''"),
        (FORM, b"a" * 500_001, 413, "a body of more than 500,000 bytes"),
        ({**FORM, "Content-Length": "9" * 18}, b"", 413, "a body of more than 500,000 bytes"),
    ],
)
def test_bad_forms_are_refused(
    http: httpx2.Client, headers: dict[str, str], body: bytes, status: int | None, message: str
) -> None:
    path = "/v1/metadata" if b"show_location" in body else "/v1/predict"
    found = error_of(http.post(path, content=body, headers=headers))
    assert found[0] in ((400, 413) if status is None else (status,)) and message in found[2]


def test_more_pictures_than_the_limit_are_refused(http: httpx2.Client) -> None:
    body = {"images": [{"base64": ""}] * 5}
    assert error_of(http.post("/v1/predict", json=body))[:2] == (413, "TooLarge")


def test_addresses_of_this_machine_are_refused_and_public_ones_fetched(
    http: httpx2.Client, monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    found = error_of(http.post("/v1/predict", json={"images": [{"url": "http://u:pw@127.0.0.1/a.jpg"}]}))
    assert found == (
        422,
        "ImageUnreadable",
        "http://127.0.0.1/a.jpg: 127.0.0.1 is no public address; only public addresses are opened",
    )
    fetched = []

    def read(url: str, **options: Any) -> bytes:
        fetched.append((url, options["public_only"], options["max_bytes"]))
        return JPEG

    monkeypatch.setattr("deepfake_detect.serve.service.read_url", read)
    answer = http.post(
        "/v1/predict", json={"images": [{"url": "HTTP://e.org/a.jpg?sig=1"}, {"base64": as_base64(TEXT)}]}
    )
    assert [p["name"] for p in answer.json()["predictions"]] == ["HTTP://e.org/a.jpg?sig=...", "<base64>"]
    assert fetched == [("HTTP://e.org/a.jpg?sig=1", True, LIMITS.picture_bytes)]
    assert (service.queue, service.held_bytes) == (0, 0)


def test_explanations_come_as_json_and_as_a_picture(http: httpx2.Client, detector: Detector) -> None:
    said = http.post("/v1/explain", **form(JPEG, faithfulness="off", method="hirescam")).json()
    assert (said["name"], said["method"], said["is_evidence"]) == ("0.jpg", "hirescam", False)
    assert said["score"] == detector.predict(JPEG).score
    drawn = http.post("/v1/explain", **form(JPEG, faithfulness="off", format="png"))
    assert drawn.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(drawn.content)).width > 500


def rounded(values: Any) -> Any:
    """Round all numbers to five places: another number of threads changes the last bits of a logit."""
    return json.loads(json.dumps(values), parse_float=lambda text: round(float(text), 5))


def test_stability_and_metadata_are_those_of_the_library(http: httpx2.Client, detector: Detector) -> None:
    stability = http.post("/v1/stability", **form(JPEG, faces="none")).json()
    assert rounded(stability) == rounded({**detector.stability(JPEG, faces="none").to_dict(), "name": "0.jpg"})
    good, bad = http.post("/v1/metadata", **form(JPEG, TEXT)).json()["metadata"]
    assert (good["name"], good["format"], good["file_bytes"]) == ("0.jpg", "JPEG", len(JPEG))
    assert (bad["name"], bad["error"]["type"]) == ("1.jpg", "ImageUnreadable")
    assert error_of(http.post("/v1/metadata", **form(TEXT)))[:2] == (422, "ImageUnreadable")


def test_models_health_and_figures(http: httpx2.Client, detector: Detector) -> None:
    models = http.get("/v1/models").json()["models"]
    assert [(m["name"], m["id"], m["default"]) for m in models] == [
        ("small", "small@0", True),
        ("other", "other@0", False),
    ]
    assert models[0]["card"]["preprocessing"]["size_px"] == 64
    assert http.get("/healthz").json() == {"status": "ok"} and http.get("/readyz").status_code == 200
    http.post("/v1/predict", **form(JPEG))
    text = http.get("/metrics").text
    assert 'deepfake_detect_requests_total{method="POST",route="/v1/predict",status="200"}' in text
    assert 'deepfake_detect_pictures_total{label="error",model="small@0"}' in text
    for stage in ("upload", "queue", "look", "score"):
        assert f'deepfake_detect_stage_seconds_count{{stage="{stage}"}}' in text
    assert "\ndeepfake_detect_queue 0.0" in text and "\ndeepfake_detect_held_bytes 0.0" in text


def test_unknown_paths_and_methods_are_refused_in_the_same_form(http: httpx2.Client) -> None:
    assert error_of(http.get("/nowhere"))[:2] == (404, "NotFound")
    refused = http.get("/v1/predict")
    assert error_of(refused)[:2] == (405, "MethodNotAllowed") and refused.headers["allow"] == "POST"
    assert http.options(f"/v1/video/{'0' * 32}").headers["allow"] == "DELETE, GET"


def test_the_page_of_documentation_loads_nothing_from_elsewhere(http: httpx2.Client) -> None:
    page = http.get("/docs").text
    assert "https://" not in page and "//cdn" not in page
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon.png"):
        assert f"/docs/{name}" in page and http.get(f"/docs/{name}").status_code == 200
    assert http.get("/docs/redoc.standalone.js").status_code == 404
    document = http.get("/openapi.json").json()
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"} and body["application/json"]["examples"]
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])


def test_a_full_queue_is_refused_with_the_time_to_come_back(http: httpx2.Client, service: Service) -> None:
    service.queue += 6
    try:
        refused = http.post("/v1/predict", **form(JPEG, JPEG, JPEG))
        assert error_of(refused)[:2] == (503, "QueueFull") and refused.headers["retry-after"] == "1"
        assert http.post("/v1/predict", **form(JPEG)).status_code == 200
    finally:
        service.queue -= 6
    service.held_bytes += LIMITS.held_bytes - 1000
    try:
        assert error_of(http.post("/v1/predict", **form(JPEG)))[:2] == (503, "QueueFull")
    finally:
        service.held_bytes -= LIMITS.held_bytes - 1000
    assert (service.queue, service.held_bytes) == (0, 0)


def test_many_requests_at_once_are_batched_and_each_gets_its_own_answer(
    http: httpx2.Client, service: Service, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [png(np.full((70, 70, 3), shade, np.uint8)) for shade in range(0, 240, 30)]
    expected = [detector.predict(picture, faces="none").logit for picture in pictures]
    gate, sizes, real = threading.Event(), [], detector.logits

    def logits(crops: Any, **options: Any) -> list[float]:
        gate.wait(10)
        sizes.append(len(crops))
        return real(crops, **options)

    monkeypatch.setattr(detector, "logits", logits)
    with ThreadPoolExecutor(len(pictures)) as pool:
        asked = [pool.submit(http.post, "/v1/predict", **form(picture, faces="none")) for picture in pictures]
        wait_until(lambda: service.queue == len(pictures))
        gate.set()
        answers = [future.result().json()["predictions"][0]["logit"] for future in asked]
    assert answers == pytest.approx(expected, abs=1e-4)
    assert sum(sizes) == len(pictures) and max(sizes) > 1


def test_a_client_that_is_gone_leaves_no_work(
    running: tuple[httpx2.Client, Service, InProcess], detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, service, transport = running
    opened, gate = [], threading.Event()
    real = detector.look

    def look(image: Any, **options: Any) -> Any:
        gate.wait(10)
        opened.append(image.name)
        return real(image, **options)

    monkeypatch.setattr(detector, "look", look)

    async def leave() -> int:
        body = b"".join(PART.replace(b'"a"', b'"%d"' % n)[:-1] + JPEG + b"\r\n" for n in range(4)) + b"--x--\r\n"
        events = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            if len(events) == 1:
                await asyncio.to_thread(wait_until, lambda: service.queue == 4)
            return events.pop(0)

        async def send(message: dict[str, Any]) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        headers = [(b"content-type", FORM["Content-Type"].encode()), (b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": headers, "query_string": b""}
        await transport.app({**scope, "raw_path": b"/v1/predict", "client": None, "asgi": {}}, receive, send)
        return statuses[0]

    assert transport.run(leave()) == 499 and service.queue == 0
    gate.set()
    assert running[0].post("/v1/predict", **form(JPEG)).status_code == 200
    assert len([name for name in opened if name != "0.jpg"]) < 4


def test_an_answer_that_takes_too_long_is_refused(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), detector.look
    with server({"small": detector}, limits=Limits(seconds=0.2, upload_seconds=0.2)) as (http, service, transport):
        monkeypatch.setattr(detector, "look", lambda *image, **options: gate.wait(5) and real(*image, **options))
        assert error_of(http.post("/v1/predict", **form(JPEG)))[:2] == (503, "TimedOut")

        async def drip() -> Any:
            yield PART
            await asyncio.sleep(10)

        async def upload() -> httpx2.Response:
            async with httpx2.AsyncClient(
                transport=httpx2.ASGITransport(transport.app), base_url="http://localhost"
            ) as c:
                return await c.post("/v1/predict", content=drip(), headers=FORM)

        assert error_of(transport.run(upload()))[:2] == (408, "TimedOut")
        assert (service.queue, service.held_bytes) == (0, 0)
        gate.set()


def test_a_fault_of_the_server_is_logged_and_not_shown(
    http: httpx2.Client, detector: Detector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(detector, "logits", fail)
    found = error_of(http.post("/v1/predict", **form(JPEG)))
    assert found[:2] == (500, "InternalError") and "secret" not in found[2]
    several = http.post("/v1/predict", **form(JPEG, TEXT)).json()["predictions"]
    assert [one["error"]["type"] for one in several] == ["InternalError", "ImageUnreadable"]
    assert "ZeroDivisionError" in caplog.text


def test_the_log_is_json_without_names_or_content(http: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", access_log.name):
        http.post("/v1/predict?q=secret", **form(TEXT), headers={"X-Request-ID": "my-id.1"})
        http.get("/healthz", headers={"X-Request-ID": "line\tbreak " * 9})
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    first = lines[0]
    assert (first["request_id"], first["route"], first["status"], first["pictures"]) == (
        "my-id.1",
        "/v1/predict",
        422,
        1,
    )
    assert len(lines[1]["request_id"]) == 32
    assert not {"secret", "hello", "0.jpg"} & {word for word in ("secret", "hello", "0.jpg") if word in str(lines)}


def test_keys_hosts_and_origins(detector: Detector) -> None:
    key, site = "a-long-secret-key", "https://page.example"
    with server({"small": detector}, keys=(key,), origins=(site,)) as (http, _, _):
        allowed = {"Authorization": f"Bearer {key}"}
        for wrong in ({}, {"Authorization": f"Bearer {key}x"}, {"Authorization": key}, {"Authorization": "Bearer "}):
            refused = http.get("/v1/models", headers=wrong)
            assert error_of(refused)[:2] == (401, "Unauthorized") and refused.headers["www-authenticate"] == "Bearer"
        assert http.get("/metrics").status_code == 401
        assert {http.get(path).status_code for path in ("/healthz", "/readyz", "/docs", "/openapi.json")} == {200}
        assert http.get("/v1/models", headers=allowed).status_code == 200
        page = http.get("/v1/models", headers={**allowed, "Origin": site})
        assert page.headers["access-control-allow-origin"] == site
        asked = {"Origin": site, "Access-Control-Request-Method": "POST"}
        preflight = http.options("/v1/predict", headers=asked)
        assert preflight.status_code == 204 and "POST" in preflight.headers["access-control-allow-methods"]
        for other in ("https://evil.example", "null", "https://page.example.evil.example"):
            refused = http.get("/v1/models", headers={**allowed, "Origin": other})
            assert error_of(refused)[0] == 403 and "access-control-allow-origin" not in refused.headers
            assert http.options("/v1/predict", headers={**asked, "Origin": other}).status_code == 403
        for host, status in {"evil.example": 421, "localhost:8000": 200, "127.0.0.1": 200, "[::1]:8000": 200}.items():
            assert http.get("/healthz", headers={"Host": host}).status_code == status, host
        assert "security" in http.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]


def test_a_video_becomes_a_job(http: httpx2.Client) -> None:
    started = http.post("/v1/video", files={"video": ("clip.mp4", b"no video")})
    assert started.status_code == 202 and started.headers["location"] == f"/v1/video/{started.json()['id']}"
    job = finished(http, started)
    assert job["status"] == "failed" and job["error"]["type"] == "ImageUnreadable"
    assert "clip.mp4" in job["error"]["message"] and "/proc" not in job["error"]["message"]
    assert http.delete(started.headers["location"]).status_code == 204
    assert error_of(http.get(started.headers["location"]))[:2] == (404, "NotFound")
    for path in ("/v1/video/..%2f..%2fetc", "/v1/video/x"):
        assert http.get(path).status_code == 404
    assert error_of(http.post("/v1/video", files={"video": ("a", b"x")}, data={"max_frames": "0"}))[0] == 400
    assert error_of(http.post("/v1/video", json={}))[0] == 415


def finished(http: httpx2.Client, started: httpx2.Response) -> dict[str, Any]:
    for _ in range(2000):
        job: dict[str, Any] = http.get(started.headers["location"]).json()
        if job["status"] in ("done", "failed"):
            return job
        time.sleep(0.01)
    raise TimeoutError(str(job))


def test_a_server_that_is_stopped_finishes_and_refuses(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    with server({"small": detector}) as (http, service, _):
        service.stopping = True
        for response in (http.get("/readyz"), http.post("/v1/predict", **form(JPEG))):
            assert error_of(response)[:2] == (503, "Stopping") and "retry-after" in response.headers
        assert http.get("/healthz").status_code == 200
