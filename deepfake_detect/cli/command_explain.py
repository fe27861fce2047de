"""Define ``deepfake-detect explain``: show where in pictures a score comes from, and whether that is evidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@shared.model_option
@shared.method_option
@click.option("--layer", metavar="L", help="Layer of the model (default: the last one that yields a map).")
@click.option("--target", type=click.Choice(["fake", "real"]), help="Class to explain (default: the predicted one).")
@shared.faithfulness_option
@shared.style_options
@shared.device_option
@shared.save_option
def command(paths: tuple[str, ...], model: str, device: str, save: Path | None, **options: Any) -> None:
    """Show where in pictures the score comes from, and whether that is evidence."""
    from deepfake_detect.cli.batch import Outcome, analyse_each, load_detector, outcome_of, print_outcomes
    from deepfake_detect.cli.paths import expand_paths
    from deepfake_detect.cli.render import EXPLANATION

    style, names = shared.style_from(options), expand_paths(paths)
    detector = load_detector(model, device=device)

    def explain(name: str, item: Any) -> Outcome:
        explanation = detector.explain(item, **options)
        return outcome_of(name, replace(explanation, prediction=replace(explanation.prediction, name=name)))

    print_outcomes(analyse_each(names, explain), total=len(names), style=style, form=EXPLANATION, save=save)
