"""Define ``deepfake-detect predict``: score the faces of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@shared.model_option
@shared.faces_option
@shared.threshold_option
@shared.style_options
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Faces per batch of the model.")
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Threads that open pictures.")
@shared.device_option
@shared.save_option
def command(paths: tuple[str, ...], model: str, device: str, save: Path | None, **options: Any) -> None:
    """Score the faces of pictures."""
    from deepfake_detect.cli.batch import load_detector, print_outcomes
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.cli.paths import expand_paths, note_on_videos
    from deepfake_detect.cli.render import PREDICTION

    style, names = shared.style_from(options), expand_paths(paths)
    if note := note_on_videos(paths):
        write_line(note, err=True)
    outcomes = _outcomes(load_detector(model, device=device), names, options)
    print_outcomes(outcomes, total=len(names), style=style, form=PREDICTION, save=save)


def _outcomes(detector: Any, names: list[str], options: dict[str, Any]) -> Iterator[Any]:
    from deepfake_detect.cli.batch import Outcome
    from deepfake_detect.cli.paths import better_error, open_stdin

    predictions = detector.predict_many(open_stdin(names), on_error="yield", **options)
    with closing(predictions):
        for name, prediction in zip(names, predictions, strict=True):
            error = prediction.error and better_error(name, prediction.error)
            named = replace(prediction, name=name, error=error)
            yield Outcome(name=name, row=named.to_dict(), error=error, result=None if error else named)
