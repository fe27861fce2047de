"""Define ``deepfake-detect export``: write a detector to a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli.options import FILE, json_option, model_option


@click.command()
@model_option
@click.option("--format", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="What to write.")
@click.option("--out", "path", metavar="FILE", type=FILE, required=True, help="ONNX file to write.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="What the network computes in.",
)
@click.option("--preprocessing", is_flag=True, help="Normalise in the graph, which then takes face crops as bytes.")
@json_option
def command(model: str, path: Path, as_json: bool, **options: Any) -> None:
    """Write a detector to a file for programs without this package.

    The face finder is written next to it, as NAME.finder.onnx.
    """
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.detector import Detector

    report = Detector.from_pretrained(model, device="cpu", dtype="float32", backend="torch").export(path, **options)
    write_line(report.to_json(indent=2) if as_json else str(report))
