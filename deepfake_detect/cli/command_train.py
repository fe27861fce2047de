"""Define ``deepfake-detect train``: train a new detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.DATA_HELP)
@shared.data_argument
@click.option(
    "--arch", metavar="A", default="xception", show_default=True, help="Architecture listed by `models`, or timm:NAME."
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
def command(data: str, arch: str, out: Path, **options: Any) -> None:
    """Train a new detector."""
    from deepfake_detect.cli.console import log_on_stderr, write_line
    from deepfake_detect.cli.render import training_summary
    from deepfake_detect.detector import Detector
    from deepfake_detect.system.malloc import kept_memory

    with log_on_stderr(), kept_memory():
        detector = Detector.train(data, model=arch, out=out, **shared.training_arguments(options))
    write_line(training_summary(detector, out))
