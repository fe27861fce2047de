"""Define ``deepfake-detect faces``: find the faces of pictures, without a verdict."""

from __future__ import annotations

from typing import Any

import click

from deepfake_detect.cli import options as shared


@click.command(epilog=shared.PATH_HELP)
@shared.paths_argument
@shared.style_options
def command(paths: tuple[str, ...], **options: Any) -> None:
    """Find the faces of pictures, without a verdict."""
    from deepfake_detect.cli.batch import Outcome, analyse_each, print_outcomes
    from deepfake_detect.cli.paths import expand_paths
    from deepfake_detect.cli.render import FACES
    from deepfake_detect.faces.finder import FaceFinder
    from deepfake_detect.inputs.image import open_image

    style, names, finder = shared.style_from(options), expand_paths(paths), FaceFinder()

    def find(name: str, item: Any) -> Outcome:
        picture = open_image(item)
        faces = [face.to_dict() for face in finder.find(picture.pixels, border=True)]
        return Outcome(name=name, row={"name": name, "size_hw": list(picture.size_hw), "faces": faces, "error": None})

    outcomes = analyse_each(names, find, failed={"size_hw": None, "faces": []})
    print_outcomes(outcomes, total=len(names), style=style, form=FACES)
