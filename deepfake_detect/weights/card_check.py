"""Check the fields of a card by name: types, bounds and sizes, since a card may come from a stranger."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from deepfake_detect.errors import WeightsMismatch

LARGEST_CARD: Final = 2**20
"""Bytes of the largest ``card.json`` that is read."""

_DEEPEST = 16  # objects and lists within one another
_LONGEST_DIGITS = 20  # of a whole number
_LONGEST_TEXT = 20_000  # characters
_FINDER = re.compile(r"[\w.-]+@\d+|hf://[\w.-]+/[\w.-]+/[\w./-]+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def parse_card(content: str | bytes, *, where: str) -> Any:
    """Parse the text of a card.

    Args:
        content: JSON, UTF-8 where it is bytes.
        where: Named in the message.

    Raises:
        WeightsMismatch: It is too large, not JSON, or nested too deeply, or holds a number that is too long.
    """
    if len(content) > LARGEST_CARD:
        raise WeightsMismatch(f"{where} has {len(content):,} bytes, expected a card of at most {LARGEST_CARD:,}")
    try:
        values = json.loads(content, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise WeightsMismatch(f"{where} is not JSON ({reason}); download or save the bundle again") from None
    return values


def checksum_of(values: Mapping[str, Any]) -> str:
    """Compute the sha256 over all fields of a card but the checksum itself, whatever their order and layout."""
    fields = {name: value for name, value in values.items() if name != "checksum"}
    text = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_text(name: str, value: Any, *, longest: int = 200, may_be_empty: bool = False) -> None:
    """Refuse what is not a text of reasonable length.

    Raises:
        WeightsMismatch: It is not.
    """
    if not isinstance(value, str) or len(value) > longest or not (value or may_be_empty):
        _refuse(name, value, f"a text of {0 if may_be_empty else 1} to {longest} characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        _refuse(name, ascii(value), "a text of Unicode characters")


def check_texts(name: str, value: Any) -> None:
    """Refuse what is not a list of texts.

    Raises:
        WeightsMismatch: It is not.
    """
    if not isinstance(value, tuple | list) or len(value) > 1000:
        _refuse(name, value, "a list of at most 1000 texts")
    for number, text in enumerate(value):
        check_text(f"{name}[{number}]", text, longest=_LONGEST_TEXT, may_be_empty=True)


def check_real(name: str, value: Any, *, low: float, high: float) -> None:
    """Refuse what is not a finite number within bounds.

    Raises:
        WeightsMismatch: It is not.
    """
    if not _is_number(value) or not low <= value <= high:
        _refuse(name, value, f"a number within {low:g}..{high:g}")


def check_whole(name: str, value: Any, *, low: int, high: int) -> None:
    """Refuse what is not a whole number within bounds.

    Raises:
        WeightsMismatch: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        _refuse(name, value, f"a whole number within {low}..{high}")


def check_reals(name: str, value: Any, *, count: int, low: float, high: float) -> None:
    """Refuse what is not a list of so many finite numbers within bounds.

    Raises:
        WeightsMismatch: It is not.
    """
    if not isinstance(value, tuple | list) or len(value) != count:
        _refuse(name, value, f"{count} numbers within {low:g}..{high:g}")
    for number, entry in enumerate(value):
        check_real(f"{name}[{number}]", entry, low=low, high=high)


def check_sha256(name: str, value: Any) -> None:
    """Refuse what is neither empty nor a sha256 in hexadecimal.

    Raises:
        WeightsMismatch: It is neither.
    """
    if value != "" and not (isinstance(value, str) and _SHA256.fullmatch(value)):
        _refuse(name, value, "64 hexadecimal digits")


def check_finder(name: str, value: str) -> None:
    """Refuse a face finder that is a path: the card of a stranger would choose which file of this machine is read.

    Raises:
        WeightsMismatch: It is.
    """
    if value not in ("", "none") and not _FINDER.fullmatch(value):
        _refuse(name, value, "'none', 'dd-yunet@1' or 'hf://owner/name/file.onnx'")


def check_facts(name: str, value: Any, *, finite: bool = False, depth: int = 0) -> None:
    """Refuse what is not an object of texts, numbers, booleans, None, lists and objects.

    Args:
        name: Of the field, for the message.
        value: Of the field.
        finite: Refuse infinite numbers and NaN, too, which a card in a file never holds.
        depth: Levels above this one.

    Raises:
        WeightsMismatch: It is not, or it is nested too deeply.
    """
    if depth == 0 and not isinstance(value, dict):
        _refuse(name, value, "an object")
    if depth > _DEEPEST:
        _refuse(name, value, f"at most {_DEEPEST} levels")
    if isinstance(value, dict):
        for key, entry in value.items():
            check_text(f"a name in {name}", key, may_be_empty=True)
            check_facts(f"{name}.{key}", entry, finite=finite, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            check_facts(f"{name}[{number}]", entry, finite=finite, depth=depth + 1)
    elif isinstance(value, str):
        check_text(name, value, longest=_LONGEST_TEXT, may_be_empty=True)
    elif value is not None and not isinstance(value, bool | int | float):
        _refuse(name, value, "a text, a number, true, false or null")
    elif finite and isinstance(value, float) and not math.isfinite(value):
        _refuse(name, value, "a finite number")


def _whole_number(digits: str) -> int:
    if len(digits) > _LONGEST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    text = repr(value)
    shown = text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"
    raise WeightsMismatch(f"{name} is {shown}, expected {expected}")
