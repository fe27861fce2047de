"""Define ``deepfake-detect tune``: search for the settings that train the best detector."""

from __future__ import annotations

import json
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.DATA_HELP)
@shared.data_argument
@click.option("--arch", "archs", metavar="A", multiple=True, help="Architecture to try; may be repeated.")
@click.option(
    "--trials", metavar="N", type=click.IntRange(min=1), default=20, show_default=True, help="Number of trainings."
)
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Epochs of each trial.")
@shared.seed_option
@click.option(
    "--out",
    metavar="DIR",
    type=shared.FOLDER,
    required=True,
    help="Folder of the trials; the same command continues a search.",
)
@shared.json_option
@shared.device_option
def command(data: str, archs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Search for the settings that train the best detector."""
    from deepfake_detect.cli.console import log_on_stderr, write_line
    from deepfake_detect.training.search import tune

    with log_on_stderr():
        trials = tune(data, model=archs or "meso4", **shared.without_none(options))
    if as_json:
        write_line(json.dumps([trial.to_dict() for trial in trials], indent=2))
    else:
        write_line("\n".join(str(trial) for trial in trials))
