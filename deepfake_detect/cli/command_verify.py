"""Define ``deepfake-detect verify``: check a recorded verdict again."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command()
@click.argument("case", metavar="CASE.json")
@click.argument("picture", metavar="PHOTO")
@click.option("--model", metavar="M", help="Folder or repository of the weights, if they are not packaged.")
@click.option(
    "--tolerance", metavar="T", type=click.FloatRange(0, 1), help="How far the score may move (default: 0.01)."
)
@shared.json_option
@shared.device_option
def command(case: str, picture: str, as_json: bool, **options: Any) -> None:
    r"""Check a recorded verdict again: same file, same weights, same verdict.

    CASE.json is written by ``predict --evidence DIR`` or ``report``. Either argument may be - for standard input.

    \b
    Exit status:
      0  everything that can be checked is as recorded
      1  something differs; it is named
      2  nothing could be checked: wrong usage, no such file, no case, no weights
    """
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.cli.paths import better_error, open_stdin
    from deepfake_detect.drawing.html import visible
    from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable
    from deepfake_detect.evaluation.verification import verify

    chosen = shared.without_none(options)
    try:
        verification = verify(_open_case(case, picture), next(open_stdin([picture])), **chosen)
    except DeepfakeDetectError as error:
        is_picture = isinstance(error, ImageUnreadable) and not os.path.isdir(picture)
        reason = better_error(picture, error, usage="verify CASE.json") if is_picture else error
        write_line(visible(f"Could not check: {type(reason).__name__}: {reason}"), err=True)
        raise click.exceptions.Exit(2) from None
    write_line(verification.to_json(indent=2) if as_json else str(verification))
    if not verification.ok:
        raise click.exceptions.Exit(1)


def _open_case(case: str, picture: str) -> Any:
    """Return the path of the case, or what standard input holds.

    Raises:
        click.UsageError: Both arguments are ``-``.
        DatasetError: Standard input is no JSON.
    """
    from deepfake_detect.cli.paths import STDIN
    from deepfake_detect.predict.case_file import parse_case

    if case != STDIN:
        return case
    if picture == STDIN:
        raise click.UsageError("CASE.json and PHOTO cannot both be read from standard input")
    return parse_case(sys.stdin.buffer.read(), where="standard input")
