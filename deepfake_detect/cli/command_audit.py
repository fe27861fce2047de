"""Define ``deepfake-detect audit``: look for faults of a data set."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.DATA_HELP)
@shared.data_argument
@click.option("--strict", is_flag=True, help="Exit status 1 where there is an error.")
@click.option("--save", metavar="FILE", type=shared.FILE, help="Write the report to FILE: .json, .txt or .html.")
@click.option(
    "--grid", metavar="FILE", type=shared.FILE, help="Draw some pictures of each class and difficulty to FILE."
)
@shared.json_option
def command(data: str, strict: bool, save: Path | None, grid: Path | None, as_json: bool) -> None:
    """Look for faults of a data set before you train on it."""
    if grid:
        shared.check_picture_ending("--grid", grid)
    from deepfake_detect.auditing.checks import audit
    from deepfake_detect.cli.console import log_on_stderr, write_line

    with log_on_stderr():
        report = audit(data)
    if save:
        report.save(save)
    if grid:
        from deepfake_detect.auditing.grid import sample_grid

        grid.parent.mkdir(parents=True, exist_ok=True)
        sample_grid(data).save(grid)
    write_line(report.to_json(indent=2) if as_json else str(report))
    sys.exit(1 if strict and not report.ok else 0)
