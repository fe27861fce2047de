"""Define ``deepfake-detect export``: write a detector to a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli.options import UserPath, json_option, model_option

_PATH = UserPath(path_type=Path)


@click.command()
@model_option
@click.option(
    "--format", type=click.Choice(["onnx", "browser"]), default="onnx", show_default=True, help="A file, or a web page."
)
@click.option("--out", "path", metavar="PATH", type=_PATH, required=True, help="ONNX file, or folder of the page.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="What the network of an ONNX file computes in.",
)
@click.option("--preprocessing", is_flag=True, help="Normalise in the ONNX file, which then takes bytes.")
@click.option(
    "--runtime",
    metavar="PATH",
    type=_PATH,
    help="onnxruntime-web for a page: folder or .tgz of npm.  [default: download]",
)
@click.option("--webgpu/--no-webgpu", default=None, help="Bring WebGPU for a page.  [default: for large models]")
@click.option("--without-texture", is_flag=True, help="Of a detector with two looks, write the crop's alone.")
@click.option(
    "--data", metavar="DATA", help="Labelled pictures: int8 needs them; the verdicts that change are counted."
)
@json_option
def command(model: str, path: Path, as_json: bool, without_texture: bool, **options: Any) -> None:
    """Write a detector as an ONNX file, or as a web page that works without a server.

    The face finder of an ONNX file is written next to it, as NAME.finder.onnx.
    """
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.detector import Detector

    detector = Detector.from_pretrained(model, device="cpu", dtype="float32", backend="torch")
    report = (detector.without_texture() if without_texture else detector).export(path, **options)
    write_line(report.to_json(indent=2) if as_json else str(report))
