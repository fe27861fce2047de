"""Write to standard output and standard error: lines, errors, progress bars and log messages.

Every line can be written whatever the stream's encoding is, and a missing stream (``sys.stderr`` is None in a program
without a console) is left alone.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click

_LINE_EVERY_S = 10.0  # between lines of progress where there is no terminal


def write_line(text: str = "", *, err: bool = False) -> None:
    """Print a line, with characters that the stream cannot encode escaped as in JSON.

    So file names that are no UTF-8, and output redirected on Windows, never end a run, and JSON stays JSON.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        click.echo(_encodable(text, stream), err=err)


def write_above_bar(text: str) -> None:
    """Print a line on standard error, above the progress bar where there is one."""
    from tqdm import tqdm

    if sys.stderr is not None:
        tqdm.write(_encodable(text, sys.stderr), file=sys.stderr)


def plural(number: int, noun: str) -> str:
    """Write a number and its noun, as in ``1 face`` and ``2 faces``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def with_bar(results: Iterable[Any], *, total: int, initial: int = 0, lines_on_stdout: bool = True) -> Iterable[Any]:
    """Show progress on standard error: a bar where that is a terminal, otherwise a line from time to time.

    Args:
        results: Passed on one by one.
        total: How many there are in the end.
        initial: How many of them are done already.
        lines_on_stdout: The results are printed, so that a terminal shows progress without a bar, and a file of them
            needs no lines.
    """
    from tqdm import tqdm

    if sys.stderr is None or total <= 1:
        return results
    if not sys.stderr.isatty():
        return results if lines_on_stdout else _with_lines(results, total=total, initial=initial)
    if lines_on_stdout and sys.stdout.isatty():
        return results
    bar: Iterable[Any] = tqdm(results, total=total, initial=initial, leave=False, file=sys.stderr)
    return bar


@contextmanager
def log_on_stderr() -> Iterator[None]:
    """Show the library's log messages on standard error while a command runs.

    Raises:
        click.UsageError: The library refused an option's value.
    """
    log = logging.getLogger("deepfake_detect")
    handler = logging.StreamHandler(sys.stderr) if sys.stderr is not None else logging.NullHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except ValueError as error:
        raise as_usage_error(error) from None
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def as_usage_error(error: ValueError) -> Exception:
    """Return a refused option value as wrong usage; errors of the library stay what they are."""
    from deepfake_detect.errors import DeepfakeDetectError, InvalidOption

    is_usage = isinstance(error, InvalidOption) or not isinstance(error, DeepfakeDetectError)
    return click.UsageError(str(error)) if is_usage else error


def _with_lines(results: Iterable[Any], *, total: int, initial: int) -> Iterator[Any]:
    began = last = time.monotonic()
    for number, result in enumerate(results, 1):
        yield result
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S:
            last, rate = now, number / (now - began)
            left_s = (total - initial - number) / rate
            write_line(f"{initial + number:,} of {total:,}, {rate:.1f} per second, {left_s:.0f} s left", err=True)


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text if _fits(text, encoding) else "".join(c if _fits(c, encoding) else json.dumps(c)[1:-1] for c in text)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
