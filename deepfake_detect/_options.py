"""Check the values and types of options, so that a wrong one is refused by its name."""

from __future__ import annotations

import difflib
import math
import numbers
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepfake_detect.errors import InvalidOption


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Refuse what is none of the choices.

    Args:
        name: Of the option, for the message.
        value: As the caller gave it.
        choices: Strings, or None where the option may be left out.

    Raises:
        InvalidOption: It is none of them; a misspelt one is recognised.

    Example:
        >>> check_choice("faces", "larges", ("auto", "largest"))
        Traceback (most recent call last):
        ...
        deepfake_detect.errors.InvalidOption: faces is 'larges', expected 'auto' or 'largest'; did you mean 'largest'?
    """
    choices = list(choices)
    if any(value is choice if choice is None else _equal_text(value, choice) for choice in choices):
        return
    *first, last = [repr(choice) for choice in choices]
    expected = f"{', '.join(first)} or {last}" if first else last
    words = [choice for choice in choices if isinstance(choice, str)]
    close = difflib.get_close_matches(value.lower(), words, n=1, cutoff=0.6) if isinstance(value, str) else []
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InvalidOption(f"{name} is {_shown(value)}, expected {expected}{hint}")


def check_number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    whole: bool = False,
    optional: bool = False,
    also: str = "",
) -> None:
    """Refuse what is no number, or one out of range.

    Args:
        name: Of the option, for the message.
        value: As the caller gave it. True and False are no numbers.
        low: Least value.
        high: Highest value.
        above: The value must be larger than this.
        below: The value must be smaller than this.
        whole: Only integers.
        optional: None is right, too.
        also: What else the option may be, for the message.

    Raises:
        InvalidOption: It is of another type, not finite, or out of range.

    Example:
        >>> check_number("batch_size", 0, low=1, whole=True)
        Traceback (most recent call last):
        ...
        deepfake_detect.errors.InvalidOption: batch_size is 0, expected an integer of at least 1
    """
    if value is None and optional:
        return
    kind = numbers.Integral if whole else numbers.Real
    right = isinstance(value, kind) and not _is_bool(value)
    if right and math.isfinite(value) and low <= value <= high and above < value < below:
        return
    kind_and_range = _range(low, high, above, below, whole=whole)
    raise InvalidOption(f"{name} is {_shown(value)}, expected {kind_and_range}{also}")


def whole_number(name: str, value: Any, *, least: int = 0, also: str = "") -> int:
    """Return an option that counts something as an int; ints of numpy count, bools and floats do not.

    Args:
        name: Of the option, for the message.
        value: As the caller gave it.
        least: Smallest value allowed.
        also: What else the option may be, for the message.

    Raises:
        InvalidOption: Another type, or below ``least``.

    Example:
        >>> whole_number("epochs", 3, least=1)
        3
    """
    check_number(name, value, low=least, whole=True, also=also)
    return int(value)


def real_number(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, ends: str = "[]") -> float:
    """Return an option that measures something as a float.

    Args:
        name: Of the option, for the message.
        value: As the caller gave it.
        low: Smallest value.
        high: Largest value.
        ends: Brackets of the interval: ``"("`` and ``")"`` leave the end out. Infinity is always left out.

    Raises:
        InvalidOption: Another type, or outside the interval.

    Example:
        >>> real_number("ema", 0.998, low=0, high=1, ends="[)")
        0.998
    """
    lowest, above = (low, -math.inf) if ends[0] == "[" else (-math.inf, low)
    highest, below = (high, math.inf) if ends[1] == "]" else (math.inf, high)
    check_number(name, value, low=lowest, high=highest, above=above, below=below)
    return float(value)


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False.

    Raises:
        InvalidOption: It is something else.

    Example:
        >>> check_flag("resume", "no")
        Traceback (most recent call last):
        ...
        deepfake_detect.errors.InvalidOption: resume is 'no', expected True or False
    """
    if not _is_bool(value):
        raise InvalidOption(f"{name} is {_shown(value)}, expected True or False")


def check_type(name: str, value: Any, kinds: type | tuple[type, ...], *, expected: str) -> None:
    """Refuse what is of another type.

    Args:
        name: Of the option, for the message.
        value: As the caller gave it.
        kinds: For `isinstance`.
        expected: The types in words.

    Raises:
        InvalidOption: It is of another type.

    Example:
        >>> check_type("out", 3, (str, type(None)), expected="a folder or None")
        Traceback (most recent call last):
        ...
        deepfake_detect.errors.InvalidOption: out is 3, expected a folder or None
    """
    if not isinstance(value, kinds):
        raise InvalidOption(f"{name} is {_shown(value)}, expected {expected}")


def output_folder(out: Any) -> Path | None:
    """Return the folder that an option ``out`` names, ``~`` expanded; None where nothing is to be kept.

    Raises:
        InvalidOption: It is no path, or a file.
    """
    if out is None:
        return None
    if not isinstance(out, str | os.PathLike) or not str(out):
        raise InvalidOption(f"out is {out!r}, expected the path of a folder, or None")
    folder = Path(out).expanduser()
    if folder.is_file():
        raise InvalidOption(f"out is {str(out)!r}, which is a file; give a folder")
    return folder


def _equal_text(value: Any, choice: Any) -> bool:
    return isinstance(value, str) and value == choice  # an array would compare each of its elements


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # NumPy's is no subclass


def _range(low: float, high: float, above: float, below: float, *, whole: bool) -> str:
    kind = "an integer" if whole else "a number"
    if -math.inf < low and high < math.inf:
        return f"{kind} within {low:g}..{high:g}"
    ends = (("above", above), ("of at least", low), ("below", below), ("of at most", high))
    bounds = [f"{words} {end:g}" for words, end in ends if math.isfinite(end)]
    return f"{kind} {' and '.join(bounds)}" if bounds else kind.replace(" number", " finite number")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"a {type(value).__name__}"
