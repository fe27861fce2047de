"""Define the arguments and options that several commands share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

DEFAULT_MODEL = "xception-fakefaces"
"""The weights that are used where no ``--model`` is given."""

EXIT_STATUS = """\b
Exit status:
  0  every picture was scored; "no-face" is an answer, too
  1  some inputs could not be scored: each is named on stderr and in the output
  2  wrong usage"""

PATH_HELP = (
    "PATH is a file, a folder (with all below it), a pattern in quotes, a URL, or - for standard input."
    f"\n\n{EXIT_STATUS}"
)

DATA_HELP = """DATA is a folder of class folders (real/, fake/ ...), or a table: CSV or JSONL with the columns
file,label and, where you have them, group and split. A video stands for its frames, which form one group."""

OPTIMIZERS = click.Choice(["adamw", "adam", "nadam", "sgd"])
AUGMENTATIONS = click.Choice(["none", "light", "default", "strong", "keras"])
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


class UserPath(click.Path):
    """A path to write to; ``~`` is expanded here, since shells leave it alone in ``--out=~/mine``."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Expand the path, and check that it is no file where a folder is meant, or the reverse."""
        return super().convert(os.path.expanduser(value), param, ctx)


def check_folder(ctx: click.Context, param: click.Parameter, folder: Path | None) -> Path | None:
    """Refuse a folder in which no file can be made, before anything is scored; it is not made yet.

    Raises:
        click.BadParameter: Its nearest parent that exists is no folder, or cannot be written to.
    """
    if folder is None:
        return None
    parent = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    try:
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise click.BadParameter(f"{folder} cannot be written to ({error.strerror}); choose another folder") from None
    return folder


FOLDER = UserPath(file_okay=False, path_type=Path)
FILE = UserPath(dir_okay=False, path_type=Path)


def combine(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Make one decorator of several, which keeps their order in ``--help``."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


paths_argument = click.argument("paths", metavar="PATH...", nargs=-1, required=True)
data_argument = click.argument("data", metavar="DATA")

model_option = click.option(
    "--model",
    metavar="M",
    default=DEFAULT_MODEL,
    show_default=True,
    help="Packaged name, folder, ONNX file, or owner/name on the Hub.",
)
device_option = click.option(
    "--device", metavar="D", default="auto", show_default=True, help="Device to compute on: cuda, mps or cpu."
)
faces_option = click.option(
    "--faces",
    type=click.Choice(["auto", "all", "largest", "none"]),
    default="auto",
    show_default=True,
    help="Which faces to score; none scores the whole picture.",
)
threshold_option = click.option(
    "--threshold", metavar="T", type=click.FloatRange(0, 1), help="Score from which the label is fake."
)
method_option = click.option(
    "--method",
    metavar="M",
    help="localise, grad-cam, grad-cam++, hirescam, eigen-cam, integrated-gradients or occlusion "
    "(default: the first of these that the model has).",
)
faithfulness_option = click.option(
    "--faithfulness",
    type=click.Choice(["quick", "full", "off"]),
    default="quick",
    show_default=True,
    help="How thoroughly to check the heat map.",
)
save_option = click.option(
    "--save",
    metavar="DIR",
    type=FOLDER,
    callback=check_folder,
    help="Write the drawn picture and the JSON of each result into DIR.",
)
bundle_option = click.option("--out", metavar="DIR", type=FOLDER, required=True, help="Folder of the new bundle.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
seed_option = click.option(
    "--seed", metavar="N", type=int, default=0, show_default=True, help="Seed of every random choice."
)
style_options = combine(
    click.option("--json", is_flag=True, help="Print one JSON array."),
    click.option("--jsonl", is_flag=True, help="Print one JSON object per line, as results come."),
    click.option("--csv", is_flag=True, help="Print a table with a header."),
)
training_options = combine(
    click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Passes over the training data."),
    click.option("--lr", metavar="R", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate."),
    click.option(
        "--batch-size",
        metavar="N",
        type=click.IntRange(min=1),
        help="Pictures per step (default: found by trial on this machine).",
    ),
    click.option("--optimizer", type=OPTIMIZERS, help="Default: adamw."),
    click.option(
        "--freeze",
        metavar="F",
        help="'backbone' trains the last layer only; an integer N freezes the backbone for the first N epochs.",
    ),
    click.option(
        "--augment",
        type=AUGMENTATIONS,
        default="default",
        show_default=True,
        help="Strength of augmentation of the training pictures.",
    ),
    click.option(
        "--self-blend",
        metavar="X",
        type=click.FloatRange(0, 1),
        help="Share of real images turned into self-blended fakes.",
    ),
    click.option(
        "--faces",
        type=click.Choice(["keep-largest", "drop", "all", "none"]),
        help="How to treat pictures with several faces (default: keep-largest); none trains on whole pictures.",
    ),
    click.option("--valid", metavar="X", type=click.FloatRange(0, 1), help="Share of the groups used for validation."),
    click.option(
        "--patience", metavar="N", type=click.IntRange(min=1), help="Stop after N epochs without improvement."
    ),
    seed_option,
    click.option("--strict", is_flag=True, help="Refuse data in which the audit finds an error."),
    click.option("--no-audit", is_flag=True, help="Skip the audit of the data."),
    click.option("--resume", is_flag=True, help="Continue from the last epoch kept in DIR."),
    device_option,
)


def check_picture_ending(option: str, path: Path) -> None:
    """Refuse the name of a picture to write whose ending says no known format.

    Raises:
        click.UsageError: It is none of .jpg, .jpeg, .png and .webp.
    """
    if path.suffix.lower() not in _PICTURES:
        raise click.UsageError(f"{option} {path} ends in {path.suffix!r}, expected {', '.join(_PICTURES)}")


def style_from(options: dict[str, Any]) -> str:
    """Take the output style out of the options of `style_options`.

    Raises:
        click.UsageError: More than one was chosen.
    """
    chosen = [style for style in ("json", "jsonl", "csv") if options.pop(style)]
    if len(chosen) > 1:
        raise click.UsageError(f"--{' and --'.join(chosen)} exclude one another; choose one")
    return chosen[0] if chosen else "text"


def without_none(options: dict[str, Any]) -> dict[str, Any]:
    """Drop the options that were not given, so that the library's own defaults apply."""
    return {name: value for name, value in options.items() if value is not None}


def training_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Turn the options of `training_options` into arguments of `Detector.fine_tune`."""
    strict, skip_audit = options.pop("strict"), options.pop("no_audit")
    arguments = without_none(options)
    if str(arguments.get("freeze", "")).isdecimal():
        arguments["freeze"] = int(arguments["freeze"])
    return {**arguments, "check": "off" if skip_audit else "strict" if strict else "warn"}
