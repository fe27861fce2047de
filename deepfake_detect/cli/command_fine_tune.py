"""Define ``deepfake-detect fine-tune``: train a copy of a detector on pictures of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.DATA_HELP)
@shared.data_argument
@shared.model_option
@shared.bundle_option
@shared.training_options
def command(data: str, model: str, out: Path, device: str, **options: Any) -> None:
    """Fine-tune a detector, or a classifier with --model content-classes, on your own pictures."""
    from deepfake_detect.cli.batch import load_model
    from deepfake_detect.cli.console import log_on_stderr, write_line
    from deepfake_detect.cli.render import training_summary
    from deepfake_detect.system.malloc import kept_memory

    with log_on_stderr(), kept_memory():
        trained = load_model(model, device=device).fine_tune(data, out=out, **shared.training_arguments(options))
    write_line(training_summary(trained, out))
