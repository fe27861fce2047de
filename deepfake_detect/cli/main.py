"""What can be asked from the command line?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from deepfake_detect._version import __version__
from deepfake_detect.cli.learn import DEFAULT_MODEL, LEARNING
from deepfake_detect.errors import DeepfakeDetectError, LayerNotFound, UnknownModel, UnknownWeights

_Command = TypeVar("_Command", bound=Callable[..., Any])
_STYLES = ("json", "jsonl", "csv")


class _Commands(click.Group):
    """Turn our errors into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (LayerNotFound, UnknownModel, UnknownWeights) as error:
            raise click.UsageError(str(error)) from None
        except DeepfakeDetectError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from None
        except KeyboardInterrupt:
            ctx.exit(130)


def _output_options(command: _Command) -> _Command:
    for option, words in (
        ("--csv", "Print a table with a header."),
        ("--jsonl", "Print one JSON object a line, as they come."),
        ("--json", "Print one JSON array."),
    ):
        command = click.option(option, is_flag=True, help=words)(command)
    return command


_EXIT_STATUS = """\b
Exit status:
  0  every picture was scored; "no-face" is an answer, too
  1  some inputs could not be scored: each is named on stderr and in the output
  2  wrong usage"""


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXIT_STATUS,
)
@click.version_option(__version__, prog_name="deepfake-detect")
def main() -> None:
    """Say how likely pictures of faces are to be deepfakes."""


@main.command(epilog=_EXIT_STATUS)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--model", metavar="M", default=DEFAULT_MODEL, show_default=True, help="Name, folder or owner/name.")
@click.option(
    "--faces",
    type=click.Choice(["auto", "all", "largest", "none"]),
    default="auto",
    show_default=True,
    help="Which faces are scored; none scores the picture as it is.",
)
@click.option("--threshold", metavar="T", type=click.FloatRange(0, 1), help="Score from which the label is fake.")
@_output_options
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Faces the model gets at once.")
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Threads that open pictures.")
@click.option("--device", metavar="D", default="auto", show_default=True, help="cuda, mps or cpu.")
@click.option("--save", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Keep drawings and JSON.")
def predict(paths: tuple[str, ...], save: Path | None, **options: Any) -> None:
    """Score the faces of pictures.

    PATH is a file, a folder (with all below it), a pattern in quotes, a URL, or - for standard input.
    """
    from deepfake_detect.cli.paths import expand_paths, open_stdin
    from deepfake_detect.cli.render import PREDICTION, save_result

    style, pictures = _style(options), expand_paths(paths)
    detector = _detector(options.pop("model"), device=options.pop("device"))
    predictions = detector.predict_many(open_stdin(pictures), on_error="yield", **options)
    failed = []

    def rows() -> Iterator[dict[str, Any]]:
        with closing(predictions):
            for name, prediction in zip(pictures, _bar(predictions, len(pictures)), strict=True):
                named = replace(prediction, name=name)
                if named.error:
                    failed.append(_complain(name, named.error))
                elif save:
                    save_result(named, save)
                yield named.to_dict()

    _print(rows(), style, PREDICTION)
    sys.exit(1 if failed else 0)


@main.command(epilog=_EXIT_STATUS)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@_output_options
def faces(paths: tuple[str, ...], **options: Any) -> None:
    """Find the faces of pictures.

    PATH is a file, a folder (with all below it), a pattern in quotes, a URL, or - for standard input.
    """
    from deepfake_detect.cli.paths import expand_paths, open_stdin
    from deepfake_detect.cli.render import FACES
    from deepfake_detect.faces.finder import FaceFinder
    from deepfake_detect.inputs.image import open_image

    style, pictures = _style(options), expand_paths(paths)
    finder, failed = FaceFinder(), []

    def rows() -> Iterator[dict[str, Any]]:
        for name, image in zip(pictures, _bar(open_stdin(pictures), len(pictures)), strict=True):
            try:
                picture = open_image(image)
            except DeepfakeDetectError as error:
                failed.append(_complain(name, error))
                told = {"type": type(error).__name__, "message": str(error)}
                yield {"name": name, "size_hw": None, "faces": [], "error": told}
            else:
                found = [face.to_dict() for face in finder.find(picture.pixels, border=True)]
                yield {"name": name, "size_hw": list(picture.size_hw), "faces": found, "error": None}

    _print(rows(), style, FACES)
    sys.exit(1 if failed else 0)


@main.command(epilog=_EXIT_STATUS)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--model", metavar="M", default=DEFAULT_MODEL, show_default=True, help="Name, folder or owner/name.")
@_output_options
@click.option("--device", metavar="D", default="auto", show_default=True, help="cuda, mps or cpu.")
@click.option("--save", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Keep drawings and JSON.")
def stability(paths: tuple[str, ...], model: str, device: str, save: Path | None, **options: Any) -> None:
    """Score pictures as they are and as JPEG, WebP, half the size, cropped, and as a screenshot.

    PATH is a file, a folder (with all below it), a pattern in quotes, a URL, or - for standard input.
    """
    from deepfake_detect.cli.paths import expand_paths, open_stdin
    from deepfake_detect.cli.render import STABILITY, save_result

    style, pictures = _style(options), expand_paths(paths)
    detector, failed = _detector(model, device=device), []

    def rows() -> Iterator[dict[str, Any]]:
        for name, image in zip(pictures, _bar(open_stdin(pictures), len(pictures)), strict=True):
            try:
                found = replace(detector.stability(image), name=name)
            except DeepfakeDetectError as error:
                failed.append(_complain(name, error))
                yield {"name": name, "label": "error", "error": {"type": type(error).__name__, "message": str(error)}}
            else:
                if save:
                    save_result(found, save)
                yield {**found.to_dict(), "error": None}

    _print(rows(), style, STABILITY)
    sys.exit(1 if failed else 0)


@main.command(epilog=_EXIT_STATUS)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--model", metavar="M", default=DEFAULT_MODEL, show_default=True, help="Name, folder or owner/name.")
@click.option("--max-frames", metavar="N", type=click.IntRange(min=1), default=32, show_default=True, help="Scored.")
@click.option("--every-s", metavar="S", type=click.FloatRange(0, min_open=True), help="One each so many seconds.")
@click.option("--threshold", metavar="T", type=click.FloatRange(0, 1), help="Score from which the label is fake.")
@_output_options
@click.option("--device", metavar="D", default="auto", show_default=True, help="cuda, mps or cpu.")
@click.option("--save", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Keep drawings and JSON.")
def video(paths: tuple[str, ...], model: str, device: str, save: Path | None, **options: Any) -> None:
    """Score videos by some of their frames.

    PATH is a file, a folder (with all below it), or a pattern in quotes. Exit status 1, too, where frames are lost.
    """
    from deepfake_detect.cli.paths import expand_paths
    from deepfake_detect.cli.render import VIDEO, save_result
    from deepfake_detect.inputs.frames import VIDEO_SUFFIXES

    style, videos = _style(options), expand_paths(paths, suffixes=VIDEO_SUFFIXES)
    detector, failed = _detector(model, device=device), []

    def rows() -> Iterator[dict[str, Any]]:
        for name in _bar(videos, len(videos)):
            try:
                found = detector.predict_video(name, **options)
            except DeepfakeDetectError as error:
                failed.append(_complain(name, error))
                yield {"name": name, "label": "error", "error": {"type": type(error).__name__, "message": str(error)}}
            else:
                if found.error:
                    failed.append(_complain(name, found.error))
                if save:
                    save_result(found, save)
                yield found.to_dict()

    _print(rows(), style, VIDEO)
    sys.exit(1 if failed else 0)


@main.command(epilog=_EXIT_STATUS)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--model", metavar="M", default=DEFAULT_MODEL, show_default=True, help="Name, folder or owner/name.")
@click.option(
    "--method",
    metavar="M",
    default="grad-cam",
    show_default=True,
    help="Or grad-cam++, hirescam, eigen-cam, integrated-gradients, occlusion.",
)
@click.option("--layer", metavar="L", help="Of the model; the last that gives a map unless said.")
@click.option("--target", type=click.Choice(["fake", "real"]), help="Show what speaks for it; the verdict unless said.")
@click.option(
    "--faithfulness",
    type=click.Choice(["quick", "full", "off"]),
    default="quick",
    show_default=True,
    help="How thoroughly the heat is checked.",
)
@_output_options
@click.option("--device", metavar="D", default="auto", show_default=True, help="cuda, mps or cpu.")
@click.option("--save", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Keep drawings and JSON.")
def explain(paths: tuple[str, ...], model: str, device: str, save: Path | None, **options: Any) -> None:
    """Show where in pictures the score comes from, and whether that is evidence.

    PATH is a file, a folder (with all below it), a pattern in quotes, a URL, or - for standard input.
    """
    from deepfake_detect.cli.paths import expand_paths, open_stdin
    from deepfake_detect.cli.render import EXPLANATION, save_result

    style, pictures = _style(options), expand_paths(paths)
    detector, failed = _detector(model, device=device), []

    def rows() -> Iterator[dict[str, Any]]:
        for name, image in zip(pictures, _bar(open_stdin(pictures), len(pictures)), strict=True):
            try:
                found = detector.explain(image, **options)
            except LayerNotFound:
                raise
            except DeepfakeDetectError as error:
                failed.append(_complain(name, error))
                yield {"name": name, "label": "error", "error": {"type": type(error).__name__, "message": str(error)}}
            except ValueError as error:  # the method
                raise click.UsageError(str(error)) from None
            else:
                found = replace(found, prediction=replace(found.prediction, name=name))
                if save:
                    save_result(found, save)
                yield {**found.to_dict(), "error": None}

    _print(rows(), style, EXPLANATION)
    sys.exit(1 if failed else 0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the cards as JSON.")
def models(as_json: bool) -> None:
    """List the weights in the package, and the architectures."""
    import json

    from deepfake_detect.models.registry import list_models
    from deepfake_detect.weights.bundle import find_bundle, list_pretrained

    cards = [find_bundle(name).card for name in list_pretrained()]
    if as_json:
        told = {"pretrained": [card.to_dict() for card in cards], "architectures": list_models()}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    click.echo("Weights in the package:")
    for card in cards:
        input_px = f"{card.preprocessing.size_px} px"
        click.echo(f"  {card.id:<26}  {card.architecture:<16}  {input_px:>6}  {card.licence}")
    click.echo("Architectures (and any network of timm, as timm:NAME):")
    click.echo(f"  {', '.join(list_models())}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def doctor(as_json: bool) -> None:
    """Check the installation, and that the packaged weights still score as they did.

    Exit status 1 where there is a problem.
    """
    from deepfake_detect.health import doctor as examine

    report = examine()
    click.echo(report.to_json(indent=2) if as_json else str(report))
    sys.exit(0 if report.ok else 1)


for command in LEARNING:
    main.add_command(command)


def _style(options: dict[str, Any]) -> str:
    chosen = [style for style in _STYLES if options.pop(style)]
    if len(chosen) > 1:
        raise click.UsageError(f"--{' and --'.join(chosen)} exclude one another; choose one")
    return chosen[0] if chosen else "text"


def _detector(model: str, *, device: str) -> Any:
    from deepfake_detect.detector import Detector

    try:
        return Detector.from_pretrained(model, device=device)
    except DeepfakeDetectError:
        raise
    except ValueError as error:  # the device
        raise click.UsageError(str(error)) from None


def _bar(results: Iterable[Any], total: int) -> Iterable[Any]:
    """Show progress on stderr, unless lines on the terminal show it already."""
    from tqdm import tqdm

    shown = total > 1 and sys.stderr.isatty() and not sys.stdout.isatty()
    bar: Iterable[Any] = tqdm(results, total=total, leave=False, disable=not shown)
    return bar


def _complain(name: str, error: DeepfakeDetectError) -> str:
    """Name a bad input on stderr, above the bar where there is one."""
    from tqdm import tqdm

    said = str(error)
    tqdm.write(_printable(said if name in said else f"{name}: {said}"), file=sys.stderr)
    return name


def _print(rows: Iterator[dict[str, Any]], style: str, form: Any) -> None:
    from deepfake_detect.cli.render import render_results

    for line in render_results(rows, style=style, form=form):
        click.echo(_printable(line))


def _printable(text: str) -> str:
    """Escape what no terminal or file can take, bytes of a file name that are not UTF-8, as JSON does."""
    return text.encode("utf-8", "backslashreplace").decode()
