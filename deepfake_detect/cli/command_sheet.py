"""Define ``deepfake-detect sheet``: draw a contact sheet of scored pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@click.option(
    "--out",
    metavar="FILE",
    type=shared.FILE,
    default="sheet.jpg",
    show_default=True,
    help="Picture to write: .jpg, .png or .webp.",
)
@click.option(
    "--columns", metavar="N", type=click.IntRange(min=1), default=6, show_default=True, help="Pictures a row."
)
@click.option(
    "--count", metavar="N", type=click.IntRange(min=1), default=600, show_default=True, help="Most pictures to draw."
)
@shared.model_option
@shared.faces_option
@shared.threshold_option
@shared.device_option
def command(
    paths: tuple[str, ...], out: Path, columns: int, count: int, model: str, device: str, **options: Any
) -> None:
    """Draw a contact sheet of pictures, with faces framed, scores and names."""
    from deepfake_detect.cli.batch import load_detector, predict_each, report_error
    from deepfake_detect.cli.console import plural, with_bar, write_line
    from deepfake_detect.cli.paths import expand_paths
    from deepfake_detect.drawing.gallery import draw_sheet

    shared.check_picture_ending("--out", out)
    names = expand_paths(paths)
    scored = predict_each(load_detector(model, device=device), names[: count + 1], **options)
    predictions = list(with_bar(scored, total=min(len(names), count + 1), lines_on_stdout=False))
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(predictions, columns=columns, count=count).save(out, quality=90)
    failed = [prediction for prediction in predictions[:count] if prediction.error]
    for prediction in failed:
        report_error(prediction.name, prediction.error)
    write_line(f"{out}: {plural(len(predictions[:count]), 'picture')} of {len(names):,}")
    sys.exit(1 if failed else 0)
