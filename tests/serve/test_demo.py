"""Does the demo report on what is dropped, keep to this machine, and leave nothing behind?"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deepfake_detect import InvalidOption, verify
from deepfake_detect.cli.main import main
from deepfake_detect.errors import UnknownWeights
from deepfake_detect.serve import demo
from deepfake_detect.serve.demo import POLICY, Demo, DemoSettings, LocalPage, drop_other_servers, example_pictures
from tests.export.conftest import Node
from tests.small_world import PORTRAIT, small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture
def page(bundle: str, tmp_path: Path) -> Demo:
    return Demo(DemoSettings(model=bundle, device="cpu"), folder=tmp_path)


def last(page: Demo, files: list[str], model: str) -> tuple[str, list[str]]:
    return list(page.examine(files, model))[-1]


def test_each_file_gets_a_report_or_the_reason_why_there_is_none(page: Demo, bundle: str, tmp_path: Path) -> None:
    broken = tmp_path / "<b>.jpg"
    broken.write_bytes(b"no picture")
    steps = list(page.examine([str(PORTRAIT), str(broken), str(PORTRAIT)], bundle))
    shown, saved = steps[-1]
    assert [step[0].count("<iframe") for step in steps] == [1, 1, 2]
    assert "&lt;b&gt;.jpg" in shown and "<b>" not in shown and str(tmp_path) not in shown
    assert [Path(path).name for path in saved] == [
        "portrait.html", "portrait.json", "portrait-3.html", "portrait-3.json",
    ]  # fmt: skip
    assert verify(saved[1], PORTRAIT, model=bundle).ok
    assert json.loads(Path(saved[1]).read_text("utf-8"))["input"]["name"] == "portrait.jpg"


def test_a_video_gets_a_page_its_values_and_a_framed_copy(page: Demo, bundle: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    shown, saved = last(page, [str(clip)], bundle)
    assert "What this does not prove" in shown and "no probability" in shown
    assert [Path(path).suffix for path in saved] == [".html", ".json", ".mp4"]
    assert all(Path(path).stat().st_size for path in saved)


def make_clip(path: Path) -> Path:
    import av
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(PORTRAIT).resize((256, 256)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_what_cannot_be_examined_is_said(page: Demo, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Drop a picture or a video first" in last(page, [], bundle)[0]
    shown, saved = last(page, [str(PORTRAIT)], "/etc")  # the page asks for no other models
    assert "is none of" in shown and saved == []
    monkeypatch.setattr(demo, "MOST_FILES", 1)
    assert "2 files were left out" in last(page, [str(PORTRAIT)] * 3, bundle)[0]


def test_a_wrong_model_is_an_error_before_the_page_is_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownWeights):
        Demo(DemoSettings(model="no-such-model"), folder=tmp_path)


def test_the_examples_are_there() -> None:
    assert [path.is_file() for path in example_pictures().values()] == [True, True]


def test_a_page_names_no_other_server_and_forbids_them() -> None:
    text = (
        b'<link rel="preconnect" href="https://fonts.example"><link href="./own.css">'
        b"<script async src='//cdn.example/x.js'></script><script>1</script>"
    )
    assert drop_other_servers(text) == b'<link href="./own.css"><script>1</script>'
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert not [name for name, _ in scope["headers"] if name == b"accept-encoding"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": text[:50], "more_body": True})
        await send({"type": "http.response.body", "body": text[50:]})

    async def send(message: Any) -> None:
        sent.append(message)

    pytest.importorskip("starlette")
    scope = {"type": "http", "path": "/", "method": "GET", "headers": [(b"accept-encoding", b"gzip")]}
    asyncio.run(LocalPage(app)(scope, None, send))  # type: ignore[arg-type]
    headers = dict(sent[0]["headers"])
    assert headers[b"content-security-policy"].decode() == POLICY and "http" not in POLICY
    assert int(headers[b"content-length"]) == len(sent[1]["body"]) == 41


def test_without_gradio_the_command_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = CliRunner().invoke(main, ["demo"])
    assert done.exit_code == 1 and "pip install 'deepfake-detect[demo]'" in done.stderr


def test_an_address_in_use_is_said_and_the_environment_is_restored(bundle: str) -> None:
    pytest.importorskip("gradio")
    before = dict(os.environ)
    settings = DemoSettings(model=bundle, host="192.0.2.1", port=0)
    with pytest.raises(InvalidOption, match=r"192\.0\.2\.1"), demo.open_demo(settings):
        pass
    assert dict(os.environ) == before


def test_a_visitor_reads_verdicts_and_nothing_leaves_the_machine(
    bundle: str, node: Node, chromium: str, tmp_path: Path
) -> None:
    pytest.importorskip("gradio")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    command = [sys.executable, "-m", "deepfake_detect", "demo", "--model", bundle, "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[4].rstrip(";")
            files = [str(PORTRAIT), str(tmp_path / "broken.jpg")]
            job = {"address": address, "chromium": chromium, "files": files}
            seen = node(str(Path(__file__).with_name("drive_demo.mjs")), job)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    assert not list((tmp_path / "temporary").glob("deepfake-detect-demo-*"))
    assert seen["errors"] == [] and {url.split("/")[2] for url in seen["requests"]} == {address.split("/")[2]}
    for width in (1400, 390):
        assert seen["wide"][str(width)] == width
        assert "What this does not prove" in seen[str(width)]["pages"][0]
        assert "looks like text" in seen[str(width)]["refused"][0]
    assert "portrait.jpg" in seen["example"]["pages"][0]
    assert verify(json.loads(seen["saved"]), PORTRAIT, model=bundle).ok
