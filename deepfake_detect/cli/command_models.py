"""Define ``deepfake-detect models``: list the packaged weights and the architectures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from deepfake_detect.cli.options import json_option

if TYPE_CHECKING:
    from deepfake_detect.weights.bundle import Bundle

_SPEED_FILE = "speed.json"
_COLUMNS = ("weights", "AUC", "ms/face", "MB", "input", "architecture", "licence")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the weights in the package, with AUC, speed, size and licence, and the architectures."""
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.models.names import ARCHITECTURES
    from deepfake_detect.weights.bundle import find_bundle, list_pretrained

    bundles, speed = [find_bundle(name) for name in list_pretrained()], _speed()
    if as_json:
        cards = [{**bundle.card.to_dict(), **_facts(bundle, speed)} for bundle in bundles]
        content = {"pretrained": cards, "architectures": list(ARCHITECTURES)}
        write_line(json.dumps(content, indent=2, ensure_ascii=False))
        return
    write_line("Weights in the package:")
    rows = [_COLUMNS, *(_cells(bundle, speed) for bundle in bundles)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        write_line("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    write_line("AUC: on the test pictures of all sources, with faces found. ms/face: the network alone,")
    write_line(f"{speed['machine']}. MODELS.md has the details.")
    write_line("Architectures (and any network of timm, as timm:NAME):")
    write_line(f"  {', '.join(ARCHITECTURES)}")


def _cells(bundle: Bundle, speed: dict[str, Any]) -> tuple[str, ...]:
    card, facts = bundle.card, _facts(bundle, speed)
    auc, milliseconds = facts["auc"], facts["ms_per_face"]
    return (
        card.id,
        "-" if auc is None else f"{auc:.3f}",
        "-" if milliseconds is None else f"{milliseconds:g}",
        f"{facts['size_bytes'] / 1e6:.1f}",
        f"{card.preprocessing.size_px} px",
        card.architecture,
        card.licence.partition(":")[0],
    )


def _facts(bundle: Bundle, speed: dict[str, Any]) -> dict[str, Any]:
    return {
        "auc": bundle.card.metrics.get("test", {}).get("all", {}).get("auc"),
        "ms_per_face": speed["ms_per_face"].get(bundle.card.id),
        "size_bytes": sum(network.path.stat().st_size for network in bundle.networks),
    }


def _speed() -> dict[str, Any]:
    """Read how long the packaged networks take: measured once, and kept beside the weights."""
    from deepfake_detect.weights import bundle

    content: dict[str, Any] = json.loads((bundle.PRETRAINED / _SPEED_FILE).read_bytes())
    return content
