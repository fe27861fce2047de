"""Does an assistant get the results of the library, by the official client?"""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from deepfake_detect import Detector, inspect_metadata
from deepfake_detect.cli.main import main
from deepfake_detect.errors import UnknownWeights
from deepfake_detect.serve import mcp_tools
from deepfake_detect.serve.mcp_tools import PictureTools
from tests.small_world import PORTRAIT, small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


def converse(server: Any, talk: Callable[[Any], Awaitable[Any]]) -> Any:
    """Connect the official client to a server, and return what the talk gives."""
    mcp = pytest.importorskip("mcp")

    async def run() -> Any:
        async with mcp.Client(server) as client:
            return await talk(client)

    return asyncio.run(asyncio.wait_for(run(), 60))


def serve(bundle: Path) -> Any:
    pytest.importorskip("mcp.server.mcpserver")
    from deepfake_detect.serve.mcp_server import create_mcp_server

    return create_mcp_server(PictureTools(str(bundle), device="cpu"))


def call(bundle: Path, name: str, **arguments: Any) -> Any:
    return converse(serve(bundle), lambda client: client.call_tool(name, arguments))


def test_a_picture_is_checked_as_by_the_detector(bundle: Path) -> None:
    result = call(bundle, "check_image", image=str(PORTRAIT), threshold=0.4)
    expected = Detector.from_pretrained(bundle, device="cpu").predict(PORTRAIT, threshold=0.4).to_dict()
    assert not result.is_error
    assert {**result.structured_content, "seconds": 0} == {**expected, "seconds": 0}


def test_a_data_uri_is_a_picture_too(bundle: Path) -> None:
    uri = "data:image/jpeg;base64," + base64.b64encode(PORTRAIT.read_bytes()).decode()
    result = call(bundle, "check_image", image=uri, faces="none")
    assert not result.is_error and len(result.structured_content["name"]) < 60
    assert result.structured_content["faces"][0]["box_xyxy"] == [0, 0, 512, 512]


def test_an_explanation_is_a_picture_and_its_checks(bundle: Path) -> None:
    result = call(bundle, "explain_image", image=str(PORTRAIT))
    words, drawn = result.content
    assert "evidence" in words.text and drawn.mime_type == "image/png"
    picture = Image.open(io.BytesIO(base64.b64decode(drawn.data)))
    assert max(picture.size) <= mcp_tools.MOST_WIDE_PX and min(picture.size) > 100
    assert set(result.structured_content) >= {"label", "score", "is_evidence", "reasons"}


def test_metadata_are_those_of_the_library(bundle: Path) -> None:
    result = call(bundle, "inspect_metadata", image=str(PORTRAIT))
    assert result.structured_content["findings"] == inspect_metadata(PORTRAIT).to_dict()["findings"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": "missing.jpg"}, "ImageUnreadable"),
        ({"image": ""}, "image is empty"),
        ({"image": "http://127.0.0.1:9/a.jpg"}, "127.0.0.1"),
        ({"image": "/dev/zero"}, "ImageUnreadable"),
        ({"image": str(PORTRAIT), "threshold": 7}, "threshold"),
        ({"image": str(PORTRAIT), "faces": "some"}, "faces"),
    ],
)
def test_what_cannot_be_answered_is_an_error_with_words(bundle: Path, arguments: Any, words: str) -> None:
    result = call(bundle, "check_image", **arguments)
    assert result.is_error and words in result.content[0].text and "Traceback" not in result.content[0].text


def test_a_large_file_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_tools, "MOST_BYTES", 1000)
    result = call(bundle, "inspect_metadata", image=str(PORTRAIT))
    assert result.is_error and "more than 1,000 bytes" in result.content[0].text


def test_the_tools_say_what_they_do_not_prove(bundle: Path) -> None:
    tools = {tool.name: tool for tool in converse(serve(bundle), lambda client: client.list_tools()).tools}
    assert sorted(tools) == ["check_image", "explain_image", "inspect_metadata"]
    assert all("Limits:" in tool.description and tool.annotations.read_only_hint for tool in tools.values())


def test_the_command_speaks_over_standard_input_and_output(bundle: Path) -> None:
    mcp = pytest.importorskip("mcp")
    command = ["-m", "deepfake_detect", "mcp", "--model", str(bundle), "--device", "cpu"]
    server = mcp.StdioServerParameters(command=sys.executable, args=command)
    result = converse(server, lambda client: client.call_tool("check_image", {"image": str(PORTRAIT)}))
    assert result.structured_content["label"] in ("real", "fake") and result.structured_content["faces"]


def test_a_wrong_model_is_said_at_once() -> None:
    with pytest.raises(UnknownWeights):
        PictureTools("no-such-model")


def test_without_the_package_the_command_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.delitem(sys.modules, "mcp.server.mcpserver", raising=False)
    monkeypatch.delitem(sys.modules, "mcp.server", raising=False)
    done = CliRunner().invoke(main, ["mcp"])
    assert done.exit_code == 1 and "pip install 'deepfake-detect[mcp]'" in done.stderr
