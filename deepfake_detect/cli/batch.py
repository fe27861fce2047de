"""Run a command over many inputs: print a result for each, save it, and report what failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepfake_detect.cli.console import as_usage_error, with_bar, write_above_bar, write_line
from deepfake_detect.cli.paths import better_error, open_stdin
from deepfake_detect.cli.render import Form, Result, Row, render_results, save_result
from deepfake_detect.drawing.html import visible
from deepfake_detect.errors import DeepfakeDetectError, InvalidOption, LayerNotFound

FAILED: Row = {"label": "error"}
"""What a row says of an input that failed, beside its name and the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one input.

    Attributes:
        name: As given on the command line.
        row: Plain JSON values, printed.
        error: Why it failed, wholly or in part.
        result: What ``--save`` writes; None where nothing can be saved.
    """

    name: str
    row: Row
    error: DeepfakeDetectError | None = None
    result: Result | None = None


def load_detector(model: str, *, device: str) -> Any:
    """Load the weights of ``--model`` onto ``--device``.

    Raises:
        click.UsageError: There is no such device.
    """
    from deepfake_detect.detector import Detector

    try:
        return Detector.from_pretrained(model, device=device)
    except ValueError as error:
        raise as_usage_error(error) from None


def load_model(model: str, *, device: str) -> Any:
    """Load the weights of ``--model``: a detector, or a classifier where the card has classes of its own."""
    from deepfake_detect.classifier import Classifier
    from deepfake_detect.weights.bundle import find_bundle
    from deepfake_detect.weights.card import DETECTS

    bundle = find_bundle(model)
    if bundle.card.classes == DETECTS:
        return load_detector(model, device=device)
    return Classifier(model=bundle, card=bundle.card, revision=bundle.revision, device=device)


def is_classifier(model: Any) -> bool:
    """Return whether `load_model` loaded a classifier."""
    from deepfake_detect.classifier import Classifier

    return isinstance(model, Classifier)


def predict_each(detector: Any, names: Sequence[str], **options: Any) -> Iterator[Any]:
    """Score pictures in order, in batches; each prediction carries the name from the command line, or the error."""
    predictions = detector.predict_many(open_stdin(names), on_error="yield", **options)
    with closing(predictions):
        for name, prediction in zip(names, predictions, strict=True):
            error = prediction.error and better_error(name, prediction.error)
            yield replace(prediction, name=name, error=error)


def outcome_of(name: str, result: Any) -> Outcome:
    """Return the outcome of a result that has ``to_dict`` and can be saved."""
    row: Row = result.to_dict()
    row.setdefault("error", None)
    return Outcome(name=name, row=row, error=getattr(result, "error", None), result=result)


def analyse_each(
    names: Sequence[str],
    analyse: Callable[[str, Any], Outcome],
    *,
    failed: Row = FAILED,
    expected: str = "picture",
) -> Iterator[Outcome]:
    """Call a function with each input, one after another; an error of the library becomes the outcome of that input.

    Args:
        names: Expanded PATHs.
        analyse: Takes the name and the input, which is the same, or bytes for ``-``.
        failed: What the row of a failed input holds beside its name and the error.
        expected: Kind of the inputs, ``"picture"`` or ``"video"``.

    Raises:
        InvalidOption, LayerNotFound: An option is wrong, for every input.
        click.UsageError: The library refused an option's value.
    """
    for name, item in zip(names, open_stdin(names), strict=True):
        try:
            yield analyse(name, item)
        except (InvalidOption, LayerNotFound):  # wrong for every input
            raise
        except DeepfakeDetectError as error:
            better = better_error(name, error, expected=expected)
            row = {"name": name, **failed, "error": {"type": type(better).__name__, "message": str(better)}}
            yield Outcome(name=name, row=row, error=better)
        except ValueError as error:
            raise as_usage_error(error) from None


def print_outcomes(
    outcomes: Iterable[Outcome], *, total: int, style: str, form: Form, save: Path | None = None
) -> None:
    """Print every outcome, name the failures on standard error, and end the program with 1 where there are some."""
    failures = 0

    def rows() -> Iterator[Row]:
        nonlocal failures
        for outcome in with_bar(outcomes, total=total):
            if outcome.error is not None:
                failures += 1
                report_error(outcome.name, outcome.error)
            if save and outcome.result is not None:
                save_result(outcome.result, save)
            yield outcome.row

    for line in render_results(rows(), style=style, form=form):
        write_line(line)
    sys.exit(1 if failures else 0)


def report_error(name: str, error: DeepfakeDetectError) -> None:
    """Name an input that failed on standard error."""
    message = str(error)
    named = message if name in message else f"{name}: {message}"
    write_above_bar(visible(named))
