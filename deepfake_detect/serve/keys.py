"""Read API keys, and check the key of a request in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from deepfake_detect.errors import InvalidOption

MIN_LENGTH = 16
"""Fewest characters of a key."""


def read_keys(file: Path | None, text: str = "") -> tuple[str, ...]:
    """Read the keys of a file, one on each line, and those of a text, separated by commas.

    Args:
        file: Empty lines and those that begin with # count for nothing.
        text: As an environment variable holds it.

    Returns:
        The keys, each once.

    Raises:
        InvalidOption: The file cannot be read, or a key is too short or holds other than printable ASCII letters.

    Example:
        >>> read_keys(None, "a-long-secret-key-1, a-long-secret-key-2")
        ('a-long-secret-key-1', 'a-long-secret-key-2')
    """
    lines = [] if file is None else _read_lines(file)
    keys = [key for key in map(str.strip, [*lines, *text.split(",")]) if key and not key.startswith("#")]
    for key in keys:
        if len(key) < MIN_LENGTH or not all("!" <= letter <= "~" for letter in key):
            raise InvalidOption(
                f"an API key of {len(key)} characters, expected at least {MIN_LENGTH} printable ASCII letters without "
                "spaces; make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
    return tuple(dict.fromkeys(keys))


class KeyCheck:
    """Compare keys with those that are allowed, in a time that does not depend on how much of a key is right.

    Example:
        >>> check = KeyCheck(["a-long-secret-key-1"])
        >>> check.allows("a-long-secret-key-1"), check.allows("a-long-secret-key-2"), check.allows(None)
        (True, False, False)
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @property
    def is_needed(self) -> bool:
        """Whether requests must carry a key."""
        return bool(self._digests)

    def allows(self, key: str | None) -> bool:
        """Tell whether a key is one of those allowed; None is a request without a key."""
        digest = _digest(key or "")
        matches = [hmac.compare_digest(digest, allowed) for allowed in self._digests]  # all of them, always
        return key is not None and any(matches)


def _read_lines(file: Path) -> list[str]:
    try:
        return file.expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(
            f"the file of API keys {file} cannot be read ({error}); expected a key on each line"
        ) from None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
