"""Define ``deepfake-detect download``: copy weights to a folder, for a machine without a network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepfake_detect.cli.options import FOLDER

if TYPE_CHECKING:
    from deepfake_detect.weights.bundle import Bundle


@click.command(epilog="MODEL is a packaged name, a folder, or owner/name[@revision] on the Hub.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--to", "folder", metavar="DIR", type=FOLDER, required=True, help="Folder that gets one for each model.")
def command(models: tuple[str, ...], folder: Path) -> None:
    """Copy weights to a folder, for a machine without a network.

    The bytes are checked against the sha256 on the card. Use them with --model DIR/NAME@VERSION.
    """
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.weights.bundle import find_bundle, read_weights

    for model in models:
        bundle = find_bundle(model)
        size = sum(len(read_weights(network)) for network in bundle.networks)  # takes the sha256
        target = folder / bundle.card.id
        _copy(bundle, target)
        write_line(f"{bundle.card.id}: {size / 1e6:.1f} MB in {target}")


def _copy(bundle: Bundle, target: Path) -> None:
    """Copy card and weights, each in one step; the card last, so that a copy that was cut off does not load."""
    from deepfake_detect.system.atomic import whole_file
    from deepfake_detect.weights.card import CARD_FILE

    target.mkdir(parents=True, exist_ok=True)
    for name in (*(network.file for network in bundle.networks), CARD_FILE):
        if not (target / name).exists() or not os.path.samefile(bundle.folder / name, target / name):
            with whole_file(target / name) as partial:
                shutil.copyfile(bundle.folder / name, partial)
