"""Define ``deepfake-detect evaluate``: measure a detector on labelled pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.DATA_HELP)
@shared.data_argument
@shared.model_option
@click.option("--split", metavar="S", help="Use only this split of the table, such as test.")
@shared.threshold_option
@click.option("--robustness", is_flag=True, help="Measure compressed, small and blurred copies, too.")
@click.option(
    "--save", metavar="DIR", type=shared.FOLDER, help="Write the report, scores, curves and galleries into DIR."
)
@shared.json_option
@shared.device_option
def command(
    data: str, model: str, device: str, save: Path | None, as_json: bool, robustness: bool, **options: Any
) -> None:
    """Measure a detector or a classifier on labelled pictures that it was not trained on."""
    from deepfake_detect.cli.batch import is_classifier, load_model
    from deepfake_detect.cli.console import log_on_stderr, write_line

    with log_on_stderr():
        loaded, chosen = load_model(model, device=device), shared.without_none(options)
        if not is_classifier(loaded):
            chosen["robustness"] = "all" if robustness else ()
        elif robustness or "threshold" in chosen:
            raise click.UsageError("--robustness and --threshold are for detectors of real and fake")
        report = loaded.evaluate(data, **chosen)
    if save:
        report.save(save)
    write_line(report.to_json(indent=2) if as_json else str(report))
    sys.exit(1 if report.unreadable else 0)
