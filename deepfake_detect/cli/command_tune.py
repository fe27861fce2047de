"""Define ``deepfake-detect tune``: search for the settings that train the best detector."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from deepfake_detect.cli import options as shared


class Values(click.ParamType[Any]):
    """A value to try, or a range ``LOW..HIGH``.

    Args:
        number: ``int`` or ``float``.
    """

    name = "value"

    def __init__(self, number: Callable[[str], float]) -> None:
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn the text into a number, or into the two ends of a range."""
        low, dots, high = str(value).partition("..")
        try:
            return (self._number(low), self._number(high)) if dots else self._number(low)
        except ValueError:
            return self.fail(f"{value!r} is neither a number nor a range LOW..HIGH", param, ctx)


_searched = shared.combine(
    click.option(
        "--optimizer", metavar="O", multiple=True, type=shared.OPTIMIZERS, help="adamw, adam, nadam or sgd; repeatable."
    ),
    click.option("--lr", metavar="R", multiple=True, type=Values(float), help="Peak learning rate, or LOW..HIGH."),
    click.option(
        "--width",
        "hidden",
        metavar="N",
        multiple=True,
        type=Values(int),
        help="Hidden units before the logit; 0: none.",
    ),
    click.option("--dropout", metavar="X", multiple=True, type=Values(float), help="Dropout rate, or LOW..HIGH."),
    click.option("--size-px", metavar="N", multiple=True, type=Values(int), help="Side of the input in pixels."),
    click.option(
        "--augment", metavar="A", multiple=True, type=shared.AUGMENTATIONS, help="none, light, default, strong."
    ),
)


@click.command(
    epilog=f"{shared.DATA_HELP}\n\nOptions that set a value may be repeated: each value is tried. Settings that "
    "are not named vary as in the library (deepfake_detect.training.search.SPACE)."
)
@shared.data_argument
@click.option("--arch", "archs", metavar="A", multiple=True, help="Architecture to try; repeatable.")
@_searched
@click.option(
    "--trials", metavar="N", type=click.IntRange(min=1), default=20, show_default=True, help="Number of trainings."
)
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Epochs of each trial.")
@shared.seed_option
@click.option(
    "--out",
    metavar="DIR",
    type=shared.FOLDER,
    required=True,
    help="Folder of the trials; the same command continues a search.",
)
@shared.json_option
@shared.device_option
def command(data: str, archs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Search for the settings that train the best detector."""
    from deepfake_detect.cli.console import log_on_stderr, write_line
    from deepfake_detect.system.malloc import kept_memory
    from deepfake_detect.training.search import SPACE, tune

    chosen = {name: options.pop(name) for name in ("optimizer", "lr", "hidden", "dropout", "size_px", "augment")}
    space = {**SPACE, **{name: _space(name, values) for name, values in chosen.items() if values}}
    with log_on_stderr(), kept_memory():
        trials = tune(data, model=archs or "meso4", space=space, **shared.without_none(options))
    if as_json:
        write_line(json.dumps([trial.to_dict() for trial in trials], indent=2))
    else:
        write_line("\n".join(str(trial) for trial in trials))


def _space(name: str, values: tuple[Any, ...]) -> Any:
    """Return what `tune` takes: a range, or a list of values.

    Raises:
        click.UsageError: A range beside other values.
    """
    if not any(isinstance(value, tuple) for value in values):
        return list(values)
    if len(values) > 1:
        option = "width" if name == "hidden" else name.replace("_", "-")
        raise click.UsageError(f"--{option} takes one range or several values, but not both")
    return values[0]
