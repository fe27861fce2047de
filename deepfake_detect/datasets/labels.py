"""Does a label mean real or fake?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from deepfake_detect.errors import DatasetError

REAL, FAKE = 0, 1
"""Where an integer cannot be avoided, 1 is fake."""

_CALLED = {
    REAL: """real reals realface realfaces realimage realimages authentic genuine original originals nature natural
        pristine untouched unaltered unmanipulated camera bonafide live human true photo photos photograph photographs
        youtube notfake nonfake actors celebreal youtubereal originalsequences""",
    FAKE: """fake fakes fakeface fakefaces fakeimage fakeimages ai aigenerated aigen generated synthetic synthesis
        synthesized manipulated manipulation altered forged forgery tampered edited deepfake deepfakes swapped faceswap
        gan diffusion spoof artificial notreal false photoshopped celebsynthesis manipulatedsequences faceface
        faceshifter neuraltextures""",
}
SYNONYMS = {label: frozenset(words.split()) for label, words in _CALLED.items()}
"""What labels and class folders are called, letters only; digits and separators in them do not count."""

_WORDS = {"real": REAL, "fake": FAKE}


def read_label(label: object, *, labels: Mapping[Any, str] | None = None, where: str = "") -> int:
    """Tell one label.

    Args:
        label: A name, a bool (True is fake), or 0 or 1 (1 is fake), as a number or a text.
        labels: What names mean that are not known: ``{"mine": "fake"}``. Goes before what is known.
        where: Named in the error.

    Returns:
        0 for real, 1 for fake.

    Raises:
        DatasetError: It cannot be told.

    Example:
        >>> read_label("0_real"), read_label("Manipulated"), read_label(1)
        (0, 1, 1)
    """
    return read_labels([label], labels=labels, where=where)[label]


def read_labels(names: Iterable[Any], *, labels: Mapping[Any, str] | None = None, where: str = "") -> dict[Any, int]:
    """Tell all the labels of a data set at once, so that the error can show every one of them.

    Args:
        names: As for `read_label`, each in any number.
        labels: As for `read_label`.
        where: Named in the error.

    Returns:
        Each distinct label to 0 for real, 1 for fake.

    Raises:
        DatasetError: Some cannot be told.
    """
    own = _own(labels or {}, where)
    found = {name: own.get(name, _known(name)) for name in dict.fromkeys(names)}
    strange = [name for name, label in found.items() if label is None]
    if strange:
        shown = ", ".join(repr(name) for name in list(found)[:8]) + (", ..." if len(found) > 8 else "")
        raise DatasetError(
            f"{where or 'the data set'} has the labels {shown}; cannot tell whether {strange[0]!r} means real or fake: "
            f"call them 'real' and 'fake', or say labels={{{strange[0]!r}: 'real', ...}}"
        )
    return {name: label for name, label in found.items() if label is not None}


def _own(labels: Mapping[Any, str], where: str) -> dict[Any, int]:
    wrong = sorted({str(meaning) for meaning in labels.values()} - set(_WORDS))
    if wrong:
        raise DatasetError(f"{where or 'labels'}: {wrong} among the meanings, expected 'real' or 'fake'")
    return {name: _WORDS[meaning] for name, meaning in labels.items()}


def _known(label: object) -> int | None:
    if not isinstance(label, str):
        number = getattr(label, "item", lambda: label)()  # of numpy and torch
        return int(number) if isinstance(number, bool | int | float) and number in (0, 1) else None
    if label.strip() in ("0", "1", "0.0", "1.0"):
        return int(float(label))
    plain = re.sub(r"[^a-z]", "", label.lower())
    return next((value for value, names in SYNONYMS.items() if plain in names), None)
