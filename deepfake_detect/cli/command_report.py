"""Define ``deepfake-detect report``: write a page for people about each picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepfake_detect.cli import options as shared

if TYPE_CHECKING:
    from deepfake_detect.cli.batch import Outcome
    from deepfake_detect.reporting.folder import ReportFolder


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@click.option("--out", metavar="DIR", type=shared.FOLDER, required=True, help="Folder of the pages, made if missing.")
@shared.model_option
@shared.faces_option
@shared.threshold_option
@shared.method_option
@shared.faithfulness_option
@click.option("--no-explain", is_flag=True, help="Leave the heat map out.")
@click.option("--no-stability", is_flag=True, help="Score no copies of the picture.")
@shared.style_options
@shared.device_option
def command(
    paths: tuple[str, ...],
    out: Path,
    model: str,
    device: str,
    no_explain: bool,
    no_stability: bool,
    **options: Any,
) -> None:
    """Write a page for people about each picture, and an index of several.

    Each page opens without a network. Beside it lies the case that `verify` checks. The same command continues a run
    that was cut off.
    """
    from deepfake_detect.cli.batch import load_detector, print_outcomes
    from deepfake_detect.cli.paths import expand_paths
    from deepfake_detect.cli.render import Form
    from deepfake_detect.reporting.folder import ReportFolder

    style, names = shared.style_from(options), expand_paths(paths)
    reports = ReportFolder(
        out,
        predictor=load_detector(model, device=device),
        several=len(names) > 1,
        explain=not no_explain,
        stability=not no_stability,
        **options,
    )
    form = Form(text=_text, cells=_cells, columns=_COLUMNS)
    print_outcomes(_outcomes(reports, names), total=len(names), style=style, form=form)


_COLUMNS = ("name", "label", "score", "headline", "page", "case", "error")
_FAILED = {"label": "error", "score": None, "headline": "No report", "page": None, "case": None}


def _outcomes(reports: ReportFolder, names: list[str]) -> Iterator[Outcome]:
    """Write the report of every picture, and the index at the end."""
    from deepfake_detect.cli.batch import Outcome, analyse_each
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.cli.paths import STDIN

    def write(name: str, item: Any) -> Outcome:
        done = reports.add(item, name="standard input" if name == STDIN else None)
        row = {"name": name, "label": done.label, "score": done.score, "headline": done.headline}
        return Outcome(name=name, row={**row, "page": str(done.page), "case": str(done.case_file), "error": None})

    yield from analyse_each(names, write, failed=_FAILED)
    index = reports.finish()
    if index is not None:
        write_line(f"index: {index}", err=True)


def _text(row: dict[str, Any]) -> Iterator[str]:
    from deepfake_detect.cli.render import verdict_line

    yield verdict_line(row, row["name"])
    if not row["error"]:
        yield f"{'':19}{row['page']}"


def _cells(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {**row, "error": row["error"] and row["error"]["message"]}
