"""Check the types and ranges of training options, and refuse wrong ones by name."""

from __future__ import annotations

import math
import numbers
import os
from pathlib import Path
from typing import Any

from deepfake_detect.errors import InvalidOption


def whole_number(name: str, value: Any, *, least: int = 0, also: str = "") -> int:
    """Return an option that counts something as an int; ints of numpy count, bools and floats do not.

    Args:
        name: Name of the option.
        value: Its value.
        least: Smallest value allowed.
        also: What else the option may be, for the message.

    Raises:
        InvalidOption: Another type, or below ``least``.

    Example:
        >>> whole_number("epochs", 3, least=1)
        3
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise InvalidOption(f"{name} is {value!r}, expected a whole number, at least {least}{also}")


def real_number(name: str, value: Any, *, low: float, high: float = math.inf, ends: str = "[]") -> float:
    """Return an option that measures something as a float.

    Args:
        name: Name of the option.
        value: Its value.
        low: Smallest value.
        high: Largest value.
        ends: Brackets of the interval: ``"("`` and ``")"`` leave the end out. Infinity is always left out.

    Raises:
        InvalidOption: Another type, or outside the interval.

    Example:
        >>> real_number("ema", 0.998, low=0, high=1, ends="[)")
        0.998
    """
    expected = f"{name} is {value!r}, expected a number {'from' if ends[0] == '[' else 'above'} {low:g}"
    expected += "" if math.isinf(high) else f" {'to' if ends[1] == ']' else 'and below'} {high:g}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidOption(expected)
    number = float(value)
    above = number > low if ends[0] == "(" else number >= low
    below = number < high if ends[1] == ")" else number <= high
    if not (math.isfinite(number) and above and below):
        raise InvalidOption(expected)
    return number


def one_of(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        InvalidOption: It is none of them.
    """
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise InvalidOption(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


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
