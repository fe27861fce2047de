"""Define ``deepfake-detect metadata``: what picture files say of their own origin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@shared.style_options
@click.option("--show-location", is_flag=True, help="Print GPS coordinates, where there are some.")
@click.option(
    "--trust-anchors",
    metavar="PEM",
    type=shared.FILE,
    help="Certificates of authorities whose C2PA signatures are trusted; needs the extra [c2pa].",
)
def command(paths: tuple[str, ...], show_location: bool, trust_anchors: Path | None, **options: Any) -> None:
    """Read what picture files say of their origin: camera, software, generators, C2PA, JPEG structure."""
    from deepfake_detect.cli.batch import Outcome, analyse_each, outcome_of, print_outcomes
    from deepfake_detect.cli.paths import expand_paths
    from deepfake_detect.cli.render import Form
    from deepfake_detect.provenance.inspector import inspect_metadata

    style, names = shared.style_from(options), expand_paths(paths)
    form = Form(text=_text, cells=_cells, columns=_COLUMNS)

    def inspect(name: str, item: Any) -> Outcome:
        findings = inspect_metadata(item, show_location=show_location, trust_anchors=trust_anchors)
        return outcome_of(name, replace(findings, name=name))

    outcomes = analyse_each(names, inspect, failed={"findings": []})
    print_outcomes(outcomes, total=len(names), style=style, form=form)


_COLUMNS = ("name", "strength", "points_to", "code", "what", "segment", "offset", "not_proof", "value", "error")
_COLOURS = {"strong": 31, "moderate": 33}  # ANSI codes, which click removes where not wanted


def _text(row: dict[str, Any]) -> Iterator[str]:
    yield f"{row['name']}{'  (error)' if row['error'] else ''}"
    for finding in row["findings"]:
        place = "" if finding["offset"] is None else f", byte {finding['offset']}"
        strength, points_to = finding["strength"], finding["points_to"] or ""
        colour = _COLOURS.get(strength, 0)
        yield f"  \x1b[{colour}m{strength:<8}  {points_to:<9}\x1b[0m  {finding['what']}  [{finding['segment']}{place}]"
        yield f"{'':23}does not prove: {finding['not_proof']}"


def _cells(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from ({"name": row["name"], **finding} for finding in row["findings"])
    if row["error"]:
        yield {"name": row["name"], "error": row["error"]["message"]}
