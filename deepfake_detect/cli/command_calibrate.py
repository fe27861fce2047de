"""Define ``deepfake-detect calibrate``: fit the threshold or the score to pictures of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command()
@shared.data_argument
@shared.model_option
@shared.bundle_option
@click.option(
    "--max-false-alarm",
    metavar="X",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Share of real photographs that may be called fake.",
)
@click.option(
    "--method",
    type=click.Choice(["conformal", "platt", "temperature", "platt+conformal"]),
    help="Default: conformal for real photographs, platt for labelled data.",
)
@shared.json_option
@shared.device_option
def command(data: str, model: str, out: Path, device: str, as_json: bool, **options: Any) -> None:
    """Set the threshold from your own real photographs, or calibrate the score on labelled ones.

    DATA is a folder of real photographs, or labelled data as for fine-tune.
    """
    from deepfake_detect.cli.batch import load_detector
    from deepfake_detect.cli.console import log_on_stderr, write_line

    with log_on_stderr():
        detector = load_detector(model, device=device).calibrate(data, **shared.without_none(options))
    detector.save_pretrained(out)
    if as_json:
        write_line(json.dumps(detector.calibration, indent=2))
    else:
        write_line(f"{detector.calibration['note']}\nthreshold {detector.card.threshold:.4f}, saved in {out}")
