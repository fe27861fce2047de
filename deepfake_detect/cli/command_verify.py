"""Define ``deepfake-detect verify``: check a recorded verdict again."""

from __future__ import annotations

from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command()
@click.argument("case", metavar="CASE.json")
@click.argument("picture", metavar="PHOTO")
@click.option("--model", metavar="M", help="Folder or repository of the weights, if they are not packaged.")
@click.option("--tolerance", metavar="T", type=click.FloatRange(0, 1), help="Largest move of the score (default 0.01).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@shared.device_option
def command(case: str, picture: str, as_json: bool, **options: Any) -> None:
    """Check that a recorded verdict still holds: same file, same weights, same verdict.

    CASE.json is written by ``predict --evidence DIR``. Exit status 0: everything is as recorded; 1: something differs.
    """
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.predict.verification import verify

    verification = verify(case, picture, **{name: value for name, value in options.items() if value is not None})
    write_line(verification.to_json(indent=2) if as_json else str(verification))
    if not verification.ok:
        raise click.exceptions.Exit(1)
