"""Define ``deepfake-detect classify``: tell what pictures show."""

from __future__ import annotations

from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@click.option(
    "--model",
    metavar="M",
    help="Folder of a classifier, or owner/name on the Hub (default: animal, face, vehicle or other).",
)
@shared.device_option
@shared.style_options
def command(paths: tuple[str, ...], model: str | None, device: str, **options: Any) -> None:
    """Tell what pictures show: by the packaged classes, or by a classifier of your own."""
    from deepfake_detect.cli.batch import Outcome, analyse_each, print_outcomes
    from deepfake_detect.cli.paths import expand_paths
    from deepfake_detect.cli.render import CONTENT

    style, names = shared.style_from(options), expand_paths(paths)
    classify = _classifier(model, device)

    def tell(name: str, item: Any) -> Outcome:
        return Outcome(name=name, row={"name": name, **classify(item).to_dict(), "error": None})

    failed = {"label": "error", "scores": None, "size_hw": None, "model": model}
    print_outcomes(analyse_each(names, tell, failed=failed), total=len(names), style=style, form=CONTENT)


def _classifier(model: str | None, device: str) -> Any:
    """Return what classifies one picture."""
    if model is None:
        from deepfake_detect.predict.content import classify_content

        return classify_content
    from deepfake_detect.classifier import Classifier

    return Classifier.from_pretrained(model, device=device).predict
