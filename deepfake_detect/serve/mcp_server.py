"""Offer the detector to assistants and agents, by the Model Context Protocol over standard input and output.

Needs the extra ``[mcp]``; `require_mcp` checks that it is installed.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent, ToolAnnotations

from deepfake_detect._version import __version__
from deepfake_detect.errors import DeepfakeDetectError
from deepfake_detect.serve.mcp_tools import PictureTools

Answer = TypeVar("Answer")

INSTRUCTIONS: Final = (
    "Tools that say how likely the faces of a picture are deepfakes. A score is a probability on pictures like those "
    "the detector was calibrated on, not a proof: never accuse anyone with it. Generators, cameras and editors that it "
    "has not seen are judged wrongly more often. 'uncertain' and 'no-face' are answers: do not turn them into verdicts."
)

_IMAGE = (
    "image is the path of a file on the machine of this server, an http(s) URL of a public address, or a data URI with "
    "base64. "
)
_CHECK = (
    "Find the faces of a picture and score each: label is 'fake', 'real', 'uncertain' or 'no-face'; score is the "
    "calibrated probability of fake, 0..1, of the face with the highest one. "
    + _IMAGE
    + "Limits: it judges faces alone, not "
    "bodies, backgrounds, text or sound; heavy compression and small faces make it worse; an attacker who knows the "
    "detector can fool it."
)
_EXPLAIN = (
    "Show where in a picture a score comes from: a drawing of the heat over the faces, and whether that map passed the "
    "checks of faithfulness (is_evidence, reasons). " + _IMAGE + "Limits: most maps are no evidence, and then must not "
    "be given as the reason of a verdict; it takes seconds."
)
_METADATA = (
    "Read what a file says of its origin: camera, software, traces of generators, C2PA manifests, signs of "
    "recompression; each finding with its strength and what it does not prove. "
    + _IMAGE
    + "Limits: metadata are easily removed and "
    "forged; their absence proves nothing. The place where a picture was taken is not given."
)


def create_mcp_server(tools: PictureTools) -> MCPServer[Any]:
    """Make the server: three tools that read and change nothing.

    Args:
        tools: What they do.
    """
    server: MCPServer[Any] = MCPServer(
        "deepfake-detect", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING"
    )
    reads = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)

    async def call(work: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.to_thread(work)
        except DeepfakeDetectError as error:
            raise ToolError(f"{type(error).__name__}: {error}") from error

    @server.tool(description=_CHECK, annotations=reads)
    async def check_image(
        image: str, faces: Literal["auto", "all", "largest", "none"] = "auto", threshold: float | None = None
    ) -> dict[str, Any]:
        return await call(lambda: tools.check_image(image, faces, threshold))

    @server.tool(description=_EXPLAIN, annotations=reads, structured_output=False)
    async def explain_image(image: str, target: Literal["fake", "real"] | None = None) -> CallToolResult:
        values, drawn = await call(lambda: tools.explain_image(image, target))
        reasons = "; ".join(values["reasons"])
        words = f"{values['label']}: the map {'is' if values['is_evidence'] else 'is not'} evidence. {reasons}".strip()
        picture = ImageContent(type="image", data=base64.b64encode(drawn).decode(), mime_type="image/png")
        return CallToolResult(content=[TextContent(type="text", text=words), picture], structured_content=values)

    @server.tool(name="inspect_metadata", description=_METADATA, annotations=reads)
    async def inspect(image: str) -> dict[str, Any]:
        return await call(lambda: tools.inspect_metadata(image))

    return server
