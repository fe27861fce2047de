"""Define ``deepfake-detect video``: score videos by some of their frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.EXIT_STATUS)
@shared.paths_argument
@shared.model_option
@click.option(
    "--max-frames",
    metavar="N",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Maximum number of frames to score.",
)
@click.option(
    "--every-s", metavar="S", type=click.FloatRange(0, min_open=True), help="Score one frame every S seconds."
)
@shared.threshold_option
@shared.style_options
@shared.device_option
@shared.save_option
def command(paths: tuple[str, ...], model: str, device: str, save: Path | None, **options: Any) -> None:
    """Score videos by some of their frames.

    PATH is a file, a folder (with all below it), or a pattern in quotes. Exit status 1 also where frames are lost.
    """
    from deepfake_detect.cli.batch import Outcome, analyse_each, load_detector, outcome_of, print_outcomes
    from deepfake_detect.cli.paths import expand_paths, suffixes_of
    from deepfake_detect.cli.render import VIDEO

    style, names = shared.style_from(options), expand_paths(paths, suffixes=suffixes_of("video"))
    detector = load_detector(model, device=device)

    def score(name: str, item: Any) -> Outcome:
        return outcome_of(name, detector.predict_video(name, **options))

    outcomes = analyse_each(names, score, expected="video")
    print_outcomes(outcomes, total=len(names), style=style, form=VIDEO, save=save)
