"""Map labels and names of class folders to real (0) and fake (1)."""

from __future__ import annotations

import enum
import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from deepfake_detect.errors import DatasetError, InvalidOption, nearest

REAL, FAKE = 0, 1
"""Where an integer cannot be avoided, 1 is fake."""

_CALLED = {
    REAL: """real reals realface realfaces realimage realimages authentic genuine original originals nature natural
        pristine untouched unaltered unmanipulated camera bonafide live human photo photos photograph photographs
        youtube notfake nonfake actors celebreal youtubereal originalsequences""",
    FAKE: """fake fakes fakeface fakefaces fakeimage fakeimages ai aigenerated aigen generated synthetic synthesis
        synthesized manipulated manipulation altered forged forgery tampered edited deepfake deepfakes swapped faceswap
        gan diffusion spoof artificial notreal photoshopped celebsynthesis manipulatedsequences faceface
        faceshifter neuraltextures""",
}
SYNONYMS = {label: frozenset(words.split()) for label, words in _CALLED.items()}
"""Names of labels and class folders, letters only: digits and separators are ignored."""

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
"""Names of splits, and the one that we use for each."""

_PLAIN_NAMES = frozenset(("real", "reals", "fake", "fakes"))
_MEANINGS = {"real": REAL, "fake": FAKE}
_BOOLS = {"true": True, "false": False}


def read_label(label: object, *, labels: Mapping[Any, str] | None = None, where: str = "") -> int:
    """Return what one label means.

    Args:
        label: A name; a bool (True is fake); 0 or 1 (1 is fake) as a number or text; or a one-hot pair.
        labels: Meaning of names, ``{"mine": "fake"}``; has priority over the known synonyms.
        where: The data set, for the error message.

    Returns:
        0 for real, 1 for fake.

    Raises:
        DatasetError: The label is unknown.

    Example:
        >>> read_label("0_real"), read_label("Manipulated"), read_label(1)
        (0, 1, 1)
    """
    plain = plain_label(label)
    return read_labels([plain], labels=labels, where=where)[plain]


def find_label(label: Any, *, labels: Mapping[Any, str] | None = None) -> int | None:
    """Return what a label means, as `read_label` does, or None where it is unknown."""
    return _meanings(labels or {}, "").get(_key(label), _known(plain_label(label)))


def read_labels(names: Iterable[Any], *, labels: Mapping[Any, str] | None = None, where: str = "") -> dict[Any, int]:
    """Return what every label of a data set means; the error shows all of them.

    Args:
        names: Labels as from `plain_label`, repeated or not.
        labels: As for `read_label`. Keys match whatever their type and case: 0 matches ``"0"`` and False.
        where: The data set, for the error message.

    Returns:
        Each distinct label with 0 for real, 1 for fake.

    Raises:
        DatasetError: Some labels are unknown, or none of the keys of ``labels`` occurs in the data.
    """
    meanings = _meanings(labels or {}, where)
    known = {name: meanings.get(_key(name), _known(name)) for name in dict.fromkeys(names)}
    unused = known and meanings and not meanings.keys() & {_key(name) for name in known}
    if unused:
        raise DatasetError(
            f"{where or 'the data set'} has the labels {_listed(known)}, and labels= explains {_listed(labels or {})}: "
            "none of them occurs; give the labels as they stand in the data"
        )
    unknown = [name for name, label in known.items() if label is None]
    if unknown:
        raise DatasetError(
            f"{where or 'the data set'} has the labels {_listed(known)}; cannot tell whether {unknown[0]!r} means real "
            f"or fake: rename them to 'real' and 'fake', or pass labels={{...}} with the meaning of each, "
            f"'real' or 'fake': {_listed(unknown)}"
        )
    return {name: label for name, label in known.items() if label is not None}


def class_name(label: Any) -> str:
    """Return the name of a class from a label: numbers and bools as text; empty where there is none.

    Example:
        >>> class_name("cat"), class_name(2.0), class_name(None)
        ('cat', '2', '')
    """
    label = plain_label(label)
    if isinstance(label, float) and label.is_integer():
        label = int(label)  # a column of integers with gaps, as pandas reads it
    return "" if label is None else str(label).strip()


def number_classes(names: Iterable[str], *, classes: Sequence[str] | None = None, where: str = "") -> dict[str, int]:
    """Number the classes of a data set.

    Args:
        names: Those that occur.
        classes: Those that may occur, in order; None sorts the names, numbers by their size.
        where: The data set, for the error message.

    Raises:
        DatasetError: A name is not among ``classes``; or, without these, there is only one.

    Example:
        >>> number_classes({"10", "9"})
        {'9': 0, '10': 1}
    """
    in_order = sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    if classes is None:
        if len(in_order) < 2:
            expected = "expected two classes or more: a folder for each, or a column 'label'"
            raise DatasetError(f"{where or 'the data set'} has the classes {_listed(in_order) or 'none'}, {expected}")
        classes = in_order
    unknown = [name for name in in_order if name not in classes]
    if unknown:
        raise DatasetError(
            f"{where or 'the data set'} has the classes {_listed(in_order)}, expected {_listed(classes)}; "
            f"rename {unknown[0]!r}, or leave it out{nearest(unknown[0], classes)}"
        )
    return {name: place for place, name in enumerate(classes)}


def plain_label(label: Any) -> Any:
    """Return a label as a plain Python value: the scalar of numpy or torch, the index of a one-hot vector.

    Of an enumeration the name counts, where it says what is meant, since ``FAKE = 0`` is fake; else its value.

    Raises:
        DatasetError: A vector that is not one-hot.

    Example:
        >>> plain_label([0, 1]), plain_label("real")
        (1, 'real')
    """
    if getattr(label, "ndim", 0) or isinstance(label, list | tuple):
        values = list(label.tolist() if hasattr(label, "tolist") else label)
        return values[0] if len(values) == 1 and not isinstance(values[0], list) else _one_hot_index(values)
    label = label.item() if hasattr(label, "item") else label
    if isinstance(label, enum.Enum):
        label = label.name if _known(label.name) is not None else label.value
    if isinstance(label, bytes):  # as of HDF5 and of numpy's type S
        label = label.decode("utf-8", "replace")
    if isinstance(label, numbers.Rational | Decimal) and not isinstance(label, int):
        label = float(label)
    missing = isinstance(label, float) and math.isnan(label)  # an empty cell of a pandas frame
    return None if missing or type(label).__name__ in ("NAType", "NaTType") else label


def plain_bools(values: Sequence[Any]) -> list[Any]:
    """Return the labels of a table with texts such as ``"True"`` as bools, as JSON has them, where all are such.

    A name of a folder or class is left alone: "true" may mean a true photograph as well as true for fake.
    """
    filled = [value for value in values if value not in (None, "")]
    if not all(isinstance(value, bool) or str(value).strip().lower() in _BOOLS for value in filled):
        return list(values)
    return [_BOOLS.get(str(value).strip().lower(), value) for value in values]


def is_plain_name(name: str) -> bool:
    """Return whether a name says "real" or "fake" itself, and is not a synonym only, such as "photos"."""
    return _letters(name) in _PLAIN_NAMES


def _meanings(labels: Mapping[Any, str], where: str) -> dict[Any, int]:
    if not isinstance(labels, Mapping):
        raise InvalidOption(f"labels is {labels!r}, expected a mapping such as {{'mine': 'fake'}}")
    words = {name: str(meaning).strip().lower() for name, meaning in labels.items()}
    wrong = sorted({str(labels[name]) for name, word in words.items() if word not in _MEANINGS})
    if wrong:
        raise DatasetError(f"{where or 'the data'}: labels= has {wrong} among the meanings, expected 'real' or 'fake'")
    meanings: dict[Any, int] = {}
    for name, word in words.items():
        if meanings.setdefault(_key(name), _MEANINGS[word]) != _MEANINGS[word]:
            raise DatasetError(f"labels= explains {name!r} twice, once as real and once as fake; keep one of them")
    return meanings


def _key(name: Any) -> Any:
    """Return what labels are compared by: numbers and bools by value whether text or not, texts without case."""
    if isinstance(name, str):
        text = name.strip().casefold()
        number = _number(text)
        return _BOOLS.get(text, text if number is None else number)
    return plain_label(name)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _known(label: object) -> int | None:
    if isinstance(label, bool | int | float):
        return int(label) if label in (0, 1) else None
    if not isinstance(label, str):
        return None
    if label.strip() in ("0", "1", "0.0", "1.0"):
        return int(float(label))
    return next((value for value, names in SYNONYMS.items() if _letters(label) in names), None)


def _letters(name: str) -> str:
    """Return the letters of a name, without the words for splits: ``training_fake`` is ``fake``."""
    words = re.findall(r"[a-z]+", name.lower())
    return "".join([word for word in words if word not in SPLITS] or words)


def _one_hot_index(values: list[Any]) -> int:
    ones = [index for index, value in enumerate(values) if isinstance(value, bool | int | float) and value == 1]
    if len(ones) != 1 or any(value != 0 for index, value in enumerate(values) if index != ones[0]):
        raise DatasetError(
            f"a label is the vector {values}, expected a name, 0 or 1, or a one-hot vector with a single 1; "
            "soft labels are not supported"
        )
    return ones[0]


def _listed(names: Iterable[Any]) -> str:
    names = list(names)
    return ", ".join(repr(name) for name in names[:8]) + (", ..." if len(names) > 8 else "")
