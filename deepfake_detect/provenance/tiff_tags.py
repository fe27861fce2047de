"""Read the tags of a TIFF structure, which EXIF is, too; Pillow's reader gives no byte offsets and no limits.

Each directory is read once, whatever points to it, so that a cycle ends; sizes are checked against the data before
anything is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Value: TypeAlias = str | bytes | tuple[int, ...] | tuple[tuple[int, int], ...]

MAX_DIRECTORIES: Final = 32
MAX_ENTRIES: Final = 512
MAX_NUMBERS: Final = 4096
MAX_BYTES: Final = 16 * 2**20

POINTERS = {0x8769: "exif", 0x8825: "gps", 0xA005: "interop"}
"""Tags of the first directory that point to other directories."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
_LETTERS = {3: "H", 4: "I", 5: "I", 8: "h", 9: "i", 10: "i", 13: "I"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """One entry of a directory.

    Attributes:
        value: Text, bytes, numbers, or fractions as pairs.
        offset: Of the entry, from the start of the TIFF structure.
    """

    value: Value
    offset: int


@dataclass(slots=True, kw_only=True)
class Tags:
    """The directories of a TIFF structure.

    Attributes:
        directories: ``"0"``, ``"1"`` (the thumbnail of EXIF), ``"exif"``, ``"gps"`` ... to tags by number.
        problems: What could not be read, each a sentence.
        bytes_left: How many bytes of values may still be copied: tags may share their bytes, and so multiply them.
    """

    directories: dict[str, dict[int, Tag]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    bytes_left: int = MAX_BYTES

    def text(self, directory: str, number: int) -> str:
        """Return a text tag; empty where it is missing or no text."""
        tag = self.directories.get(directory, {}).get(number)
        return tag.value.strip() if tag is not None and isinstance(tag.value, str) else ""

    def number(self, directory: str, number: int) -> int | None:
        """Return the first number of a tag; None where it is missing or no integer."""
        tag = self.directories.get(directory, {}).get(number)
        first = tag.value[0] if tag is not None and isinstance(tag.value, tuple) and tag.value else None
        return first if isinstance(first, int) else None

    def raw(self, directory: str, number: int) -> bytes:
        """Return the bytes of a tag; empty where it is missing or no bytes."""
        tag = self.directories.get(directory, {}).get(number)
        return tag.value if tag is not None and isinstance(tag.value, bytes) else b""


def read_tags(data: bytes) -> Tags:
    """Read a TIFF structure.

    Args:
        data: Begins with ``II`` or ``MM``.

    Returns:
        Its directories; what is damaged is listed, the rest is read.

    Example:
        >>> from PIL import Image
        >>> exif = Image.Exif()
        >>> exif[0x0131] = "GIMP 2.10"
        >>> read_tags(exif.tobytes().removeprefix(b"Exif" + bytes(2))).text("0", 0x0131)
        'GIMP 2.10'
    """
    tags = Tags(bytes_left=2 * min(len(data), MAX_BYTES))
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        tags.problems.append("no TIFF header")
        return tags
    version, first = struct.unpack_from(f"{order}HI", data, 2)
    if version != 42:
        tags.problems.append("BigTIFF, which is not read" if version == 43 else f"TIFF version {version}, expected 42")
        return tags
    _read_chain(data, order, first, tags)
    return tags


def _read_chain(data: bytes, order: str, first: int, tags: Tags) -> None:
    """Read a chain of directories and those that their tags point to, each once."""
    seen: set[int] = set()
    waiting = [("0", first)]
    while waiting:
        name, start = waiting.pop(0)
        if start in seen or len(seen) >= MAX_DIRECTORIES:
            tags.problems.append("directories that point to one another" if start in seen else "too many directories")
            continue
        seen.add(start)
        directory, following = _read_directory(data, order, start, tags)
        tags.directories.setdefault(name, directory)
        targets = [(POINTERS[number], tag.value[0]) for number, tag in directory.items() if _points(number, tag)]
        waiting += [(kind, place) for kind, place in targets if isinstance(place, int)]
        if following and name.isdecimal():
            waiting.append((str(int(name) + 1), following))


def _points(number: int, tag: Tag) -> bool:
    return number in POINTERS and isinstance(tag.value, tuple) and bool(tag.value)


def _read_directory(data: bytes, order: str, start: int, tags: Tags) -> tuple[dict[int, Tag], int]:
    """Return the tags of one directory, and where the next one stands; 0 where there is none."""
    if start + 2 > len(data):
        tags.problems.append("a directory outside of the data")
        return {}, 0
    (count,) = struct.unpack_from(f"{order}H", data, start)
    if count > MAX_ENTRIES:
        tags.problems.append(f"a directory of {count} entries; the first {MAX_ENTRIES} are read")
    directory = dict(_read_entries(data, order, start, min(count, MAX_ENTRIES), tags))
    link = start + 2 + 12 * count
    following = struct.unpack_from(f"{order}I", data, link)[0] if link + 4 <= len(data) else 0
    return directory, following


def _read_entries(data: bytes, order: str, start: int, count: int, tags: Tags) -> Iterator[tuple[int, Tag]]:
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if place + 12 > len(data):
            tags.problems.append("a directory that is cut off")
            return
        number, kind, length = struct.unpack_from(f"{order}HHI", data, place)
        total = _SIZES.get(kind, 0) * length
        where = place + 8 if total <= 4 else struct.unpack_from(f"{order}I", data, place + 8)[0]
        if kind not in _SIZES or total > tags.bytes_left or where + total > len(data):
            tags.problems.append("tags of an unknown type, outside of the data, or too large")
            continue
        tags.bytes_left -= total
        yield number, Tag(value=_decode(data[where : where + total], order, kind), offset=place)


def _decode(raw: bytes, order: str, kind: int) -> Value:
    if kind in (2, 129):
        return raw.split(b"\0")[0].decode("utf-8", "replace")
    if kind not in _LETTERS:
        return raw
    size = struct.calcsize(_LETTERS[kind])
    count = min(len(raw) // size, MAX_NUMBERS)
    numbers = struct.unpack_from(f"{order}{count}{_LETTERS[kind]}", raw)
    return tuple(zip(numbers[::2], numbers[1::2], strict=True)) if kind in (5, 10) else numbers
