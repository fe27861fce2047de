"""Define ``deepfake-detect models``: list the packaged weights and the architectures."""

from __future__ import annotations

import json

import click

from deepfake_detect.cli.options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the weights in the package, and the architectures."""
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.models.registry import list_models
    from deepfake_detect.weights.bundle import find_bundle, list_pretrained

    cards = [find_bundle(name).card for name in list_pretrained()]
    if as_json:
        content = {"pretrained": [card.to_dict() for card in cards], "architectures": list_models()}
        write_line(json.dumps(content, indent=2, ensure_ascii=False))
        return
    write_line("Weights in the package:")
    for card in cards:
        input_px = f"{card.preprocessing.size_px} px"
        write_line(f"  {card.id:<26}  {card.architecture:<16}  {input_px:>6}  {card.licence}")
    write_line("Architectures (and any network of timm, as timm:NAME):")
    write_line(f"  {', '.join(list_models())}")
