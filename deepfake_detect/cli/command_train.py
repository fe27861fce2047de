"""Define ``deepfake-detect train``: train a new detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.DATA_HELP)
@shared.data_argument
@click.option("--classes", is_flag=True, help="Tell apart the classes of the folders, whatever they are called.")
@click.option(
    "--arch",
    metavar="A",
    help="Architecture listed by `models`, or timm:NAME (default: xception; timm:mobilenetv2_100 for --classes).",
)
@click.option(
    "--start", metavar="W", help="Initial weights: imagenet, a .safetensors file, or a bundle (default: random)."
)
@click.option("--size-px", metavar="N", type=click.IntRange(min=16), help="Side of the input in pixels.")
@click.option(
    "--dropout", metavar="X", type=click.FloatRange(0, 1, max_open=True), help="Dropout rate before the last layer."
)
@shared.bundle_option
@shared.training_options
def command(data: str, classes: bool, arch: str | None, out: Path, **options: Any) -> None:
    """Train a new detector; or, with --classes, a classifier of whole pictures.

    With --classes, DATA holds a folder for each class, such as cats/ and dogs/, or labels of any names.
    """
    from deepfake_detect.classifier import Classifier
    from deepfake_detect.cli.console import log_on_stderr, write_line
    from deepfake_detect.cli.render import training_summary
    from deepfake_detect.detector import Detector
    from deepfake_detect.system.malloc import kept_memory

    with log_on_stderr(), kept_memory():
        arguments = shared.training_arguments({"model": arch, **options})
        trained = (Classifier if classes else Detector).train(data, out=out, **arguments)
    write_line(training_summary(trained, out))
