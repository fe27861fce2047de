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
@click.option(
    "--save",
    metavar="DEST",
    type=shared.UserPath(path_type=Path),
    help="Write the drawn picture, the JSON and the video with its faces framed of each into the folder DEST; or, of a "
    "single video, the last alone, where DEST ends in .mp4.",
)
def command(paths: tuple[str, ...], model: str, device: str, save: Path | None, **options: Any) -> None:
    """Score videos by some of their frames.

    PATH is a file, a folder (with all below it), or a pattern in quotes. Exit status 1 also where frames are lost.
    """
    from deepfake_detect.cli.batch import Outcome, analyse_each, load_detector, outcome_of, print_outcomes
    from deepfake_detect.cli.paths import expand_paths, suffixes_of
    from deepfake_detect.cli.render import VIDEO, save_result
    from deepfake_detect.video.annotated import write_annotated

    style, names = shared.style_from(options), expand_paths(paths, suffixes=suffixes_of("video"))
    film = save if save is not None and save.suffix.lower() == ".mp4" else None
    if film is not None and len(names) > 1:
        raise click.UsageError(f"--save {save} is one file, but there are {len(names)} videos; name a folder")
    if film is None and save is not None and save.is_file():
        raise click.UsageError(f"--save {save} is a file, expected a folder, or a name that ends in .mp4")
    detector = load_detector(model, device=device)

    def score(name: str, item: Any) -> Outcome:
        prediction = detector.predict_video(name, save=film, progress=True, **options)
        if save is not None and film is None:
            write_annotated(
                prediction.to_scored_video(), save_result(prediction, save).with_suffix(".mp4"), progress=True
            )
        return outcome_of(name, prediction)

    outcomes = analyse_each(names, score, expected="video")
    print_outcomes(outcomes, total=len(names), style=style, form=VIDEO)
