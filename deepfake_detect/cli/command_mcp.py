"""Define ``deepfake-detect mcp``: offer the detector to assistants and agents."""

from __future__ import annotations

import click

from deepfake_detect.cli.options import device_option, model_option


@click.command()
@model_option
@device_option
def command(model: str, device: str) -> None:
    """Offer check_image, explain_image and inspect_metadata to assistants, over standard input and output.

    An assistant that speaks the Model Context Protocol starts this command itself; see docs/mcp.md.
    """
    from deepfake_detect.serve.mcp_tools import PictureTools, require_mcp

    require_mcp()
    from deepfake_detect.serve.mcp_server import create_mcp_server

    create_mcp_server(PictureTools(model, device=device)).run("stdio")
