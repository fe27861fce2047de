"""Check the values and types of options, so that a wrong one is refused by its name."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable
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
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Refuse what is no number, or one out of range.

    Args:
        name: Of the option, for the message.
        value: As the caller gave it. True and False are no numbers.
        low: Least value.
        high: Highest value.
        above: The value must be larger than this.
        whole: Only integers.
        optional: None is right, too.

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
    if right and math.isfinite(value) and low <= value <= high and value > above:
        return
    raise InvalidOption(f"{name} is {_shown(value)}, expected {_range(low, high, above, whole=whole)}")


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


def _equal_text(value: Any, choice: Any) -> bool:
    return isinstance(value, str) and value == choice  # an array would compare each of its elements


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # NumPy's is no subclass


def _range(low: float, high: float, above: float, *, whole: bool) -> str:
    kind = "an integer" if whole else "a number"
    bounds = []
    if above > -math.inf:
        bounds.append(f"above {above:g}")
    if low > -math.inf and high < math.inf:
        bounds.append(f"within {low:g}..{high:g}")
    elif low > -math.inf:
        bounds.append(f"of at least {low:g}")
    elif high < math.inf:
        bounds.append(f"of at most {high:g}")
    return " ".join([kind, " and ".join(bounds)]).strip()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"a {type(value).__name__}"
