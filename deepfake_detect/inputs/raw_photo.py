"""Recognise raw photographs, whose first picture is a thumbnail made by the camera."""

from __future__ import annotations

import struct
from typing import BinaryIO

REMEDY = "develop it to JPEG or TIFF first, with the camera's software, darktable or rawpy"
"""What to do with a raw photograph, as the end of an error message."""

_SIGNATURES = {  # at byte 0
    b"FUJIFILMCCD-RAW": "Fujifilm RAF",
    b"IIRO": "Olympus ORF",
    b"IIRS": "Olympus ORF",
    b"MMOR": "Olympus ORF",
    b"IIU\0": "Panasonic RW2",
    b"FOVb": "Sigma X3F",
    b"\0MRM": "Minolta MRW",
}
_MAKES = {b"NIKON": "Nikon NEF", b"SONY": "Sony ARW", b"PENTAX": "Pentax PEF", b"SAMSUNG": "Samsung SRW"}
_REDUCED, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION, _COMPRESSION = 254, 262, 271, 330, 50706, 259
_SENSOR = (32803, 34892)  # colour filter array, linear raw
_CODECS = (32767, 32769, 32770, 34713, 65535)  # of Sony, Epson, Samsung, Nikon and Pentax
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}


def name_raw_photo(file: BinaryIO) -> str | None:
    """Name the kind of raw photograph that a file is, by its header.

    Args:
        file: A file that can seek; left at any place.

    Returns:
        A name such as ``"Canon CR2"``; None for anything else.
    """
    file.seek(0)
    head = file.read(16)
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            return name
    if head[4:12] == b"ftypcrx ":
        return "Canon CR3"
    if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    if head[8:10] == b"CR":
        return "Canon CR2"
    try:
        return _of_tags(_read_tags(file, head))
    except (struct.error, OSError, OverflowError, ValueError):  # damaged, which who decodes it will say
        return None


def _of_tags(tags: dict[int, bytes | int]) -> str | None:
    if _DNG_VERSION in tags:
        return "Adobe DNG"
    is_thumbnail = tags.get(_REDUCED, 0) in (1, 65537) and _SUB_IFDS in tags
    if not (is_thumbnail or tags.get(_PHOTOMETRIC) in _SENSOR or tags.get(_COMPRESSION) in _CODECS):
        return None
    make = tags.get(_MAKE, b"")
    known = (name for start, name in _MAKES.items() if isinstance(make, bytes) and make.upper().startswith(start))
    return next(known, "a raw photograph")


def _read_tags(file: BinaryIO, head: bytes) -> dict[int, bytes | int]:
    """Read the tags of the first picture of a TIFF: text as bytes, of all else the first number."""
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    count_format, entry_format, place_format = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    (at,) = struct.unpack_from(order + place_format, head, 8 if big else 4)
    file.seek(at)
    (count,) = struct.unpack(order + count_format, file.read(struct.calcsize(order + count_format)))
    size = struct.calcsize(order + entry_format)
    rows = file.read(size * min(count, 4096))
    tags: dict[int, bytes | int] = {}
    for tag, kind, length, value in struct.iter_unpack(order + entry_format, rows[: len(rows) // size * size]):
        if kind == 2 and tag == _MAKE:
            tags[tag] = _text(file, value, length, order + place_format)
        elif kind in _SIZES:
            tags[tag] = int.from_bytes(value[: _SIZES[kind]], "little" if order == "<" else "big")
    return tags


def _text(file: BinaryIO, value: bytes, length: int, place_format: str) -> bytes:
    if length <= len(value):
        return value[:length]
    file.seek(struct.unpack(place_format, value)[0])
    return file.read(min(length, 64))
