"""Define ``deepfake-detect stability``: score pictures again after the ways in which pictures are delivered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@shared.model_option
@shared.style_options
@shared.device_option
@shared.save_option
def command(paths: tuple[str, ...], model: str, device: str, save: Path | None, **options: Any) -> None:
    """Score pictures as they are and after JPEG, WebP, resizing, cropping and a screenshot."""
    from deepfake_detect.cli.batch import Outcome, analyse_each, load_detector, outcome_of, print_outcomes
    from deepfake_detect.cli.paths import expand_paths
    from deepfake_detect.cli.render import STABILITY

    style, names = shared.style_from(options), expand_paths(paths)
    detector = load_detector(model, device=device)

    def measure(name: str, item: Any) -> Outcome:
        return outcome_of(name, replace(detector.stability(item), name=name))

    print_outcomes(analyse_each(names, measure), total=len(names), style=style, form=STABILITY, save=save)
