"""Read the metadata blocks of AVIF and HEIF files, which are ISO base media files: boxes within boxes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from deepfake_detect.provenance.blocks import BlockKind, Blocks

MAX_BOXES: Final = 10_000
MAX_ITEMS: Final = 4096

C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Type of the box that holds a C2PA manifest store."""


def read_bmff(data: bytes) -> Blocks:
    """Read the boxes of an AVIF or HEIF file.

    Args:
        data: Begins with four bytes and ``ftyp``.
    """
    blocks, metas = Blocks(format="AVIF" if data[8:12] in (b"avif", b"avis") else "HEIF"), 0
    for kind, start, end in iterate_boxes(data, 0, len(data)):
        if kind == b"uuid" and data[start : start + 16] == C2PA_UUID:
            if blocks.has_room("c2pa", "uuid box C2PA", start - 8, end - start):
                _take_manifest(blocks, start - 8, data[start + 16 : end])
        elif kind == b"meta":
            metas += 1
            if metas == 1:  # a file has one
                _take_meta(blocks, data, start + 4, end)
    return blocks


def iterate_boxes(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each box, and where its content begins and ends; stops at the first that does not fit."""
    for _ in range(MAX_BOXES):
        if place + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, place)
        start = place + 8
        if size == 1 and place + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if size == 0 else place + size
        if stop > end or stop < start:
            return
        yield kind, start, stop
        place = stop


def _take_manifest(blocks: Blocks, offset: int, body: bytes) -> None:
    """Keep the JUMBF data of a C2PA box: version and flags, a purpose that ends with zero, an offset, the data."""
    purpose, _, rest = body[4:].partition(b"\0")
    if purpose in (b"manifest", b"original", b"update"):
        blocks.add("c2pa", "uuid box C2PA", offset, rest[8:])


def _take_meta(blocks: Blocks, data: bytes, start: int, end: int) -> None:
    boxes = {kind: (first, last) for kind, first, last in iterate_boxes(data, start, end)}
    if b"iprp" in boxes and blocks.size_hw is None:
        blocks.size_hw = _largest_size(data, *boxes[b"iprp"])
    if b"iinf" not in boxes or b"iloc" not in boxes:
        return
    kinds = dict(_item_kinds(data, *boxes[b"iinf"]))
    inner = boxes.get(b"idat", (0, 0))[0]
    for number, method, place, length in _item_places(data, *boxes[b"iloc"]):
        where = place + (inner if method == 1 else 0)
        if number not in kinds or where + length > len(data):
            continue
        kind, segment = _ITEMS[kinds.pop(number)]  # once, however many entries there are
        if blocks.has_room(kind, segment, where, length):
            _take_item(blocks, kind, segment, where, data[where : where + length])


_ITEMS: Final[dict[bytes, tuple[BlockKind, str]]] = {b"Exif": ("exif", "Exif item"), b"mime": ("xmp", "XMP item")}


def _take_item(blocks: Blocks, kind: BlockKind, segment: str, offset: int, body: bytes) -> None:
    if kind == "exif":
        body = body[4 + int.from_bytes(body[:4], "big") :].removeprefix(b"Exif\x00\x00")
    blocks.add(kind, segment, offset, body)


def _largest_size(data: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Return the largest size that an item of the file has: that of the picture, not of its thumbnail or its tiles."""
    sizes = [
        struct.unpack_from(">II", data, first + 4)
        for kind, outer, last in iterate_boxes(data, start, end)
        if kind == b"ipco"
        for name, first, stop in iterate_boxes(data, outer, last)
        if name == b"ispe" and stop - first >= 12
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return (height, width) if height and width else None


def _item_kinds(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number and type of the items that are EXIF or XMP."""
    first = start + (6 if data[start : start + 1] == b"\0" else 8)
    for kind, place, stop in iterate_boxes(data, first, end):
        version = data[place] if stop > place else 0
        if kind != b"infe" or version < 2 or stop - place < 14:
            continue
        number = int.from_bytes(data[place + 4 : place + (6 if version == 2 else 8)], "big")
        at = place + (8 if version == 2 else 10)
        name = data[at : at + 4]
        if name == b"Exif" or (name == b"mime" and b"application/rdf+xml" in data[at:stop]):
            yield number, name


def _item_places(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, construction method, offset and length of every item that stands in one piece."""
    reader = _Numbers(data, start, end)
    version = reader.take(1)
    reader.take(3)
    sizes = reader.take(2)
    wide_offset, wide_length, wide_base, wide_index = (sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15)
    for _ in range(min(reader.take(4 if version == 2 else 2), MAX_ITEMS)):
        number = reader.take(4 if version == 2 else 2)
        method = reader.take(2) & 15 if version else 0
        reader.take(2)
        base, pieces = reader.take(wide_base), reader.take(2)
        if pieces != 1:
            reader.take(pieces * ((wide_index if version else 0) + wide_offset + wide_length))
            continue
        reader.take(wide_index if version else 0)
        offset, length = reader.take(wide_offset), reader.take(wide_length)
        if reader.is_over:
            return
        yield number, method, base + offset, length


class _Numbers:
    """Takes big-endian numbers one after another; zeros after the end."""

    def __init__(self, data: bytes, place: int, end: int) -> None:
        self._data, self._place, self._end = data, place, end

    @property
    def is_over(self) -> bool:
        return self._place > self._end

    def take(self, count: int) -> int:
        value = self._data[self._place : min(self._place + count, self._end)]
        self._place += count
        return int.from_bytes(value, "big")
