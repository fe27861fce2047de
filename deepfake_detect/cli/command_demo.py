"""Define ``deepfake-detect demo``: open a page on which pictures and videos are dropped."""

from __future__ import annotations

import click

from deepfake_detect.cli.options import device_option, model_option


@click.command()
@model_option
@click.option("--host", metavar="H", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", metavar="P", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0: a free one."
)
@click.option(
    "--share",
    type=click.Choice(["no", "yes"]),
    default="no",
    show_default=True,
    help="Also open a public address for a week, by a tunnel through Gradio's servers.",
)
@device_option
def command(model: str, host: str, port: int, share: str, device: str) -> None:
    """Open a page on which pictures and videos are dropped, and their reports are read.

    It can be reached from this machine alone, unless another --host or --share is given. Ctrl-C stops it and deletes
    what was dropped.
    """
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.serve.demo import DemoSettings, run_demo

    settings = DemoSettings(model=model, device=device, host=host, port=port, share=share == "yes")
    run_demo(settings, announce=lambda address: write_line(f"the demo is at {address}; stop it with Ctrl-C"))
