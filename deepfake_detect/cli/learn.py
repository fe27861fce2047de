"""What can be taught, measured and calibrated from the command line?"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_MODEL = "xception-fakefaces"
"""The weights that answer where nobody names any."""

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_DATA = """DATA is a folder of class folders (real/, fake/ ...), or a table: CSV or JSONL with the columns file,label
and, where you have them, group and split. A video in it stands for frames of one group."""


def _options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_data = click.argument("data", metavar="DATA")
_model = click.option(
    "--model", metavar="M", default=DEFAULT_MODEL, show_default=True, help="Name, folder or owner/name."
)
_device = click.option("--device", metavar="D", default="auto", show_default=True, help="cuda, mps or cpu.")
_out = click.option("--out", metavar="DIR", type=_FOLDER, required=True, help="Folder of the new bundle.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_split = click.option("--split", metavar="S", help="Only this split of the table, such as test.")

_teaching = _options(
    click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Passes over the data."),
    click.option("--lr", metavar="R", type=click.FloatRange(min=0, min_open=True), help="Highest learning rate."),
    click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Pictures in a step; found by trial."),
    click.option("--optimizer", type=click.Choice(["adamw", "adam", "nadam", "sgd"]), help="adamw unless said."),
    click.option("--freeze", metavar="F", help="backbone, or for how many epochs the last layer learns alone."),
    click.option(
        "--augment",
        type=click.Choice(["none", "light", "default", "strong"]),
        default="default",
        show_default=True,
        help="How much the training pictures are changed.",
    ),
    click.option("--self-blend", metavar="X", type=click.FloatRange(0, 1), help="Fakes made of so many of the reals."),
    click.option(
        "--faces",
        type=click.Choice(["keep-largest", "drop", "all"]),
        default="keep-largest",
        show_default=True,
        help="What becomes of pictures with several faces.",
    ),
    click.option("--valid", metavar="X", type=click.FloatRange(0, 1), help="Share of the groups to validate on."),
    click.option("--patience", metavar="N", type=click.IntRange(min=1), help="Stop after N epochs without gain."),
    click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Of everything that is drawn."),
    click.option("--strict", is_flag=True, help="Refuse data in which the audit finds an error."),
    click.option("--no-audit", is_flag=True, help="Do not look at the data first."),
    click.option("--resume", is_flag=True, help="Go on from the last epoch in DIR."),
    _device,
)


@click.command("fine-tune", epilog=_DATA)
@_data
@_model
@_out
@_teaching
def fine_tune(data: str, model: str, out: Path, device: str, **options: Any) -> None:
    """Teach a detector on your own pictures."""
    with _told_on_stderr():
        detector = _detector(model, device).fine_tune(data, out=out, **_chosen(options))
    _say_taught(detector, out)


@click.command(epilog=_DATA)
@_data
@click.option("--arch", metavar="A", default="xception", show_default=True, help="A name of `models`, or timm:NAME.")
@click.option("--start", metavar="W", help="imagenet, a .safetensors file, or a bundle; random where not given.")
@click.option("--size-px", metavar="N", type=click.IntRange(min=16), help="Side of the input.")
@click.option("--dropout", metavar="X", type=click.FloatRange(0, 1, max_open=True), help="Share that is dropped.")
@_out
@_teaching
def train(data: str, arch: str, out: Path, **options: Any) -> None:
    """Train a new detector."""
    from deepfake_detect.detector import Detector

    with _told_on_stderr():
        detector = Detector.train(data, model=arch, out=out, **_chosen(options))
    _say_taught(detector, out)


@click.command(epilog=_DATA)
@_data
@_model
@_split
@click.option("--threshold", metavar="T", type=click.FloatRange(0, 1), help="Score from which the label is fake.")
@click.option("--robustness", is_flag=True, help="Measure compressed, small, blurred copies, too.")
@click.option("--save", metavar="DIR", type=_FOLDER, help="Keep the report, its scores, curves and galleries.")
@_json
@_device
def evaluate(
    data: str, model: str, device: str, save: Path | None, as_json: bool, robustness: bool, **options: Any
) -> None:
    """Measure a detector on labelled pictures that it has never seen."""
    with _told_on_stderr():
        report = _detector(model, device).evaluate(data, robustness="all" if robustness else (), **_given(options))
    if save:
        report.save(save)
    click.echo(report.to_json(indent=2) if as_json else str(report))
    sys.exit(1 if report.unreadable else 0)


@click.command(epilog=_DATA)
@_data
@click.option("--strict", is_flag=True, help="Exit status 1 where there is an error.")
@click.option("--save", metavar="FILE", type=_FILE, help="Keep the report as .json, .txt or .html.")
@_json
def audit(data: str, strict: bool, save: Path | None, as_json: bool) -> None:
    """Look for what is wrong with a data set before it is learned from."""
    from deepfake_detect.auditing.checks import audit as examine

    with _told_on_stderr():
        report = examine(data)
    if save:
        report.save(save)
    click.echo(report.to_json(indent=2) if as_json else str(report))
    sys.exit(1 if strict and not report.ok else 0)


@click.command()
@_data
@_model
@_out
@click.option(
    "--max-false-alarm", metavar="X", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.01,
    show_default=True, help="Share of real photographs that may be called fake.",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["conformal", "platt", "temperature", "platt+conformal"]), help="Chosen by the data."
)
@_json
@_device
def calibrate(data: str, model: str, out: Path, device: str, as_json: bool, **options: Any) -> None:
    """Set the threshold from your own real photographs, or the score from labelled ones.

    DATA is a folder of real photographs; or labelled data as for fine-tune.
    """
    import json

    with _told_on_stderr():
        detector = _detector(model, device).calibrate(data, **_given(options))
    detector.save_pretrained(out)
    if as_json:
        click.echo(json.dumps(detector.calibration, indent=2))
    else:
        click.echo(f"{detector.calibration['note']}\nthreshold {detector.card.threshold:.4f}, kept in {out}")


@click.command(epilog=_DATA)
@_data
@click.option("--arch", "archs", metavar="A", multiple=True, help="Architecture to try; may be given again.")
@click.option("--trials", metavar="N", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Of each trial.")
@click.option("--seed", metavar="N", type=int, default=0, show_default=True)
@click.option("--out", metavar="DIR", type=_FOLDER, required=True, help="Keeps the trials; the same command goes on.")
@_json
@_device
def tune(data: str, archs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Search for the settings that train the best detector."""
    import json

    from deepfake_detect.training.search import tune as search

    with _told_on_stderr():
        trials = search(data, model=archs or "meso4", **_given(options))
    if as_json:
        click.echo(json.dumps([trial.to_dict() for trial in trials], indent=2))
    else:
        click.echo("\n".join(str(trial) for trial in trials))


LEARNING = (fine_tune, train, evaluate, audit, calibrate, tune)
"""The commands of this room, for the one that holds them all."""


def _detector(model: str, device: str) -> Any:
    from deepfake_detect.detector import Detector

    return Detector.from_pretrained(model, device=device)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what nobody said, so that the library's own default counts."""
    return {name: value for name, value in options.items() if value is not None}


def _chosen(options: dict[str, Any]) -> dict[str, Any]:
    strict, skipped = options.pop("strict"), options.pop("no_audit")
    chosen = _given(options)
    if str(chosen.get("freeze", "")).isdecimal():
        chosen["freeze"] = int(chosen["freeze"])
    return {**chosen, "check": "off" if skipped else "strict" if strict else "warn"}


def _say_taught(detector: Any, out: Path) -> None:
    best = max(detector.history, key=lambda epoch: epoch.valid_auc, default=None)
    told = f", validation AUC {best.valid_auc:.3f} in epoch {best.epoch}" if best else ""
    click.echo(f"{detector.card.id}: {len(detector.history)} epochs{told}, kept in {out}")


@contextmanager
def _told_on_stderr() -> Iterator[None]:
    """Show on stderr what the library logs while a command runs."""
    log, handler = logging.getLogger("deepfake_detect"), logging.StreamHandler(sys.stderr)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except ValueError as error:
        raise _usage(error) from None
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _usage(error: ValueError) -> Exception:
    """Give a wrong option back as wrong usage; errors that say more stay what they are."""
    from deepfake_detect.errors import DeepfakeDetectError

    return error if isinstance(error, DeepfakeDetectError) else click.UsageError(str(error))
