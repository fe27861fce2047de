"""Define ``deepfake-detect doctor``: check the installation."""

from __future__ import annotations

import sys

import click

from deepfake_detect.cli.options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Check the installation, and that the packaged weights still give their published scores.

    Exit status 1 where there is a problem.
    """
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.health import doctor

    report = doctor()
    write_line(report.to_json(indent=2) if as_json else str(report))
    sys.exit(0 if report.ok else 1)
